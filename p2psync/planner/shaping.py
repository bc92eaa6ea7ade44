"""What a device keeps of a folder: the folder's type here, and which differences ask nothing of this disk.

Both are this device's own affair: nobody else is told, and no record depends on it. Pure decisions; the catalog asks
them when it fills its queue, scanner and materialiser ask again before they act.
"""

from __future__ import annotations

from enum import Enum

from p2psync.errors import UsageError
from p2psync.index.versions import Kind
from p2psync.planner.ignoring import Verdict


class FolderType(Enum):
    """Which way changes go between this disk and the folder; the words are Syncthing's, but for the last."""

    SENDRECEIVE = "sendreceive"
    SENDONLY = "sendonly"
    """What others change is not written here, until `override` says that this disk is right."""
    RECEIVEONLY = "receiveonly"
    """What is changed here is not published, until `revert` takes the folder's state back."""
    ARCHIVE = "archive"
    """As sendreceive, but what others delete stays here."""

    @property
    def publishes(self) -> bool:
        return self is not FolderType.RECEIVEONLY

    @property
    def writes(self) -> bool:
        return self is not FolderType.SENDONLY


DEFAULT_TYPE = FolderType.SENDRECEIVE.value


def parse_type(text: str) -> FolderType:
    try:
        return FolderType(text)
    except ValueError:
        names = ", ".join(each.value for each in FolderType)
        raise UsageError(f"there is no folder type {text!r}: choose one of {names}") from None


def ignored_here(kind: Kind | None, verdict: Verdict) -> bool:
    """Whether something of this kind is ignored. A directory that may hold kept things is not, once it is part of the
    folder: then it lives and dies as the way to them."""
    return verdict.ignored and not (kind is Kind.DIRECTORY and verdict.descend)


def is_left_alone(*, wanted: Kind | None, placed: Kind | None, verdict: Verdict, folder: FolderType) -> bool:
    """Whether this disk stays as it is although the folder wants something else at a path.

    `wanted` and `placed` are what stands there in each view (None: nothing was ever said). For a derived conflict copy
    `verdict` is that of the path it hangs on: where a file is kept, its conflict copies are kept too, whatever their
    names match, because a loser may live nowhere else.
    """
    if ignored_here(placed, verdict):
        return True
    gone = wanted is Kind.DELETED and placed not in (None, Kind.DELETED)
    return gone and folder is FolderType.ARCHIVE
