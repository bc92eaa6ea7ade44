"""From what a nursery raises to the one error a user is told."""

from __future__ import annotations

from p2psync.errors import BugError, P2psyncError


def first_failure(error: BaseException) -> P2psyncError | None:
    """The first of our errors in `error`, a group or not. None when anything else is in it: that is a bug to show."""
    if isinstance(error, P2psyncError):
        return None if isinstance(error, BugError) else error
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [first_failure(inner) for inner in error.exceptions]
    return None if None in found else found[0]
