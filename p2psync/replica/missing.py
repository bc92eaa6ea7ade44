"""Missing paths: which of what was placed and is not there becomes a deletion.

Absence means something only where somebody could look, and only if it lasts: whoever calls lets it settle first.
Synchronous; runs in workers. Source: formats, "Catalog".
"""

from __future__ import annotations

from collections.abc import Iterable

from p2psync.catalog.rows import Placed
from p2psync.errors import P2psyncError
from p2psync.index.paths import Path
from p2psync.index.versions import Kind
from p2psync.replica.context import Context
from p2psync.replica.publisher import LocalChange, Unit


def deletions(context: Context, missing: Iterable[Placed]) -> list[Unit]:
    """Tombstones for what is still missing, deepest first; whatever came back or moved on is left out."""
    units: list[Unit] = []
    for gone in sorted(missing, key=lambda placed: len(placed.path), reverse=True):
        if _still_missing(context, gone):
            units.append((LocalChange(path=gone.path, kind=Kind.DELETED, base=gone),))
    return units


def _still_missing(context: Context, gone: Placed) -> bool:
    try:
        if context.catalog.placed.get(gone.path) != gone or context.filesystem.stat(gone.path) is not None:
            return False
    except (OSError, P2psyncError):
        return False  # what cannot be looked at is not known to be gone
    return not _held_back(context, gone.path)


def _held_back(context: Context, path: Path) -> bool:
    """Whether a directory above is flagged: absence below it means nothing."""
    return any(path[depth] in context.catalog.placed.problem_paths(path[:depth]) for depth in range(len(path) - 1))


def missing_below(context: Context, gone: Placed) -> list[Placed]:
    """A directory that is gone takes everything placed below it along."""
    if gone.kind is not Kind.DIRECTORY:
        return [gone]
    return [gone, *context.catalog.placed.below(gone.path, limit=1 << 30)]
