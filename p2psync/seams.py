"""The seams: what a floor needs of the outside world, handed in so that a test can hand in another.

Six of them: filesystem (`replica/filesystem.py`), network (`net/network.py`), watcher (`replica/watcher.py`), and the
three here: clock, randomness, workers. A cluster of devices and relays runs in one process under trio's `MockClock`
with seeded randomness and inline workers, and the same seed gives the same trace.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from p2psync.turn import Turn

T = TypeVar("T")


class Clock(Protocol):
    def now(self) -> float:
        """Wall-clock seconds since 1970: for display, expiry and file times only; it decides no outcome."""


class Randomness(Protocol):
    def bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""


class Workers(Protocol):
    @property
    def turn(self) -> Turn:
        """Held by jobs of thousands of small steps, before any other lock."""

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a blocking function off the event loop (a hop costs ~90 µs: batch at least 1 MiB or 64 files)."""


class SystemClock:
    def now(self) -> float:
        return time.time()


class SystemRandomness:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)
