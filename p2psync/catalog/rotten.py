"""Rotten files: those that a scrub found to hold other bytes than the version they are placed as, under an unchanged stamp.

What is wrong with them is no edit, so whoever looks at the tree leaves them alone until they look otherwise. Device,
inode, size and modification time are kept; the change time is not, since a change of permissions is no edit either.
"""

from __future__ import annotations

from p2psync.catalog.rows import Fingerprint, columns, signed, unsigned
from p2psync.index.paths import Path
from p2psync.store.sqlite import Database


class RottenFiles:
    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, path: Path, seen: Fingerprint) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO rotten (dir, name, dev, inode, size, mtime_ns) VALUES (?, ?, ?, ?, ?, ?)",
            (*columns(path), seen.dev, signed(seen.inode), seen.size, seen.mtime_ns),
        )

    def seen(self, path: Path) -> Fingerprint | None:
        """The stamp of a rotten file when it was found, with a change time of 0; None: it is not known to be rotten."""
        row = self._db.query_one(
            "SELECT dev, inode, size, mtime_ns FROM rotten WHERE dir = ? AND name = ?", columns(path)
        )
        return None if row is None else Fingerprint(row[0], unsigned(row[1]), row[2], row[3], 0)

    def forget(self, path: Path) -> None:
        self._db.execute("DELETE FROM rotten WHERE dir = ? AND name = ?", columns(path))
