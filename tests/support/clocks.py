"""Wall clocks that are wrong: of processes, through libfaketime put before their command lines, and inside a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio


@dataclass
class MovedClock:
    """Wall time that follows the mock clock, and may be set."""

    ahead: float = 1_700_000_000.0

    def now(self) -> float:
        return self.ahead + trio.current_time()


def years(count: int) -> Sequence[str]:
    """Put before a command line: its wall clock is so many years off, and goes on as fast as any."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        pytest.skip("faketime is not installed (Debian: apt-get install faketime)")
    # Waiting stands on the other clock, which nobody sets; file times are the file system's.
    settings = {"FAKETIME_DONT_FAKE_MONOTONIC": 1, "NO_FAKE_STAT": 1, "FAKE_UTIME": 0, "FAKETIME": f"{count * 365:+d}d"}
    return ("env", f"LD_PRELOAD={library}", *(f"{name}={value}" for name, value in settings.items()))
