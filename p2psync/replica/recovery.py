"""Recovery: after a crash, every open intent is compared with what the disk shows.

Already new: done, the catalog is told. Still old: the placed row goes back to old, so that it is redone and never
published. Neither: the user's edit, left where it is. What a change displaced goes to the versions, or is found there.
A displaced file that is neither old nor new stands at the temp name: it is the user's and goes back to its place.
Source: formats, "On disk", write order.
"""

from __future__ import annotations

from dataclasses import replace

from p2psync.catalog.intents import Intent
from p2psync.catalog.rows import Placed
from p2psync.index.paths import Path
from p2psync.index.versions import Dot, Kind
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Stat, lent_mode
from p2psync.replica.keeping import VERSIONS, adopt_kept, keep_displaced
from p2psync.replica.scanner import KINDS, fingerprint_of
from p2psync.replica.xattrs import settled_xattrs


def recover(context: Context) -> int:
    """Settle all open intents; returns how many there were. Run before anything else touches the tree."""
    intents = context.catalog.intents.all()
    with context.tree, context.catalog.transaction():
        for intent in intents:
            _settle(context, intent)
    # What a killed process renamed or changed is visible, but a power cut could still undo it: a sync comes first.
    places = {_nearest(context, intent.path) for intent in intents}
    if places:
        if context.filesystem.stat(VERSIONS) is not None:
            places.add(VERSIONS)
        context.filesystem.sync(sorted(places))
        context.catalog.intents.clear(context.catalog.intents.last_batch())
    return len(intents)


def _nearest(context: Context, path: Path) -> Path:
    """The path itself, or the directory above it that is there."""
    while path and context.filesystem.stat(path) is None:
        path = path[:-1]
    return path


def _settle(context: Context, intent: Intent) -> None:
    filesystem, path = context.filesystem, intent.path
    stat, temp = filesystem.stat(path), filesystem.temp_stat(path)
    shows_new, shows_old = _shows(stat, intent.new), _shows(stat, intent.old)
    if temp is not None and not _is(temp, intent.new) and not _is(temp, intent.old):
        if shows_new:
            filesystem.exchange_back(path)
        elif stat is None:
            filesystem.place_new(path)
        stat, shows_new = filesystem.stat(path), False
        shows_old = _shows(stat, intent.old)
    elif temp is not None and stat is None and _is(temp, intent.old):
        filesystem.place_new(path)  # taken away for a delete that did not end
        stat, shows_new, shows_old = filesystem.stat(path), False, True
    elif temp is not None and shows_new and intent.old is not None and _is(temp, intent.old):
        keep_displaced(context, path, intent.old, _dot(intent))  # displaced, and not yet among the versions
    elif temp is not None and shows_new:
        filesystem.remove_temp(path)
    adopt_kept(context, intent.old, _dot(intent))
    if shows_new:
        _settle_as(context, path, intent.new, intent.old, stat)
    elif shows_old or _between(stat, intent):
        _settle_as(context, path, intent.old, intent.new, stat)
    elif stat is None and _changes_kind(intent):
        # The old had to go before the new could take the name. Nothing is placed now, so nobody deleted anything.
        context.catalog.placed.forget(path)
        context.catalog.versions.check_need(path)


def _dot(intent: Intent) -> Dot | None:
    return intent.new.dot if intent.new is not None else None


def _settle_as(context: Context, path: Path, row: Placed | None, other: Placed | None, stat: Stat | None) -> None:
    """Write down that the disk holds what `row` says, as it looks now; `other` is the intent's other side."""
    placed = context.catalog.placed
    if row is None:
        if stat is None:
            placed.forget(path)
    elif stat is None or row.kind is Kind.DELETED:
        placed.put(row)
    elif row.kind is Kind.DIRECTORY:
        row = settled_xattrs(context, row, other, stat)
        if stat.mode & 0o777 != row.mode:
            row = replace(row, mode=stat.mode & 0o777, vector={})  # still has to lose the permission to write into it
        placed.put(row)
    else:
        placed.put(settled_xattrs(context, replace(row, fingerprint=fingerprint_of(stat)), other, stat))
    context.catalog.versions.check_need(path)


def _shows(stat: Stat | None, row: Placed | None) -> bool:
    """Whether the disk shows what this row says."""
    if row is None or not row.live:
        return stat is None
    return stat is not None and _is(stat, row)


def _is(stat: Stat, row: Placed | None) -> bool:
    if row is None or KINDS.get(stat.kind) is not row.kind:
        return False
    if row.kind is Kind.DIRECTORY:
        return stat.mode & 0o777 in (row.mode, row.mode | 0o700)
    same_mode = row.kind is Kind.SYMLINK or stat.mode & 0o777 == row.mode
    return same_mode and fingerprint_of(stat).same_file(row.fingerprint)


def _changes_kind(intent: Intent) -> bool:
    """Whether a directory takes the place of something else, or the other way round: two steps instead of one."""
    old, new = intent.old, intent.new
    if old is None or new is None or not (old.live and new.live):
        return False
    return (old.kind is Kind.DIRECTORY) != (new.kind is Kind.DIRECTORY)


def _between(stat: Stat | None, intent: Intent) -> bool:
    """Whether a change of mode, modification time and extended attributes was interrupted halfway."""
    old, new = intent.old, intent.new
    if stat is None or old is None or new is None or old.fingerprint.inode != new.fingerprint.inode:
        return False
    modes: set[int] = {old.mode, new.mode}
    times = (old.fingerprint.mtime_ns, new.fingerprint.mtime_ns)
    same = (stat.dev, stat.inode, stat.size) == (old.fingerprint.dev, old.fingerprint.inode, old.fingerprint.size)
    modes |= {lent_mode(mode, directory=False) for mode in modes}
    return same and stat.mode & 0o777 in modes and stat.mtime_ns in times
