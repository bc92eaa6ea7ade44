"""Where chunks can come from: packs and their tables, entries that carry chunks, and the queue of uploads.

A location is *claimed* until this device sealed it or opened that frame. A pack sealed here is written down before it is
sent (state 1), so that after a restart a store can be asked whether it arrived. Source: formats, "Chunk, pack, stream".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2psync.catalog.rows import path_of, prefix
from p2psync.ids import ChunkId, EpochId, FeedId, PackName
from p2psync.index.paths import Path
from p2psync.index.records import PackLocations
from p2psync.store.sqlite import Database
from p2psync.vault.pack import locate

CLAIMED, SEALED, STORED = 0, 1, 2

Inline = tuple[FeedId, int, int]
"""Feed, entry and place in it of a chunk that travels in an entry."""

_KNOWN = (
    "EXISTS (SELECT 1 FROM location JOIN pack ON pack.id = pack WHERE prefix = column2 AND stale = 0)"
    " OR EXISTS (SELECT 1 FROM inline_chunk WHERE chunk = column1 AND stale = 0)"
    " OR EXISTS (SELECT 1 FROM upload WHERE chunk = column1)"
)


@dataclass(frozen=True, slots=True)
class Pack:
    id: int
    name: PackName
    epoch: EpochId
    salt: bytes
    size: int
    generation: int


@dataclass(frozen=True, slots=True)
class Location:
    """One frame that should hold a chunk."""

    pack: int
    index: int
    position: int
    sealed_size: int
    plain_size: int


class Locations:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add_pack(self, pack: PackLocations, state: int) -> None:
        """Take a pack's table in; a pack known already only moves up in state. `tell` says who tells of it."""
        known = self._db.scalar("SELECT id FROM pack WHERE name = ?", (pack.name,))
        if known is not None:
            self._db.execute("UPDATE pack SET state = max(state, ?) WHERE id = ?", (state, known))
            return
        self._db.execute(
            "INSERT INTO pack (name, epoch, salt, size, generation, state) VALUES (?, ?, ?, ?, ?, ?)",
            (pack.name, pack.epoch, pack.salt, pack.size, pack.generation, state),
        )
        number = self._db.scalar("SELECT id FROM pack WHERE name = ?", (pack.name,))
        verified = state != CLAIMED
        self._db.executemany(
            "INSERT OR IGNORE INTO location (prefix, pack, idx, position, sealed_size, plain_size, verified)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (prefix(f.chunk), number, f.index, f.offset, f.sealed_size, f.plain_size, verified)
                for f in locate(pack.table)
            ],
        )

    def tell(self, pack: PackName, feed: FeedId, seq: int, *, restated: bool = False) -> None:
        """An entry says what lies in a pack. As with inline chunks, the first counts unless a snapshot left it out, or the
        pack is `restated` by that feed."""
        self._db.execute(
            "UPDATE pack SET feed = ?2, seq = ?3, stale = 0 WHERE name = ?1"
            " AND (feed IS NULL OR stale = 1 OR (?4 AND feed = ?2 AND seq < ?3))",
            (pack, feed, seq, restated),
        )

    def packs(self, state: int) -> list[Pack]:
        rows = self._db.query(
            "SELECT id, name, epoch, salt, size, generation FROM pack WHERE state = ? ORDER BY id", (state,)
        )
        return [Pack(*row) for row in rows]

    def pack(self, number: int) -> Pack | None:
        """A pack that `find` told of; None when it was forgotten meanwhile."""
        row = self._db.query_one("SELECT id, name, epoch, salt, size, generation FROM pack WHERE id = ?", (number,))
        return None if row is None else Pack(*row)

    def find(self, chunk: ChunkId) -> list[Location]:
        """Frames in stored or announced packs that should hold the chunk: those that still count first, then verified ones."""
        rows = self._db.query(
            "SELECT pack, idx, position, sealed_size, location.plain_size FROM location JOIN pack ON pack.id = pack"
            " WHERE prefix = ? AND state <> 1 ORDER BY stale, verified DESC, pack LIMIT 4",
            (prefix(chunk),),
        )
        return [Location(*row) for row in rows]

    def mark_verified(self, frames: Iterable[tuple[ChunkId, int, int]]) -> None:
        """(chunk, pack, index) of frames this device has opened."""
        self._db.executemany(
            "UPDATE location SET verified = 1 WHERE prefix = ? AND pack = ? AND idx = ? AND verified = 0",
            [(prefix(chunk), pack, index) for chunk, pack, index in frames],
        )

    def known(self, chunk: ChunkId) -> bool:
        """Whether some pack, entry or queued upload covers the chunk already, that no snapshot has left out."""
        return bool(self.all_known([chunk]))

    def all_known(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of many chunks that are `known`."""
        rows = self._db.look_up(
            f"SELECT column1 FROM {{asked}} WHERE {_KNOWN}", [(chunk, prefix(chunk)) for chunk in chunks]
        )
        return {ChunkId(chunk) for (chunk,) in rows}

    def all_left_out(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of many chunks that were known, until snapshots left out whatever told of them."""
        rows = self._db.look_up(
            f"SELECT column1 FROM {{asked}} WHERE NOT ({_KNOWN}) AND (EXISTS (SELECT 1 FROM location WHERE prefix = column2)"
            " OR EXISTS (SELECT 1 FROM inline_chunk WHERE chunk = column1))",
            [(chunk, prefix(chunk)) for chunk in chunks],
        )
        return {ChunkId(chunk) for (chunk,) in rows}

    def all_local(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of many chunks that an entry or a placed file on this device should hold."""
        rows = self._db.look_up(
            "SELECT column1 FROM {asked} WHERE EXISTS (SELECT 1 FROM inline_chunk WHERE chunk = column1)"
            " OR EXISTS (SELECT 1 FROM file_chunk WHERE prefix = column2)",
            [(chunk, prefix(chunk)) for chunk in chunks],
        )
        return {ChunkId(chunk) for (chunk,) in rows}

    # What snapshots left out.

    def leave_out(self, feed: FeedId, before: int) -> None:
        """Nothing new may rely on what entries of a feed before this one tell: who reads from there on does not learn it."""
        for table in ("inline_chunk", "pack"):
            self._db.execute(f"UPDATE {table} SET stale = 1 WHERE feed = ? AND seq < ? AND stale = 0", (feed, before))

    def stale_chunks(self, after: ChunkId, limit: int) -> list[ChunkId]:
        """Chunks behind `after`, by id, that only entries carry which a snapshot replaced."""
        rows = self._db.query(
            "SELECT chunk FROM inline_chunk WHERE stale = 1 AND chunk > ? ORDER BY chunk LIMIT ?", (after, limit)
        )
        return [ChunkId(chunk) for (chunk,) in rows]

    def stale_packs(self, after: int, limit: int) -> list[int]:
        """Ids behind `after` of packs that only such entries tell of."""
        rows = self._db.query("SELECT id FROM pack WHERE stale = 1 AND id > ? ORDER BY id LIMIT ?", (after, limit))
        return [number for (number,) in rows]

    def files_of(self, packs: Sequence[int]) -> list[Path]:
        """Placed files that should hold a chunk of one of these packs."""
        rows = self._db.look_up(
            "SELECT DISTINCT placed.dir, placed.name FROM {asked} CROSS JOIN location ON location.pack = column1"
            " CROSS JOIN file_chunk ON file_chunk.prefix = location.prefix JOIN placed ON placed.id = file_chunk.placed",
            [(number,) for number in packs],
        )
        return sorted({path_of(directory, name) for directory, name in rows})

    # Chunks inside entries, and chunks of chunk lists.

    def add_inline(self, chunk: ChunkId, feed: FeedId, seq: int, index: int, *, restated: bool = False) -> None:
        """An entry carries the chunk. Of several the first counts, unless a snapshot left that one out, or the chunk is
        `restated` by its feed: then it is found in the snapshot."""
        self._db.execute(
            "INSERT INTO inline_chunk (chunk, feed, seq, idx) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (chunk) DO UPDATE"
            " SET feed = ?2, seq = ?3, idx = ?4, stale = 0 WHERE stale = 1 OR (?5 AND feed = ?2 AND seq < ?3)",
            (chunk, feed, seq, index, restated),
        )

    def find_inline(self, chunk: ChunkId) -> Inline | None:
        """An entry that carries the chunk, and where in it."""
        return self.find_all_inline([chunk]).get(chunk)

    def find_all_inline(self, chunks: Sequence[ChunkId]) -> dict[ChunkId, Inline]:
        """`find_inline` for many chunks, of those that an entry carries."""
        rows = self._db.look_up(
            "SELECT chunk, feed, seq, idx FROM {asked} CROSS JOIN inline_chunk ON chunk = column1",
            [(chunk,) for chunk in chunks],
        )
        return {ChunkId(chunk): (FeedId(feed), seq, index) for chunk, feed, seq, index in rows}

    def add_list_chunk(self, chunk: ChunkId, data: bytes) -> None:
        self._db.execute("INSERT OR IGNORE INTO list_chunk (chunk, data) VALUES (?, ?)", (chunk, data))

    def list_chunk(self, chunk: ChunkId) -> bytes | None:
        found: bytes | None = self._db.scalar("SELECT data FROM list_chunk WHERE chunk = ?", (chunk,))
        return found

    # The upload queue. `pack` is set while a chunk travels in a pack that is not confirmed yet.

    def queue_upload(self, chunks: Iterable[tuple[ChunkId, int]]) -> None:
        self._db.insert("INSERT OR IGNORE INTO upload (chunk, size) VALUES {rows}", list(chunks))

    def uploads(self, after: int, limit: int = 1000) -> list[tuple[int, ChunkId, int]]:
        """(id, chunk, size) of queued chunks that are in no pack yet."""
        rows = self._db.query(
            "SELECT id, chunk, size FROM upload WHERE pack IS NULL AND id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return [(number, ChunkId(chunk), size) for number, chunk, size in rows]

    def is_queued(self, chunk: ChunkId) -> bool:
        """Whether the chunk waits to go to a store, or is on its way there."""
        return bool(self._db.scalar("SELECT 1 FROM upload WHERE chunk = ?", (chunk,)))

    def upload_bytes(self) -> int:
        return int(self._db.scalar("SELECT coalesce(sum(size), 0) FROM upload"))

    def drop_uploads(self, numbers: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM upload WHERE id = ?", [(number,) for number in numbers])

    def seal(self, pack: PackLocations, numbers: Iterable[int]) -> None:
        """Write down a pack about to be sent, and which queued chunks travel in it."""
        self.add_pack(pack, SEALED)
        number = self._db.scalar("SELECT id FROM pack WHERE name = ?", (pack.name,))
        self._db.executemany("UPDATE upload SET pack = ? WHERE id = ?", [(number, upload) for upload in numbers])
        self._db.execute("UPDATE pack SET chunks = ? WHERE id = ?", (pack.table, number))

    def confirm(self, name: PackName) -> PackLocations | None:
        """A store holds the pack: its chunks leave the queue. Returns what its record must say, once."""
        row = self._db.query_one(
            "SELECT id, epoch, salt, size, generation, chunks FROM pack WHERE name = ? AND state = 1", (name,)
        )
        if row is None:
            return None
        number, epoch, salt, size, generation, table = row
        self._db.execute("UPDATE pack SET state = 2, chunks = NULL WHERE id = ?", (number,))
        self._db.execute("DELETE FROM upload WHERE pack = ?", (number,))
        return PackLocations(name, EpochId(epoch), salt, size, generation, table)

    def abandon(self, name: PackName) -> None:
        """The pack never arrived: its chunks go back to the queue."""
        number = self._db.scalar("SELECT id FROM pack WHERE name = ? AND state = 1", (name,))
        if number is not None:
            self._db.execute("DELETE FROM location WHERE pack = ?", (number,))
            self._db.execute("UPDATE upload SET pack = NULL WHERE pack = ?", (number,))
            self._db.execute("DELETE FROM pack WHERE id = ?", (number,))
