"""A filesystem that dies at its n-th change: every step of a workload becomes a place to crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2psync.replica.local_filesystem import LocalFilesystem

CHANGES = frozenset(
    {
        "open_temp", "remove_temp", "make_temp_symlink", "place_new", "exchange", "exchange_back", "move", "move_to_temp",
        "make_directory", "remove_directory", "remove_file", "set_mode", "set_mtime", "set_xattrs", "sync",
    }
)  # fmt: skip


class Killed(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and go on."""


class CrashingFilesystem:
    """Delegates to a real one; raises Killed before (or after) change number `at` and at every operation from then on."""

    def __init__(self, root: Path, at: int, after: bool) -> None:
        self._real, self._left, self._after, self._dead = LocalFilesystem(root), at, after, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not callable(real) or name == "close":
            return real
        return self._guarded(name, real)

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            if self._dead:
                raise Killed
            if name not in CHANGES:
                return real(*arguments)
            self._left -= 1
            self._dead = self._left < 0
            if self._dead and not self._after:
                raise Killed
            result = real(*arguments)
            if self._dead:
                raise Killed
            return result

        return run

    @property
    def survived(self) -> bool:
        return not self._dead
