"""The blind store: a place that holds sealed objects and can read none of them.

One interface, several carriers (memory, disk, a relay through a session, later buckets and USB directories); one
conformance suite (`tests/unit/test_store_conformance.py`) runs them all. Keys and their checks are in `sealed/`. Only
`Ciphertext` goes in: no code path can hand a store the bytes of a file. Contracts stand with the verbs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from p2psync.ids import Ciphertext, EntryHash, FeedId
from p2psync.sealed.keys import ObjectKey


@dataclass(frozen=True, slots=True)
class Listed:
    key: ObjectKey
    size: int


@dataclass(frozen=True, slots=True)
class Head:
    """The furthest entry a store holds of one feed. With a fork, that of the smallest hash at the highest seq."""

    seq: int
    hash: EntryHash


class Flag(Enum):
    """What a store noticed about an entry it kept all the same: devices judge the chain, a store only reports."""

    SIBLING = "sibling"
    """Another entry with the same feed and seq is held: a fork."""
    GAP = "gap"
    """The entry before it is not held."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Answer of `watch`: `revision` grows with every change; hand it back to wait for the next."""

    revision: int
    heads: dict[FeedId, Head]


@dataclass(frozen=True, slots=True)
class Usage:
    objects: int
    stored_bytes: int
    quota: int | None
    flagged: dict[ObjectKey, Flag] = field(default_factory=dict)
    """The first FLAGS_MAX in key order."""


class BlindStore(ABC):
    """About ten verbs. All may raise LinkLost (remote carriers), StorageError (local ones), AccessRefused.

    A key of none of the three forms is a PeerError in every verb, and so is a LIST request that is not ASCII.
    """

    @abstractmethod
    async def put(self, objects: Sequence[tuple[ObjectKey, Ciphertext]]) -> None:
        """Store objects durably; on return they survive a power cut. All are checked first (`check_object`):

        a wrong form is a PeerError, a wrong hash or signature an IntegrityError, and then none of the batch is kept.
        Putting what is held already succeeds and changes nothing. Siblings and gaps are kept and flagged.
        QuotaExceeded: nothing of the batch is kept.
        """

    @abstractmethod
    async def get(self, key: ObjectKey, offset: int = 0, length: int | None = None) -> Ciphertext:
        """Bytes [offset, offset+length) of an object, to its end when length is None. NotFound when not held; a range
        beyond the end is a PeerError. The bytes are not verified here: the reader does that."""

    @abstractmethod
    async def list(self, prefix: str, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        """Up to `limit` held keys that start with `prefix` and sort after `after`, ascending."""

    @abstractmethod
    async def missing(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Those of `keys` this store does not hold."""

    @abstractmethod
    async def heads(self) -> dict[FeedId, Head]:
        """The head of every feed held."""

    @abstractmethod
    async def watch(self, seen: int) -> Watched:
        """Wait until the revision differs from `seen` (-1 returns at once); level-triggered, never a queue."""

    @abstractmethod
    async def delete(self, keys: Iterable[ObjectKey]) -> None:
        """Hide objects; the bytes go only after a grace of 30 days (soft delete). Unknown keys are ignored."""

    @abstractmethod
    async def restore(self, keys: Iterable[ObjectKey]) -> None:
        """Take back a delete within its grace. NotFound when the bytes are gone."""

    @abstractmethod
    async def usage(self) -> Usage:
        """What is held, and the flags."""
