"""What a device knows of one path's extended attributes: those agreed, those its disk showed, and what follows.

`agreed` are those of the placed version; they go into every version this device publishes of the path, whether it syncs
extended attributes or not, so that a device that cannot keep them never takes them from the others. `shown` is what the
disk showed when it was last looked at: what has changed since is the user's. Where nothing was ever seen, both sets are
united, and nothing is lost. Pure decisions. Source: formats, "What is a file"; decision 0037.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from p2psync.index.xattrs import Xattrs, fits, followed, united


class Look(IntEnum):
    """How the disk stood when its attributes were last looked at; the numbers stand in the catalog."""

    UNSEEN = 0
    """Not since this device syncs extended attributes."""
    SEEN = 1
    OWED = 2
    """What is agreed is still to be set."""
    UNKNOWN = 3
    """They cannot be read here, as in a file without permission to read."""
    TOO_LARGE = 4
    """More than a record can carry: they stay where they are."""
    REFUSED = 5
    """The disk did not take all that is agreed."""
    UNSUPPORTED = 6
    """This disk keeps none."""


Shown = Xattrs | Look
"""What looking gives: a set, or UNKNOWN, TOO_LARGE or UNSUPPORTED."""

_KNOWN = (Look.SEEN, Look.OWED, Look.REFUSED)
FLAWS = {
    Look.UNKNOWN: "its extended attributes cannot be read here, so changes of them are not synced; its content is",
    Look.TOO_LARGE: "its extended attributes take more than 16 KiB: they stay as they are and are not synced; its content is",
    Look.REFUSED: "this disk did not take all of its extended attributes (ext4 keeps about 4 KiB of them); they are not lost,"
    " its content is synced, and p2psync folder xattrs on tries again",
}
UNSUPPORTED = "this disk keeps no extended attributes: those of the folder are passed on, but cannot be set here"


@dataclass(frozen=True, slots=True)
class HeldXattrs:
    agreed: Xattrs = ()
    shown: Xattrs | None = None
    """None: never seen. Kept while the disk cannot be looked at, to tell later what changed."""
    look: Look = Look.UNSEEN

    @property
    def known(self) -> bool:
        """Whether `shown` is what the disk shows, as far as anybody told us."""
        return self.look in _KNOWN

    def unseen(self) -> HeldXattrs:
        """What is agreed alone: the disk is to be looked at as for the first time."""
        return HeldXattrs(self.agreed)

    def shows(self, disk: Shown) -> bool:
        """Whether the disk shows nothing new."""
        return self.look is disk if isinstance(disk, Look) else self.known and self.shown == disk

    def looked(self, disk: Shown) -> HeldXattrs:
        """After a look at the disk; `agreed` takes in what the user changed there."""
        if isinstance(disk, Look):
            return replace(self, look=disk)
        agreed = united(self.agreed, disk) if self.shown is None else followed(self.agreed, self.shown, disk)
        if not fits(agreed):
            return replace(self, look=Look.TOO_LARGE)
        return HeldXattrs(agreed, disk, Look.SEEN if disk == agreed else Look.OWED)

    def has(self, agreed: Xattrs) -> bool:
        """Whether nothing is to be set, or may be, when this is agreed."""
        return not self.known or self.shown == agreed

    def overriding(self) -> HeldXattrs:
        """When what the disk shows is to be right; what it could never take, or nobody could look at, stays agreed."""
        if self.shown is None or self.look not in (Look.SEEN, Look.OWED):
            return self
        return after_setting(self.shown, self.shown)

    def given(self, agreed: Xattrs) -> HeldXattrs:
        """When this is agreed from now on and, if the disk can take it, stands there."""
        return after_setting(agreed, agreed) if self.known else replace(self, agreed=agreed)


NOTHING_HELD = HeldXattrs()


def after_setting(agreed: Xattrs, disk: Shown) -> HeldXattrs:
    """After `agreed` was to be set, and the disk then shows this."""
    if isinstance(disk, Look):
        return HeldXattrs(agreed, None, disk)
    return HeldXattrs(agreed, disk, Look.SEEN if disk == agreed else Look.REFUSED)


def after_crash(now: HeldXattrs, before: HeldXattrs, disk: Shown) -> HeldXattrs:
    """What to believe when setting may have been cut short: every pair that either side has is ours, and the rest still to
    be set; any other is the user's, and `shows` of the result tells that it is new."""
    if isinstance(disk, Look) or not now.known:
        return now
    ours = {*now.agreed, *(now.shown or ()), *(before.shown or ())}
    left = tuple(pair for pair in disk if pair in ours)
    return HeldXattrs(now.agreed, left, Look.SEEN if left == now.agreed else Look.OWED)
