"""Processes whose wall clock is wrong: libfaketime, put before their command lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest


def years(count: int) -> Sequence[str]:
    """Put before a command line: its wall clock is so many years off, and goes on as fast as any."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        pytest.skip("faketime is not installed (Debian: apt-get install faketime)")
    # Waiting stands on the other clock, which nobody sets; file times are the file system's.
    settings = {"FAKETIME_DONT_FAKE_MONOTONIC": 1, "NO_FAKE_STAT": 1, "FAKE_UTIME": 0, "FAKETIME": f"{count * 365:+d}d"}
    return ("env", f"LD_PRELOAD={library}", *(f"{name}={value}" for name, value in settings.items()))
