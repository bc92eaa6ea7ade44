"""Missing: what was placed and is gone becomes tombstones, deepest first and in pages.

What the scanner missed is kept as the directories it was in, which are looked at once more: memory does not grow with how
much is gone. Absence means nothing below a directory that is flagged or cannot be looked at. Synchronous; when this may
happen (not while the other half of a rename may still come) is `watching.py`'s. Source: formats, "On disk".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from p2psync.catalog.rows import Placed
from p2psync.errors import P2psyncError
from p2psync.index.paths import Path
from p2psync.index.versions import Kind
from p2psync.replica.changes import LocalChange, Unit
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Kind as DiskKind
from p2psync.replica.scanner import look
from p2psync.replica.watcher import Changes

_PAGE = 5000
"""Tombstones published at once: far more than what makes other devices' brakes ask, so that they see at once that it is much."""


def pages(context: Context, where: Changes) -> Iterator[list[Placed]]:
    """What is missing in these directories, with everything below it. Nothing comes twice once it was published."""
    page: list[Placed] = []
    for directory in sorted(where.directories, key=len, reverse=True):
        names, missing = where.names.get(directory), look(context, [directory], where.names).missing
        _look_into_those_back(context, directory, (names or set()) - {gone.path[-1] for gone in missing})
        for gone in missing:
            if names is not None and gone.path[-1] not in names:
                continue  # it went missing since, and may be found under another name
            for row in _with_all_below(context, gone):
                page.append(row)
                if len(page) == _PAGE:
                    yield page
                    page = []
    if page:
        yield page


def _look_into_those_back(context: Context, directory: Path, names: Set[bytes]) -> None:
    """A directory that stands again, made for something new in it, may still lack what went with it."""
    held = context.catalog.placed.get_all([(*directory, name) for name in names])
    context.dirty |= {path for path, row in held.items() if row.kind is Kind.DIRECTORY}


def _with_all_below(context: Context, gone: Placed) -> Iterator[Placed]:
    """A directory that is gone takes everything placed below it along, whatever is deeper first."""
    if gone.kind is Kind.DIRECTORY:
        before: Path | None = None
        while rows := context.catalog.placed.below(gone.path, before=before):
            before = rows[-1].path
            yield from rows
    yield gone


def moved_away(context: Context, missing: Sequence[Placed]) -> list[Unit]:
    """Tombstones of those missing directories that a walk found under another name, with all that was in them.

    Their other half is known, so they need not settle. Nothing but directories found likewise may be left below the old
    name: a file that is still to be found moves first.
    """
    gone = [row for row in missing if row.kind is Kind.DIRECTORY]
    found = _found_elsewhere(context, gone)
    rows: list[Placed] = []
    for directory in sorted((row for row in gone if row.path in found), key=lambda row: len(row.path), reverse=True):
        rows += _moved_with_all_below(context, directory)
    return deletions(context, rows)


def _found_elsewhere(context: Context, gone: Sequence[Placed]) -> set[Path]:
    """Those of these directories that stand elsewhere now, as the catalog and the disk both say."""
    held = context.catalog.placed.by_inodes([row.fingerprint.inode for row in gone], Kind.DIRECTORY)
    stats = context.filesystem.stats([other.path for others in held.values() for other in others])

    def stands(row: Placed) -> bool:
        seen = row.fingerprint
        there = (stats.get(other.path) for other in held.get(seen.inode, ()) if other.path != row.path)
        return any(
            stat is not None and stat.kind is DiskKind.DIRECTORY and (stat.dev, stat.inode) == (seen.dev, seen.inode)
            for stat in there
        )

    return {row.path for row in gone if stands(row)}


def _moved_with_all_below(context: Context, directory: Placed) -> list[Placed]:
    """A directory and those below it, deepest first; empty when anything else is left there."""
    rows: list[Placed] = []
    for row in _with_all_below(context, directory):
        if row.kind is not Kind.DIRECTORY or len(rows) == _PAGE:
            return []
        rows.append(row)
    found = _found_elsewhere(context, rows)
    return rows if all(row.path in found for row in rows) else []


def deletions(context: Context, missing: Sequence[Placed]) -> list[Unit]:
    """Tombstones for what is still missing; whatever came back or moved on is left out."""
    paths = [gone.path for gone in missing]
    held, there = context.catalog.placed.get_all(paths), context.filesystem.stats(paths)
    doubtful: dict[Path, bool] = {}
    units: list[Unit] = []
    for gone in missing:
        path = gone.path
        if held.get(path) != gone or not (there[path] is None if path in there else _is_gone(context, path)):
            continue
        if path[:-1] not in doubtful:
            doubtful[path[:-1]] = _held_back(context, path)
        if not doubtful[path[:-1]]:
            units.append((LocalChange(path=path, kind=Kind.DELETED, base=gone),))
    return units


def _is_gone(context: Context, path: Path) -> bool:
    try:
        return context.filesystem.stat(path) is None
    except (OSError, P2psyncError):
        return False  # what cannot be looked at is not known to be gone


def _held_back(context: Context, path: Path) -> bool:
    """Whether a directory above is flagged: absence below it means nothing."""
    return any(path[depth] in context.catalog.placed.problem_paths(path[:depth]) for depth in range(len(path) - 1))
