"""Retention: which local versions of a path go, and when the clock may be trusted to say so.

Staggered, as Syncthing does it: one version each 30 seconds of the first hour, each hour of the first day, each day of the
first 30 days, each week after that, up to an age. Every device decides for its own disk; nobody shortens it for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOUR, DAY = 3600, 86400
_STEPS = ((HOUR, 30), (DAY, HOUR), (30 * DAY, DAY))
_LAST_STEP = 7 * DAY
JUMP_MS = DAY * 1000
"""A clock that moved this far between two looks (or a device that was off as long) is watched as long again."""


@dataclass(frozen=True, slots=True)
class KeepRules:
    """How long (seconds) and how much (bytes) is kept on this disk; 0: no limit."""

    seconds: int = 365 * DAY
    size: int = 0


@dataclass(frozen=True, slots=True)
class SteadyClock:
    """When the clock was last looked at, and since when it has not jumped; milliseconds since 1970."""

    seen_ms: int
    since_ms: int

    @property
    def trusted(self) -> bool:
        return self.seen_ms - self.since_ms >= JUMP_MS


def look_at_clock(before: SteadyClock | None, now_ms: int) -> SteadyClock:
    """Nothing goes by age before a day has passed without a jump of a day, in either direction."""
    if before is None or abs(now_ms - before.seen_ms) > JUMP_MS or now_ms < before.since_ms:
        return SteadyClock(now_ms, now_ms)
    return SteadyClock(now_ms, before.since_ms)


def outdated(times_ms: Sequence[int], now_ms: int, rules: KeepRules) -> list[int]:
    """Which of one path's versions go: positions in `times_ms`, which is in the order they were kept.

    Times ahead of now count as now.
    """
    gone: list[int] = []
    last: int | None = None
    for position, time_ms in sorted(enumerate(times_ms), key=lambda pair: (pair[1], pair[0])):
        age = max(0, now_ms - time_ms) // 1000
        too_old = bool(rules.seconds) and age > rules.seconds
        if too_old or (last is not None and time_ms - last < _step(age) * 1000):
            gone.append(position)
        else:
            last = time_ms
    return sorted(gone)


def _step(age: int) -> int:
    return next((step for until, step in _STEPS if age <= until), _LAST_STEP)


def over_size(sizes: Sequence[int], total: int, limit: int) -> int:
    """How many of these sizes, oldest first, go so that `total` bytes come down to `limit`."""
    count = 0
    for size in sizes:
        if total <= limit:
            break
        total -= size
        count += 1
    return count
