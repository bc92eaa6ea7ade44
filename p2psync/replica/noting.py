"""Noting: what becomes of local changes where they are not published, and what `revert` does with them.

A folder that publishes nothing (receive-only, or this device is a reader) notes what differs here, so that it is shown,
not read again, and left alone by whatever comes in. Reverting moves what stands here aside, below `.p2psync/reverted`,
and lets the folder's state be fetched: nothing is thrown away. Synchronous: it runs in a worker.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

from p2psync.catalog.local_changes import Change
from p2psync.catalog.local_changes import LocalChange as Noted
from p2psync.index.paths import MARKER, Path
from p2psync.index.versions import Kind
from p2psync.replica.changes import Unit
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Kind as DiskKind
from p2psync.replica.publisher import Committed, adopt, commit, still_holds
from p2psync.replica.xattrs import as_shown

REVERTED: Path = (MARKER, b"reverted")


def publish_or_note(context: Context, units: Sequence[Unit]) -> Committed:
    """What the scanner found becomes versions, or local changes where nothing is published."""
    return commit(context, units) if context.publishes else _note(context, units)


def _note(context: Context, units: Sequence[Unit]) -> Committed:
    result = Committed()
    changes = context.catalog.local_changes
    with context.tree, context.catalog.transaction():
        for change in (change for unit in units for change in unit):
            if not still_holds(context, change, context.catalog.placed.get(change.path)):
                result.stale += 1
                context.dirty.add(change.path[:-1])
            elif adopt(context, change, context.catalog.versions.wanted(change.path)):
                changes.forget(change.path)
                result.adopted += 1
            elif change.kind is Kind.DELETED:
                changes.put(Noted(change.path, Change.DELETED))
            else:
                was = change.base is not None and change.base.live
                changes.put(Noted(change.path, Change.CHANGED if was else Change.ADDED, change.fingerprint))
    return result


def revert(context: Context) -> tuple[int, str | None]:
    """Take the folder's state back everywhere; returns how many paths that was, and where what stood there is now."""
    noted = sorted(context.catalog.local_changes.all(), key=lambda each: len(each.path), reverse=True)
    aside = _Aside(context)
    done = 0
    for each in noted:
        with context.tree, context.catalog.transaction():
            done += _revert_one(context, each, aside)
    return done, aside.name


def _revert_one(context: Context, noted: Noted, aside: _Aside) -> bool:
    catalog, filesystem, path = context.catalog, context.filesystem, noted.path
    stat, row = filesystem.stat(path), catalog.placed.get(path)
    directory = stat is not None and stat.kind is DiskKind.DIRECTORY
    if stat is not None and directory and row is not None and row.kind is Kind.DIRECTORY:
        # With an empty vector the path is queued until mode and extended attributes are the folder's again.
        xattrs = as_shown(context, path, row.xattrs)
        catalog.placed.put(replace(row, mode=stat.mode & 0o777, vector={}, xattrs=xattrs))
    else:
        if directory:
            try:
                filesystem.remove_directory(path)
            except OSError:
                context.dirty.add(path)  # something came meanwhile, or is ignored
                return False
        elif stat is not None:
            aside.move(path)
        if row is not None and row.live:
            catalog.placed.forget(path)
    catalog.local_changes.forget(path)
    catalog.versions.check_need(path)
    return True


class _Aside:
    """A directory of its own for each revert, made when the first file goes there."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory: Path | None = None

    @property
    def name(self) -> str | None:
        return None if self._directory is None else b"/".join(self._directory).decode()

    def move(self, path: Path) -> None:
        if self._directory is None:
            self._directory = self._begin()
        target = (*self._directory, *path)
        for depth in range(len(self._directory) + 1, len(target)):
            self._make(target[:depth])
        self._context.filesystem.move(path, target)

    def _begin(self) -> Path:
        moment = datetime.datetime.fromtimestamp(self._context.clock.now(), datetime.UTC)
        self._make(REVERTED)
        number = 0
        while True:
            name = f"{moment:%Y%m%d-%H%M%S}" + (f"-{number}" if number else "")
            try:
                self._context.filesystem.make_directory((*REVERTED, name.encode()), 0o700)
                return (*REVERTED, name.encode())
            except FileExistsError:
                number += 1

    def _make(self, path: Path) -> None:
        try:
            self._context.filesystem.make_directory(path, 0o700)
        except FileExistsError:
            return
