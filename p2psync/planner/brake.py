"""The brake: whether what one device asks of this disk takes so much away that a person should look first.

What counts is files with content that are deleted or rewritten and stand nowhere else here; so renames, copies, modes and
new files weigh nothing, and neither does an initial sync. Clocks of other devices have no say: "within an hour" is by this
device's, from when a file was taken away here; all that waits at once counts as now.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SECONDS = 3600
LEAST_FILES = 20
"""Fewer files than this never trip the share: in a small folder a quarter is an ordinary edit."""


@dataclass(frozen=True, slots=True)
class BrakeLimits:
    """`percent` of the folder's files, or more than `files`, within an hour; 0 switches a limit off."""

    percent: int = 25
    files: int = 1000


def trips(*, pending: int, lately: int, standing: int, limits: BrakeLimits) -> bool:
    """Whether one device's changes are to be held.

    `pending` files would be taken away now, `lately` others were within the hour; `standing` files are on this disk, or were
    before those went. A file that is rewritten again and again is one: saving often is no mass rewrite.
    """
    if not pending:
        return False
    taken = pending + lately
    if limits.files and taken > limits.files:
        return True
    return bool(limits.percent) and taken >= LEAST_FILES and taken * 100 > limits.percent * standing


def least_that_trips(lately: int, limits: BrakeLimits) -> int:
    """Fewer pending files than this trip nothing, however small the folder: what spares counting."""
    bounds = []
    if limits.files:
        bounds.append(limits.files + 1 - lately)
    if limits.percent:
        bounds.append(LEAST_FILES - lately)
    return max(1, min(bounds)) if bounds else 1 << 62
