"""What the catalog says of many paths, read and written at once, for whoever goes through them in one transaction.

A path may be asked once from what was read; when it comes again it is read again, since what was done for it meanwhile
counts. Where derived conflict copies stand nothing is read ahead: a change of one path moves what is wanted at another.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.catalog.rows import Placed
from p2psync.catalog.versions import Wanted
from p2psync.index.paths import Path
from p2psync.replica.context import Context


class Standing:
    """Make it inside the transaction in which it is asked."""

    def __init__(self, context: Context, paths: Sequence[Path]) -> None:
        self._catalog = context.catalog
        ahead = [] if self._catalog.versions.has_copies() else list(dict.fromkeys(paths))
        self._placed_ahead, self._wanted_ahead = set(ahead), set(ahead)
        self._placed = self._catalog.placed.get_all(ahead)
        self._wanted = self._catalog.versions.wanted_all(ahead)

    def wanted_ahead(self) -> list[Path]:
        """The paths read ahead where something is wanted."""
        return list(self._wanted)

    def forget(self, path: Path) -> None:
        """Something was done at a path that was not asked for: read it when it is."""
        self._placed_ahead.discard(path)
        self._wanted_ahead.discard(path)

    def placed(self, path: Path) -> Placed | None:
        if path not in self._placed_ahead:
            return self._catalog.placed.get(path)
        self._placed_ahead.discard(path)
        return self._placed.pop(path, None)

    def wanted(self, path: Path) -> Wanted | None:
        if path not in self._wanted_ahead:
            return self._catalog.versions.wanted(path)
        self._wanted_ahead.discard(path)
        return self._wanted.pop(path, None)


class Booked:
    """What plans brought to the disk, to be written down many at once, in the transaction it is used in."""

    def __init__(self, context: Context) -> None:
        self._catalog = context.catalog
        self._new: list[tuple[Placed, bytes | None]] = []
        self._changed: list[tuple[Placed, bytes | None]] = []
        self._needs: list[tuple[Path, Wanted | None, Placed | None]] = []

    def add(self, row: Placed, rows: bytes | None, wanted: Wanted | None, *, new: bool) -> None:
        """`rows` is a file's full chunk list; `new`: the path has no row yet. Each path once between two writes."""
        (self._new if new else self._changed).append((row, rows))
        self._needs.append((row.path, wanted, row))

    def write(self) -> None:
        if self._needs:
            self._catalog.placed.put_all(self._changed)
            self._catalog.placed.put_new(self._new)
            self._catalog.versions.note_needs(self._needs)
            self._new, self._changed, self._needs = [], [], []
