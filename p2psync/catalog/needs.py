"""The queue of paths where the disk does not hold what is wanted. `versions.py` keeps it true; here it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2psync.catalog.rows import columns, path_of
from p2psync.crypto.hashing import content_hash
from p2psync.index.paths import Path
from p2psync.store.sqlite import Database


@dataclass(frozen=True, slots=True)
class Need:
    id: int
    path: Path
    live: bool
    size: int


class Needs:
    def __init__(self, database: Database) -> None:
        self._db = database

    def at(self, path: Path) -> Need | None:
        """The queued need of one path."""
        row = self._db.query_one("SELECT id, live, size FROM need WHERE dir = ? AND name = ?", columns(path))
        return None if row is None else Need(row[0], path, bool(row[1]), row[2])

    def has(self, path: Path) -> bool:
        """Whether a path is queued; a long name may also be given by the hash its temp is called after."""
        return bool(self.among([path]))

    def among(self, paths: Sequence[Path]) -> set[Path]:
        """Those of many paths for which `has` is true."""
        sql = "SELECT dir, name FROM {asked} CROSS JOIN need ON dir = column1 AND name = column2"
        queued = {path_of(*row) for row in self._db.look_up(sql, [columns(path) for path in paths])}
        return queued | {path for path in paths if len(path[-1]) == 64 and self._is_hash_of_needed(path)}

    def _is_hash_of_needed(self, path: Path) -> bool:
        long = self._db.query("SELECT name FROM need WHERE dir = ? AND length(name) > 64", columns(path)[:1])
        return any(content_hash(held).hex().encode() == path[-1] for (held,) in long)

    def page(self, live: bool, after: int, limit: int = 1000) -> list[Need]:
        """Queued paths with id above `after`, oldest first."""
        return self._page("", live, after, limit)

    def with_source(self, after: int, limit: int = 1000) -> list[Need]:
        """Like `page` of what is alive, without those whose first chunk nothing can give yet."""
        return self._page(
            " AND (prefix IS NULL"
            " OR EXISTS (SELECT 1 FROM location WHERE location.prefix = need.prefix)"
            " OR EXISTS (SELECT 1 FROM inline_chunk WHERE inline_chunk.chunk = need.chunk)"
            " OR EXISTS (SELECT 1 FROM file_chunk WHERE file_chunk.prefix = need.prefix)"
            " OR EXISTS (SELECT 1 FROM list_chunk WHERE list_chunk.chunk = need.chunk))",
            True, after, limit,
        )  # fmt: skip

    def _page(self, condition: str, live: bool, after: int, limit: int) -> list[Need]:
        rows = self._db.query(
            f"SELECT id, dir, name, live, size FROM need WHERE live = ? AND id > ?{condition} ORDER BY id LIMIT ?",
            (live, after, limit),
        )
        return [Need(row[0], path_of(row[1], row[2]), bool(row[3]), row[4]) for row in rows]
