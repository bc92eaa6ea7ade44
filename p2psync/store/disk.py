"""A blind store on a local disk, the relay's default: packs as files, small objects in SQLite, one fsync per batch.

Owns the order in which files and rows change. Does not know who asks or what objects mean. One process at a time uses
a directory; the caller (the relay, by its lock) sees to that.

Invariants, with a kill at any point between two steps:
1. put: pack files durable in `incoming` → rows committed → files renamed to their place. The commit is the moment
   the whole batch exists. Before it, a restart removes what lies in `incoming`; after it, a restart finishes the
   renames. So a batch is there entirely or not at all.
2. A row that is committed has its bytes: in the database, or in a file that was durable first. A row whose pack file
   is missing or has another size (a disk fault) is forgotten at start, so that a device uploads the pack again.
3. delete and restore are one transaction each and touch no bytes.
4. collect: files removed → rows removed. Between the two, only hidden rows lack bytes; put and restore look first.
5. A pack file without a row (the database was lost, or an older copy was put back) is adopted at start if its bytes
   match its name, else removed: what can be kept is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2psync.crypto.hashing import content_hash
from p2psync.errors import IntegrityError, NotFound, PeerError, StorageError
from p2psync.ids import Ciphertext, FeedId, PackName
from p2psync.limits import PACK_MAX
from p2psync.sealed.keys import ObjectKey, pack_key
from p2psync.seams import Clock, Workers
from p2psync.store.batch import Incoming, check_batch, check_keys, check_position, check_range, pack_name
from p2psync.store.board import Board, Change
from p2psync.store.interface import BlindStore, Flag, Head, Listed, Usage, Watched
from p2psync.store.packs import PackFiles
from p2psync.store.retention import expiry
from p2psync.store.rows import ObjectRows
from p2psync.store.sqlite import Database

_MIGRATIONS = "p2psync.store.sql"
_CLOSE_SECONDS = 10
"""Closing folds the write-ahead log into the database; it is not cut short by a cancellation."""


class DiskStore(BlindStore):
    """Made by `open_disk_store`. `quota` bounds the stored bytes, hidden ones included; None means no bound."""

    def __init__(self, shelves: _Shelves, board: Board, *, workers: Workers, clock: Clock, quota: int | None) -> None:
        self._shelves = shelves
        self._board = board
        self._workers = workers
        self._clock = clock
        self._quota = quota
        self._writer = trio.Lock()

    async def put(self, objects: Sequence[tuple[ObjectKey, Ciphertext]]) -> None:
        batch = await self._workers.run(check_batch, objects)
        async with self._writer:
            change, failure = await self._workers.run(self._shelves.keep, batch, self._quota)
            self._board.post(change)
        if failure is not None:
            raise failure

    async def get(self, key: ObjectKey, offset: int = 0, length: int | None = None) -> Ciphertext:
        return await self._workers.run(self._shelves.read, key, offset, length)

    async def list(self, prefix: str, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        check_position(prefix, after)
        return await self._workers.run(self._shelves.rows.page, prefix, after, limit)

    async def missing(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        return await self._workers.run(self._shelves.rows.missing, check_keys(keys))

    async def heads(self) -> dict[FeedId, Head]:
        await trio.lowlevel.checkpoint()
        return self._board.heads

    async def watch(self, seen: int) -> Watched:
        return await self._board.wait(seen)

    async def delete(self, keys: Iterable[ObjectKey]) -> None:
        wanted = check_keys(keys)
        async with self._writer:
            self._board.post(await self._workers.run(self._shelves.rows.hide, wanted, self._clock.now()))

    async def restore(self, keys: Iterable[ObjectKey]) -> None:
        wanted = check_keys(keys)
        async with self._writer:
            self._board.post(await self._workers.run(self._shelves.restore, wanted))

    async def usage(self) -> Usage:
        (objects, stored), flagged = await self._workers.run(self._shelves.survey)
        return Usage(objects, stored, self._quota, flagged)

    async def collect(self, now: float) -> int:
        """Drop the bytes of what was deleted more than the grace before `now`; return how many objects went."""
        total = 0
        while True:
            async with self._writer:  # taken page by page, so that a long collection lets others write
                gone = await self._workers.run(self._shelves.drop_expired, expiry(now))
            total += gone
            if not gone:
                return total


@asynccontextmanager
async def open_disk_store(
    directory: Path, *, workers: Workers, clock: Clock, quota: int | None = None
) -> AsyncIterator[DiskStore]:
    """Open the store in `directory`, making it if absent, after putting right what a kill left. StorageError."""
    shelves = await workers.run(_open, directory)
    try:
        board = Board(*await workers.run(shelves.posted))
        yield DiskStore(shelves, board, workers=workers, clock=clock, quota=quota)
    finally:
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await workers.run(shelves.rows.close)


class _Shelves:
    """Rows and files together: every method is one hop to a worker and keeps the invariants of this module."""

    def __init__(self, rows: ObjectRows, files: PackFiles) -> None:
        self.rows = rows
        self._files = files

    def keep(self, batch: Sequence[Incoming], quota: int | None) -> tuple[Change, StorageError | None]:
        """Store a checked batch (invariant 1). The error, if any, is one that came after the commit."""
        fresh, hidden = self.rows.split(batch)
        self.rows.check_room(fresh, quota)
        packs = [(item.pack, item.data) for item in fresh if item.pack is not None]
        packs += [(it.pack, it.data) for it in hidden if it.pack is not None and self._files.size(it.pack) != it.size]
        names = [name for name, _ in packs]
        try:
            for name, data in packs:
                self._files.receive(name, data)
            if packs:
                self._files.sync_received()
            change = self.rows.keep(fresh, hidden)
        except BaseException:
            self._files.discard(names)
            raise
        try:
            self._files.place(names)
        except StorageError as failure:
            return change, failure  # held all the same: readers look in `incoming`, the next start moves them
        return change, None

    def read(self, key: ObjectKey, offset: int, length: int | None) -> Ciphertext:
        name = pack_name(key)
        size = self.rows.held_size(key)
        if size is None:
            raise NotFound(f"the store does not hold {key}")
        wanted = check_range(size, offset, length)
        if name is not None:
            return self._files.read(name, offset, wanted)
        data = self.rows.body(key, offset, wanted)
        if data is None:
            raise NotFound(f"the store does not hold {key}")
        return data

    def restore(self, keys: Sequence[ObjectKey]) -> Change:
        for key in keys:
            name = pack_name(key)
            if name is not None and self._files.size(name) is None:
                raise NotFound(f"the bytes of {key} are gone")
        return self.rows.unhide(keys)

    def drop_expired(self, expired: float) -> int:
        """Remove one page of what has expired (invariant 4); 0 when nothing has."""
        keys = self.rows.expired(expired)
        self._files.remove([name for key in keys if (name := pack_name(key)) is not None])
        self.rows.forget(keys)
        return len(keys)

    def survey(self) -> tuple[tuple[int, int], dict[ObjectKey, Flag]]:
        return self.rows.totals(), self.rows.flags()

    def posted(self) -> tuple[int, dict[FeedId, Head]]:
        return self.rows.revision(), self.rows.heads()

    def recover(self) -> None:
        """Bring files and rows together after a kill or a disk fault (invariants 1, 2 and 5)."""
        for name in self._files.waiting():
            # A hidden row may stand beside a file whose batch never committed: the bytes are looked at, not trusted.
            if self.rows.size(pack_key(name)) is not None and self._matches(name):
                self._files.place([name])
            else:
                self._files.discard([name])
        for shelf in (f"{number:02x}" for number in range(256)):
            self._match_shelf(shelf)

    def _match_shelf(self, shelf: str) -> None:
        rows = self.rows.pack_rows(shelf)
        files = self._files.on_shelf(shelf) if shelf in self._files.shelves() else {}
        broken = [key for key, size in rows.items() if files.get(_named(key)) != size]
        if broken:
            self.rows.forget(broken)
            self._files.remove(_named(key) for key in broken)
        for name in files:
            if pack_key(name) not in rows:
                self._adopt(name)

    def _adopt(self, name: PackName) -> None:
        data = self._files.read_all(name, PACK_MAX)
        try:
            batch = check_batch([(pack_key(name), data)])
        except (PeerError, IntegrityError):
            self._files.remove([name])
        else:
            self.rows.keep(batch, [])

    def _matches(self, name: PackName) -> bool:
        return content_hash(self._files.read_received(name, PACK_MAX)) == name


def _named(key: ObjectKey) -> PackName:
    return PackName(bytes.fromhex(key.removeprefix("p/")))


def _open(directory: Path) -> _Shelves:
    files = PackFiles(directory)
    rows = ObjectRows(Database(directory / "objects.db", _MIGRATIONS))
    shelves = _Shelves(rows, files)
    try:
        shelves.recover()
    except BaseException:
        rows.close()
        raise
    return shelves
