"""Inodes that new files share with what was placed: perhaps the other side of a rename, so that nothing is read again.

It only finds them, with few statements for many files; whether it is a rename is the scanner's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from p2psync.catalog.rows import Fingerprint, Placed
from p2psync.index.paths import Path
from p2psync.replica.context import Context


class SameInodes:
    """What was placed under another name with the inode of a new file: perhaps the other side of a rename."""

    def __init__(self, context: Context, inodes: Collection[int]) -> None:
        self._filesystem = context.filesystem
        self._placed = context.catalog.placed.by_inodes(list(inodes))
        self.taken: set[Path] = set()
        """Names that one of the new files has been renamed from: hard links have one inode for several."""
        self._stats = self._filesystem.stats([old.path for held in self._placed.values() for old in held])

    def knows(self, inode: int) -> bool:
        return inode in self._placed

    def gone(self, seen: Fingerprint) -> Iterable[Placed]:
        """Rows of this very file under names where nothing stands now."""
        for old in self._placed.get(seen.inode, ()):
            if old.fingerprint.same_file(seen) and old.path not in self.taken:
                there = self._stats[old.path] if old.path in self._stats else self._filesystem.stat(old.path)
                if there is None:
                    yield old
