"""A batch on its way into a store: every object checked as anyone can check it, before anything is kept.

Owns what the local stores have in common about what comes in: the check, the fields they index, the form of a LIST
request and of a range. Does not know where objects are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2psync.errors import PeerError
from p2psync.ids import Ciphertext, EntryHash, FeedId, PackName
from p2psync.sealed.entry import Entry
from p2psync.sealed.keys import ObjectKey, PackKey, parse_key
from p2psync.sealed.objects import check_object


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One checked object. `pack` is set for packs only, the feed's fields for entries only."""

    key: ObjectKey
    data: Ciphertext
    pack: PackName | None = None
    feed: FeedId | None = None
    seq: int | None = None
    hash: EntryHash | None = None
    previous: EntryHash | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def kind(self) -> str:
        return self.key[0]


def check_batch(objects: Sequence[tuple[ObjectKey, Ciphertext]]) -> list[Incoming]:
    """Check all objects; each key once, the first of equal keys. PeerError or IntegrityError for the first bad one.

    Costs a hash of every pack and a signature check of every entry and envelope: call it in a worker.
    """
    checked: dict[ObjectKey, Incoming] = {}
    for key, data in objects:
        found = _check_one(key, data)
        checked.setdefault(key, found)
    return list(checked.values())


def _check_one(key: ObjectKey, data: Ciphertext) -> Incoming:
    found = check_object(key, data)
    if isinstance(found, Entry):
        return Incoming(
            key=key, data=data, feed=found.feed, seq=found.seq, hash=found.hash, previous=found.previous
        )  # fmt: skip
    return Incoming(key=key, data=data, pack=pack_name(key))


def pack_name(key: str) -> PackName | None:
    """The pack a key names, None for a key of another kind; PeerError when it is no key at all."""
    parsed = parse_key(key)
    return parsed.name if isinstance(parsed, PackKey) else None


def check_keys(keys: Iterable[ObjectKey]) -> list[ObjectKey]:
    """The keys, each once, in the order given; PeerError when one is no key at all."""
    unique = list(dict.fromkeys(keys))
    for key in unique:
        parse_key(key)
    return unique


def check_position(prefix: str, after: str) -> None:
    """PeerError unless a LIST request uses characters that keys have: stores then agree on the order."""
    if not prefix.isascii() or not after.isascii():
        raise PeerError("a list request holds characters that no key has")


def check_range(size: int, offset: int, length: int | None) -> int:
    """The number of bytes a range means; PeerError when it does not lie within an object of `size` bytes."""
    wanted = size - offset if length is None else length
    if offset < 0 or wanted < 0 or offset + wanted > size:
        raise PeerError(f"range {offset}+{wanted} lies outside an object of {size} bytes")
    return wanted
