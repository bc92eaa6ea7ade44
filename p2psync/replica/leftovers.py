"""Leftovers: what still stands in a directory that another device deleted.

It owns the one case in which ignored files are touched at all: every bit of what is left is ignored by `(?d)` patterns,
which say that it may go when it stands in the way. Otherwise nothing is removed, and whoever asks is told what is there.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2psync.catalog.catalog import Catalog
from p2psync.index.paths import Path
from p2psync.planner.ignoring import Verdict
from p2psync.replica.filesystem import Filesystem, Kind
from p2psync.replica.shape import Shape


def _below(shape: Shape, filesystem: Filesystem, directory: Path) -> Iterator[tuple[Path, Kind, Verdict]]:
    """Everything below a directory, directories before what they hold."""
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        for name, stat in filesystem.list_directory(here):
            path = (*here, name)
            if stat.kind is Kind.DIRECTORY:
                waiting.append(path)
            yield path, stat.kind, shape.verdict(path)


def holds_only_ignored(shape: Shape, filesystem: Filesystem, directory: Path) -> bool:
    """Whether there is something below and all of it is ignored."""
    found = False
    try:
        for _, _, verdict in _below(shape, filesystem, directory):
            if not verdict.ignored:
                return False
            found = True
    except OSError:
        return False
    return found


def clear_deletable(shape: Shape, filesystem: Filesystem, directory: Path) -> bool:
    """Delete what is below a directory if every bit of it may go; whether that was so. OSError if it changes meanwhile."""
    found = list(_below(shape, filesystem, directory))
    if not found or not all(verdict.ignored and verdict.deletable for _, _, verdict in found):
        return False
    for path, kind, _ in reversed(found):
        if kind is Kind.DIRECTORY:
            filesystem.remove_directory(path)
        else:
            filesystem.move_to_temp(path)
            filesystem.remove_temp(path)
    return True


def waits_for_what_is_below(catalog: Catalog, shape: Shape, directory: Path) -> bool:
    """Whether something placed below goes first, after which its deletion is tried again: not what stays wanted there."""
    below = catalog.placed.below(directory)
    return not catalog.wanted_tree.live_below(directory) and any(not shape.ignores(row.path, row.kind) for row in below)
