"""A filesystem that dies at its n-th change: every step of a workload becomes a place to crash."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import pytest

from p2psync.replica import new_temps, open_files
from p2psync.replica.filesystem import NewTemp, Path, Stat
from p2psync.replica.local_filesystem import LocalFilesystem

CHANGES = frozenset(
    {
        "open_temp", "remove_temp", "make_temp_symlink", "place_new", "exchange", "exchange_back", "move", "move_to_temp",
        "make_directory", "remove_directory", "remove_file", "set_mode", "set_mtime", "set_xattrs", "sync",
        "write_temps: open", "write_temps: write", "write_temps: pwrite", "write_temps: ftruncate", "write_temps: fchmod",
        "write_temps: utime",
    }
)  # fmt: skip
"""`write_temps` makes many: each of its calls of the system is one."""


class Killed(BaseException):
    """The process is gone. Not an Exception: nothing may catch it and go on."""


class _GuardedCalls:
    """Calls of the operating system, each of which that changes something may be the last."""

    def __init__(self, guarded: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        self._guarded = guarded

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        called = f"write_temps: {name}"
        return self._guarded(called, real) if called in CHANGES else real


class CrashingFilesystem:
    """Delegates to a real one; raises Killed before (or after) change number `at` and at every operation from then on."""

    def __init__(self, root: FilePath, at: int, after: bool) -> None:
        self._real, self._left, self._after, self._dead = LocalFilesystem(root), at, after, False
        self.last = ""
        """The change it died at."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not callable(real) or name == "close":
            return real
        return self._guarded(name, real)

    def write_temps(self, files: Sequence[NewTemp]) -> dict[Path, Stat]:
        """For devices whose workers are this thread: nobody else writes temps meanwhile."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (new_temps, open_files):
                patch.setattr(module, "os", _GuardedCalls(self._guarded))
            return self._guarded("write_temps", self._real.write_temps)(files)  # type: ignore[no-any-return]

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            if self._dead:
                raise Killed
            if name not in CHANGES:
                return real(*arguments, **named)
            self._left -= 1
            self._dead = self._left < 0
            if self._dead:
                self.last = name
            if self._dead and not self._after:
                raise Killed
            result = real(*arguments, **named)
            if self._dead:
                raise Killed
            return result

        return run

    @property
    def survived(self) -> bool:
        return not self._dead
