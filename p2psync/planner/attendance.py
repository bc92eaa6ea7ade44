"""How long members have been silent, counted so that no wrong clock can make anybody look gone.

Silence is counted in *attended* time: what passes while this device runs and takes in what others show, at most a day
between two looks however far the clock jumps, and never back. So neither a clock that is set a year ahead nor a device
that was off for a year makes the others silent; at worst silence is noticed late. Pure. Source: formats, "Heartbeats".
"""

from __future__ import annotations

DAY = 24 * 3600
HEARTBEAT_SECONDS = DAY
"""Within this time every member says something."""
LAPSED_SECONDS = 90 * DAY


def passed(seen: float, now: float) -> float:
    """Attended seconds between two looks at the clock."""
    return min(max(0.0, now - seen), float(DAY))


def is_lapsed(silent: float) -> bool:
    """Whether a member that said nothing for so many attended seconds is not waited for any more."""
    return silent >= LAPSED_SECONDS


def beats(written: float, now: float) -> bool:
    """Whether a heartbeat is due, of a last entry written then: also when that is ahead of a clock that was set back."""
    return not 0 <= now - written < HEARTBEAT_SECONDS
