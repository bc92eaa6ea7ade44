"""Local changes: where this disk differs from the folder on purpose, because what is changed here is not published.

Only folders that publish nothing have rows here. A path with a row asks nothing of this disk until it is reverted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from p2psync.catalog.rows import NOTHING, Fingerprint, columns, path_of
from p2psync.index.paths import Path, join
from p2psync.store.sqlite import Database

_COLUMNS = "dir, name, change, dev, inode, size, mtime_ns, ctime_ns"


class Change(Enum):
    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class LocalChange:
    """`seen` is what stood there when the change was noted: NOTHING for a deletion."""

    path: Path
    change: Change
    seen: Fingerprint = NOTHING


class LocalChanges:
    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, noted: LocalChange) -> None:
        seen = noted.seen
        inode = seen.inode - (1 << 64) if seen.inode >= 1 << 63 else seen.inode
        self._db.execute(
            f"INSERT OR REPLACE INTO local_change ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*columns(noted.path), noted.change.value, seen.dev, inode, seen.size, seen.mtime_ns, seen.ctime_ns),
        )

    def get(self, path: Path) -> LocalChange | None:
        row = self._db.query_one(f"SELECT {_COLUMNS} FROM local_change WHERE dir = ? AND name = ?", columns(path))
        return None if row is None else _read(row)

    def in_directory(self, path: Path) -> dict[bytes, LocalChange]:
        rows = self._db.query(f"SELECT {_COLUMNS} FROM local_change WHERE dir = ?", (join(path),))
        return {noted.path[-1]: noted for noted in map(_read, rows)}

    def all(self) -> list[LocalChange]:
        return [_read(row) for row in self._db.query(f"SELECT {_COLUMNS} FROM local_change ORDER BY dir, name")]

    def forget(self, path: Path) -> None:
        self._db.execute("DELETE FROM local_change WHERE dir = ? AND name = ?", columns(path))

    def clear(self) -> None:
        self._db.execute("DELETE FROM local_change")

    def count(self) -> int:
        return int(self._db.scalar("SELECT count(*) FROM local_change"))


def _read(row: tuple[object, ...]) -> LocalChange:
    directory, name, change, dev, inode, size, mtime, ctime = row
    number = inode + (1 << 64) if inode < 0 else inode  # type: ignore[operator]
    seen = Fingerprint(dev, number, size, mtime, ctime)  # type: ignore[arg-type]
    return LocalChange(path_of(directory, name), Change(change), seen)  # type: ignore[arg-type]
