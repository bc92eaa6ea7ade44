"""The turn: jobs of thousands of small steps go one after another, whatever thread they are in.

Each of them is Python with small calls of the system in between, and every such call lets go of the interpreter: two at
once only take it from each other (a fifth of a receiver's CPU time for small files in memory). Where the calls themselves
take long, as on a disk that is slow at making files or reads what is not in memory, they gain by being under way at
once; `while_quick` finds out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # not Linux: nothing is found out
    getrusage = None  # type: ignore[assignment]

_MUCH = 0.7
"""Share of the system in such jobs' time from which on several gain by running at once. Receiving files of 4 KiB: half
on a tmpfs (in turn a sixth faster), seven eighths on a virtual machine's ext4 (in turn a quarter slower)."""
_KEPT = 15 / 16
"""Of what was measured before, with every job: the system counts in ticks, one job has only some of them."""


class Turn:
    """Use it as a context manager. Whoever holds it may take it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._user, self._system = 0.1, 0.0
        """Seconds of the latest jobs that ran `while_quick`, in the program and in the system; with a little of the program's
        to begin with, since a first tick says nothing. Jobs that are not in turn may count at once; what is lost by that
        does not matter."""

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    @contextmanager
    def while_quick(self) -> Iterator[None]:
        """The turn, unless the latest such jobs have spent much of their time in the system."""
        with self._lock if self._system < _MUCH * (self._user + self._system) else nullcontext():
            before, user, system, read = _spent()
            try:
                yield
            finally:
                now, user_now, system_now, read_now = _spent()
                user, system = user_now - user, system_now - system
                if read_now > read:  # it waited for a disk
                    system = max(system, now - before - user)
                self._user, self._system = _KEPT * self._user + user, _KEPT * self._system + system


def _spent() -> tuple[float, float, float, int]:
    """Now; CPU seconds of this thread in the program and in the system; blocks it has read from disks."""
    now = time.perf_counter()
    if getrusage is None:
        return now, 0.0, 0.0, 0
    usage = getrusage(RUSAGE_THREAD)
    return now, usage.ru_utime, usage.ru_stime, usage.ru_inblock
