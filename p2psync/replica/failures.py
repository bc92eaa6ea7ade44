"""Failures out of nurseries: which one a group of errors comes down to."""

from __future__ import annotations


def only_failure(
    error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    """The first plain error of a group (or the error itself) if every one in it is of these kinds, else None."""
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, kinds) else None
    matched, others = error.split(kinds)
    if others is not None or matched is None:
        return None
    found: BaseException = matched
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
