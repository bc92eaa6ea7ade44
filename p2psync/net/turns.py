"""One task at a time in one direction of a stream, as trio's own streams demand it."""

from __future__ import annotations

import trio


class OneAtATime:
    """Entered around a call; a second task that enters is a bug of the caller's and gets BusyResourceError."""

    __slots__ = ("_busy", "_what")

    def __init__(self, what: str) -> None:
        self._what, self._busy = what, False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is already {self._what}")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False

    @property
    def busy(self) -> bool:
        return self._busy
