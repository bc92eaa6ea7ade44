"""What is wanted of the folder as a whole: questions across the table `wanted`, which `versions.py` keeps true."""

from __future__ import annotations

from collections.abc import Iterator

from p2psync.catalog.rows import path_of
from p2psync.index.paths import Path
from p2psync.store.sqlite import Database


class WantedTree:
    def __init__(self, database: Database) -> None:
        self._db = database

    def paths(self) -> Iterator[Path]:
        """Every path something was ever wanted at or is queued for, in batches, so that rows may be written meanwhile."""
        for table in ("wanted", "need"):
            last: tuple[bytes, bytes] = (b"", b"")
            while batch := self._db.query(
                f"SELECT dir, name FROM {table} WHERE (dir, name) > (?, ?) ORDER BY dir, name LIMIT 1000", last
            ):
                last = batch[-1]
                yield from (path_of(directory, name) for directory, name in batch)

    def kept(self) -> list[Path]:
        """What stands on this disk although its deletion is wanted and nobody is to carry that out."""
        return [path_of(directory, name) for directory, name in self._db.query(f"SELECT dir, name {self._KEPT}")]

    def kept_files(self) -> int:
        return int(self._db.scalar(f"SELECT count(*) {self._KEPT} AND placed.kind = 0"))

    _KEPT = (
        "FROM placed JOIN wanted USING (dir, name) WHERE wanted.kind = 3 AND placed.kind <> 3"
        " AND NOT EXISTS (SELECT 1 FROM need WHERE need.dir = placed.dir AND need.name = placed.name)"
    )

    def live_below(self, path: Path) -> bool:
        """Whether a published version is wanted alive anywhere below this path."""
        top = b"/".join(path)
        return bool(
            self._db.scalar(
                "SELECT 1 FROM wanted WHERE kind <> 3 AND source_dir IS NULL AND (dir = ? OR (dir > ? AND dir < ?)) LIMIT 1",
                (top, top + b"/", top + b"0"),
            )
        )
