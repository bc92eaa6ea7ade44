"""What to do about one path: a pure decision from what is wanted, what is placed and what the disk shows.

The law: nothing on disk is replaced or removed unless it is exactly what was placed. Anything else is the user's and is
looked at by the scanner first (LOOK).
"""

from __future__ import annotations

from enum import Enum

from p2psync.index.versions import Kind


class Step(Enum):
    RECORD = "record"
    """The disk is right already: only the catalog must say so."""
    META = "meta"
    """Content is right; mode, modification time or extended attributes differ."""
    DIRECTORY = "directory"
    LINK = "link"
    WRITE = "write"
    MOVE = "move"
    """The content stands under another name that is to go: rename it."""
    DELETE = "delete"
    LOOK = "look"
    """The disk shows something unexpected: scan first."""


def decide_step(
    *,
    wanted: Kind | None,
    placed: Kind | None,
    disk: Kind | None,
    as_placed: bool,
    same_content: bool,
    same_meta: bool,
) -> Step:
    """Choose the step for one path.

    `wanted`, `placed` and `disk` are what stands there in each view (None or DELETED: nothing). `as_placed`: the disk
    shows exactly the placed fingerprint. `same_content`/`same_meta`: placed equals wanted in
    content / in mode, time and extended attributes.
    """
    if wanted in (None, Kind.DELETED):
        if disk is None:
            return Step.RECORD
        if placed in (None, Kind.DELETED):
            return Step.RECORD if placed is Kind.DELETED else Step.LOOK
        return Step.DELETE if as_placed else Step.LOOK
    if placed in (None, Kind.DELETED):
        if disk is None:
            return _creation(wanted)
        return Step.META if disk is wanted is Kind.DIRECTORY else Step.LOOK
    if disk is None or not as_placed:
        return Step.LOOK
    if same_content:
        return Step.RECORD if same_meta else Step.META
    return _creation(wanted)


def _creation(wanted: Kind | None) -> Step:
    return {Kind.DIRECTORY: Step.DIRECTORY, Kind.SYMLINK: Step.LINK}.get(wanted or Kind.FILE, Step.WRITE)
