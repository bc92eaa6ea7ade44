"""A blind store in memory: for simulations, tests, and as the plainest statement of what a store does.

Owns its objects for the life of the process. Does not know disks, threads or links; checks run inline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import trio

from p2psync.errors import NotFound, QuotaExceeded
from p2psync.ids import Ciphertext, EntryHash, FeedId
from p2psync.limits import FLAGS_MAX
from p2psync.sealed.keys import ObjectKey, parse_key
from p2psync.seams import Clock
from p2psync.store.batch import Incoming, check_batch, check_keys, check_position, check_range
from p2psync.store.board import Board, Change
from p2psync.store.interface import BlindStore, Flag, Head, Listed, Usage, Watched
from p2psync.store.retention import expiry, is_expired


@dataclass(slots=True)
class _Held:
    """`deleted_at` is None for what is held, else when it was hidden."""

    object: Incoming
    deleted_at: float | None = None


class MemoryStore(BlindStore):
    """`quota` bounds the stored bytes, hidden ones included; None means no bound."""

    def __init__(self, *, clock: Clock, quota: int | None = None) -> None:
        self._clock = clock
        self._quota = quota
        self._objects: dict[ObjectKey, _Held] = {}
        self._revision = 0
        self._board = Board(0, {})

    async def put(self, objects: Sequence[tuple[ObjectKey, Ciphertext]]) -> None:
        await trio.lowlevel.checkpoint()
        batch = check_batch(objects)
        fresh = [item for item in batch if item.key not in self._objects]
        hidden = [item.key for item in batch if self._is_hidden(item.key)]
        stored, added = self._stored_bytes(), sum(item.size for item in fresh)
        if self._quota is not None and added and stored + added > self._quota:
            raise QuotaExceeded(f"the store is full: {stored} of {self._quota} bytes are used")
        for item in fresh:
            self._objects[item.key] = _Held(item)
        for key in hidden:
            self._objects[key].deleted_at = None
        self._changed([item.key for item in fresh] + hidden)

    async def get(self, key: ObjectKey, offset: int = 0, length: int | None = None) -> Ciphertext:
        await trio.lowlevel.checkpoint()
        parse_key(key)
        held = self._held(key)
        if held is None:
            raise NotFound(f"the store does not hold {key}")
        wanted = check_range(held.size, offset, length)
        return Ciphertext(bytes(held.data[offset : offset + wanted]))

    async def list(self, prefix: str, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        await trio.lowlevel.checkpoint()
        check_position(prefix, after)
        keys = sorted(key for key in self._objects if key.startswith(prefix) and key > after and self._held(key))
        return [Listed(key, self._objects[key].object.size) for key in keys[: max(limit, 0)]]

    async def missing(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        await trio.lowlevel.checkpoint()
        return {key for key in check_keys(keys) if self._held(key) is None}

    async def heads(self) -> dict[FeedId, Head]:
        await trio.lowlevel.checkpoint()
        return self._board.heads

    async def watch(self, seen: int) -> Watched:
        return await self._board.wait(seen)

    async def delete(self, keys: Iterable[ObjectKey]) -> None:
        await trio.lowlevel.checkpoint()
        touched = [key for key in check_keys(keys) if self._held(key)]
        for key in touched:
            self._objects[key].deleted_at = self._clock.now()
        self._changed(touched)

    async def restore(self, keys: Iterable[ObjectKey]) -> None:
        await trio.lowlevel.checkpoint()
        wanted = check_keys(keys)
        for key in wanted:
            if key not in self._objects:
                raise NotFound(f"the bytes of {key} are gone")
        touched = [key for key in wanted if self._is_hidden(key)]
        for key in touched:
            self._objects[key].deleted_at = None
        self._changed(touched)

    async def usage(self) -> Usage:
        await trio.lowlevel.checkpoint()
        held = [held.object for held in self._objects.values() if held.deleted_at is None]
        return Usage(len(held), self._stored_bytes(), self._quota, _flags(held))

    async def collect(self, now: float) -> int:
        """Drop the bytes of what was deleted more than the grace before `now`; return how many objects went."""
        await trio.lowlevel.checkpoint()
        gone = [key for key, held in self._objects.items() if is_expired(held.deleted_at, expiry(now))]
        for key in gone:
            del self._objects[key]
        return len(gone)

    def _held(self, key: ObjectKey) -> Incoming | None:
        held = self._objects.get(key)
        return held.object if held is not None and held.deleted_at is None else None

    def _is_hidden(self, key: ObjectKey) -> bool:
        held = self._objects.get(key)
        return held is not None and held.deleted_at is not None

    def _stored_bytes(self) -> int:
        return sum(held.object.size for held in self._objects.values())

    def _changed(self, keys: Sequence[ObjectKey]) -> None:
        if not keys:
            return
        self._revision += 1
        feeds = {feed for key in keys if (feed := self._objects[key].object.feed) is not None}
        self._board.post(Change(revision=self._revision, heads={feed: self._head(feed) for feed in feeds}))

    def _head(self, feed: FeedId) -> Head | None:
        entries = [held.object for held in self._objects.values() if held.deleted_at is None]
        places = [(-item.seq, item.hash) for item in entries if item.feed == feed and item.seq and item.hash]
        if not places:
            return None
        seq, entry_hash = min(places)
        return Head(-seq, entry_hash)


def _flags(held: list[Incoming]) -> dict[ObjectKey, Flag]:
    """Siblings and gaps among the entries held; a sibling that also leaves a gap is flagged as a sibling."""
    branches: dict[tuple[FeedId, int], set[EntryHash]] = {}
    for item in held:
        if item.feed is not None and item.seq is not None and item.hash is not None:
            branches.setdefault((item.feed, item.seq), set()).add(item.hash)
    flags = {}
    for item in held:
        if item.feed is None or item.seq is None:
            continue
        if len(branches[item.feed, item.seq]) > 1:
            flags[item.key] = Flag.SIBLING
        elif item.seq > 1 and item.previous not in branches.get((item.feed, item.seq - 1), set()):
            flags[item.key] = Flag.GAP
    return {key: flags[key] for key in sorted(flags)[:FLAGS_MAX]}
