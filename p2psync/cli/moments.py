"""Moments, durations and sizes as people write them."""

from __future__ import annotations

import re
from datetime import datetime

from p2psync.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdwy])(?:\s+ago)?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LATEST = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970."""


def parse_moment(text: str, now: float) -> int:
    """Milliseconds since 1970 of `1h`, `2d ago` or an ISO 8601 time (this device's time zone unless it names one)."""
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return int(max(0.0, now - float(span[1]) * _UNITS[span[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{text!r} is no time: write 2026-03-14T09:30, 2026-03-14, or how long ago: 90m, 1h, 2d"
        ) from None
    return int(min(max(0.0, moment), _LATEST) * 1000)


def parse_duration(text: str) -> int:
    """Seconds of `90d`, `12h`, or 0."""
    if text.strip() == "0":
        return 0
    span = _SPAN.fullmatch(text.strip())
    if span is None:
        raise UsageError(f"{text!r} is no duration: write 90d, 12h, 1y, or 0 for no limit")
    return min(int(float(span[1]) * _UNITS[span[2]]), 1 << 40)


def parse_size(text: str) -> int:
    """Bytes of `20G`, `500 MiB`, `4096`, or 0, in powers of 1024."""
    size = _SIZE.fullmatch(text.strip())
    if size is None:
        raise UsageError(f"{text!r} is no size: write 20G, 500M, or 0 for no limit")
    return min(int(float(size[1]) * 1024 ** _POWERS[size[2].lower()]), 1 << 60)
