"""The list of chunks that some frontier needs, while somebody decides what may be left out: a table for that time alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2psync.catalog.rows import prefix
from p2psync.ids import ChunkId, FeedId
from p2psync.store.sqlite import Database


class NeededChunks:
    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, chunks: Iterable[ChunkId]) -> None:
        """List these chunks until `end`, or until the transaction fails."""
        self._db.execute(
            "CREATE TEMP TABLE needed_chunk (prefix INTEGER, chunk BLOB, PRIMARY KEY (prefix, chunk)) WITHOUT ROWID"
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO needed_chunk (prefix, chunk) VALUES (?, ?)", ((prefix(c), c) for c in chunks)
        )

    def end(self) -> None:
        """Nothing is listed any more: with a large folder the list is large."""
        self._db.execute("DROP TABLE needed_chunk")

    def of(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of these that are listed."""
        sql = "SELECT chunk FROM {asked} CROSS JOIN needed_chunk ON prefix = column1 AND chunk = column2"
        return {ChunkId(chunk) for (chunk,) in self._db.look_up(sql, [(prefix(chunk), chunk) for chunk in chunks])}

    def only_in_entries(self, feed: FeedId, before: int) -> bool:
        """Whether an entry of a feed before this one carries a listed chunk that is nowhere else yet."""
        sql = (
            "SELECT 1 FROM inline_chunk i JOIN needed_chunk n ON n.chunk = i.chunk WHERE feed = ? AND seq < ? AND NOT EXISTS"
            " (SELECT 1 FROM location l JOIN pack ON pack.id = l.pack WHERE l.prefix = n.prefix AND stale = 0 AND state <> 1)"
            " LIMIT 1"
        )
        return self._db.scalar(sql, (feed, before)) is not None

    def forget_packs(self, feed: FeedId, before: int) -> int:
        """Forget packs of which only entries of a feed before this one told and that hold nothing listed; returns how many."""
        gone = self._db.query(
            "SELECT id FROM pack WHERE feed = ? AND seq < ? AND stale = 1 AND NOT EXISTS (SELECT 1 FROM location l"
            " JOIN needed_chunk n ON n.prefix = l.prefix WHERE l.pack = pack.id)",
            (feed, before),
        )
        self._db.executemany("DELETE FROM location WHERE pack = ?", gone)
        self._db.executemany("DELETE FROM pack WHERE id = ?", gone)
        return len(gone)
