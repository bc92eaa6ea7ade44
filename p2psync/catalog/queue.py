"""The queue of needs as it is written: which paths stand in it, in what order. It is read in `needs.py`.

A number is never given twice, and what is taken in gets one above all that were given before. So whoever has gone through
the queue up to some number has gone through nothing that came since: deletions rely on it, which must not run before
what is alive of the same rename. What belongs in the queue `versions.py` decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.catalog.rows import prefix
from p2psync.ids import ChunkId, FeedId
from p2psync.store.sqlite import Database

_SET = (
    "INSERT INTO need (id, dir, name, live, size, chunk, prefix, takes) VALUES {rows}"
    " ON CONFLICT (dir, name) DO UPDATE SET live = excluded.live, size = excluded.size,"
    " chunk = excluded.chunk, prefix = excluded.prefix, takes = excluded.takes"
)
_SET_ANEW = f"{_SET}, id = excluded.id"
_DROP = "DELETE FROM need WHERE dir = ? AND name = ?"


def need_row(
    place: tuple[bytes, bytes], live: bool, size: int, chunk: ChunkId | None, takes: FeedId | None
) -> tuple[object, ...]:
    """What stands in the queue for a path, without its number. `chunk` is the first of its content, `takes` the feed whose
    version would take content away that stands here."""
    return (*place, live, size, chunk, None if chunk is None else prefix(chunk), takes)


class Queue:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._last = 0
        """The highest number given by this process: SQLite gives that of a row that is gone once more."""

    def set(self, rows: Sequence[tuple[object, ...]], *, anew: bool) -> None:
        """Queue paths (all columns but the number), each once. With `anew` those queued already go to the end."""
        if not rows:
            return
        with self._db.reading():  # whoever else gives numbers waits
            last = max(self._last, int(self._db.scalar("SELECT coalesce(max(id), 0) FROM need")))
            self._last = last + len(rows)
            self._db.insert(_SET_ANEW if anew else _SET, [(last + at, *row) for at, row in enumerate(rows, 1)])

    def drop(self, places: Sequence[tuple[bytes, bytes]]) -> None:
        """Take paths, given by their columns, off the queue, if they are in it."""
        if places and self._db.scalar("SELECT 1 FROM need LIMIT 1") is not None:
            self._db.executemany(_DROP, places)
