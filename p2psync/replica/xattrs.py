"""Extended attributes of this replica's files: when the scanner looks at them, and what applying does about them.

Everything here does nothing unless the folder syncs them on this device (`Shape.xattrs`); then the agreed ones are only
carried on. What follows from a look is `planner/xattrs.py`'s. Synchronous; runs in workers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from p2psync.catalog.rows import Fingerprint, Placed
from p2psync.index.paths import Path, show
from p2psync.index.versions import Kind, Version
from p2psync.index.xattrs import united
from p2psync.planner.xattrs import FLAWS, NOTHING_HELD, UNSUPPORTED, HeldXattrs, Look, Shown, after_crash, after_setting
from p2psync.replica.context import Context
from p2psync.replica.filesystem import NotRegularFile, Stat, TempFile
from p2psync.replica.reader import ChangedWhileRead

_SUBJECT = "extended attributes"


def held_of(base: Placed | None, kind: Kind) -> HeldXattrs:
    """What is known of a path's attributes: nothing where something else stood."""
    return base.xattrs if base is not None and base.kind is kind else NOTHING_HELD


def is_unseen(context: Context, base: Placed) -> bool:
    """Whether the scanner has yet to look at what the disk shows there."""
    return context.shape.xattrs and base.kind in (Kind.FILE, Kind.DIRECTORY) and base.xattrs.look is Look.UNSEEN


def is_news(context: Context, path: Path, base: Placed) -> bool:
    """Whether a directory shows other attributes than when it was last looked at: no stamp of it would tell."""
    if not context.shape.xattrs:
        return False
    try:
        return not base.xattrs.shows(context.filesystem.xattrs(path))
    except (FileNotFoundError, NotADirectoryError, NotRegularFile):
        return False  # its parent's next listing tells what became of it


def look_at_directory(context: Context, path: Path, held: HeldXattrs) -> HeldXattrs:
    return held.looked(context.filesystem.xattrs(path)) if context.shape.xattrs else held.unseen()


def look_at_file(context: Context, path: Path, seen: Fingerprint, held: HeldXattrs) -> HeldXattrs:
    """A look at a file whose content need not be read. ChangedWhileRead when it is not as `seen` any more."""
    if not context.shape.xattrs:
        return held.unseen()
    try:
        with context.filesystem.open_file(path) as file:
            disk: Shown = file.xattrs()
            now = Fingerprint(*file.stat().fingerprint)
    except PermissionError:
        return held.looked(Look.UNKNOWN)
    if now != seen:
        raise ChangedWhileRead(f"{show(path)} changed while it was looked at; it is synced once it has settled")
    return held.looked(disk)


def take_over(context: Context, held: HeldXattrs, version: Version, *, live: bool) -> HeldXattrs | None:
    """When the disk shows the content of `version` anyway; `held` is what looking found, `live`: something was placed.

    None: what differs is the user's change. UNSEEN where the disk says more than the folder: with the folder's version as
    its base that becomes a change when it is looked at again.
    """
    if not context.shape.xattrs or not held.known or held.shown is None:
        return HeldXattrs(version.xattrs, held.shown, held.look)
    if live:
        return held if held.agreed == version.xattrs else None
    if united(version.xattrs, held.shown) != version.xattrs:
        return HeldXattrs(version.xattrs)
    return HeldXattrs(version.xattrs).looked(held.shown)


def planned(context: Context, base: Placed | None, version: Version | None, *, in_place: bool) -> HeldXattrs:
    """What a path's row will say when its plan succeeds. `in_place`: what stands there stays."""
    if version is None or version.kind not in (Kind.FILE, Kind.DIRECTORY):
        return NOTHING_HELD
    if not context.shape.xattrs:
        return HeldXattrs(version.xattrs)
    if in_place:
        return held_of(base, version.kind).given(version.xattrs)
    return after_setting(version.xattrs, version.xattrs)


def set_in_place(context: Context, path: Path, before: HeldXattrs, then: HeldXattrs) -> HeldXattrs | None:
    """Set what `then` agrees on; None when the disk shows something that was not looked at yet."""
    if not context.shape.xattrs or not then.known or (before.shown == then.agreed and before.known):
        return then
    filesystem = context.filesystem
    if not before.shows(filesystem.xattrs(path)):
        return None
    return after_setting(then.agreed, filesystem.set_xattrs(path, then.agreed))


def set_on_temp(context: Context, base: Placed | None, version: Version, temp: TempFile) -> HeldXattrs:
    """Set those of a version on its temp. Of a file that nobody has looked at, they go along that only the disk shows: they
    become a change of the new version when it is looked at."""
    if base is not None and base.kind is Kind.FILE and base.xattrs.look is Look.UNSEEN:
        with suppress(FileNotFoundError, NotADirectoryError, NotRegularFile):
            disk = context.filesystem.xattrs(base.path)
            temp.set_xattrs(version.xattrs if isinstance(disk, Look) else united(version.xattrs, disk))
            return HeldXattrs(version.xattrs)
    return after_setting(version.xattrs, temp.set_xattrs(version.xattrs))


def set_on_new_directory(context: Context, path: Path, then: HeldXattrs) -> HeldXattrs:
    if not context.shape.xattrs or not then.agreed:
        return then
    return after_setting(then.agreed, context.filesystem.set_xattrs(path, then.agreed))


def settled_xattrs(context: Context, row: Placed, other: Placed | None, stat: Stat) -> Placed:
    """After a crash: `row` with what the disk shows of its attributes, of which some may be set and some not."""
    if not context.shape.xattrs or not row.xattrs.known:
        return row
    disk = context.filesystem.xattrs(row.path)
    held = after_crash(row.xattrs, held_of(other, row.kind), disk)
    mode, seen = row.mode, row.fingerprint
    if row.kind is Kind.FILE:
        if stat.mode & 0o777 != row.mode:  # as when permission was lent: to be set again, with the rest
            mode, held = stat.mode & 0o777, replace(held, look=Look.OWED)
        if not held.shows(disk):
            seen = seen._replace(ctime_ns=0)  # somebody else's change: the scanner is to look
    return replace(row, xattrs=held, mode=mode, fingerprint=seen)


def as_shown(context: Context, path: Path, held: HeldXattrs) -> HeldXattrs:
    """What is agreed, with what a directory shows now taken for known: none of it is anybody's change."""
    disk = context.filesystem.xattrs(path) if context.shape.xattrs else Look.UNSEEN
    return HeldXattrs(held.agreed, look=disk) if isinstance(disk, Look) else after_setting(held.agreed, disk)


def flaw(context: Context, path: Path) -> str | None:
    """What the user should know about the attributes of a path."""
    row = context.catalog.placed.get(path)
    return None if row is None or not context.shape.xattrs else FLAWS.get(row.xattrs.look)


def flaws(context: Context) -> list[tuple[str, str]]:
    """(path or subject, sentence) of all that is wrong."""
    if not context.shape.xattrs:
        return []
    placed = context.catalog.placed
    found = [(_SUBJECT, UNSUPPORTED)] if placed.with_look([Look.UNSUPPORTED], 1) else []
    return found + [(show(path), FLAWS[look]) for path, look in placed.with_look(list(FLAWS))]
