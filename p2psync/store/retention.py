"""How long deleted objects can be taken back: the grace that every local store keeps.

Thirty days is the least for which any version must stay restorable, and no member can shorten it. Reads no clock:
whoever calls `collect` says what time it is, and must not call it while it doubts its clock.
"""

from __future__ import annotations

DELETE_GRACE_SECONDS = 30 * 24 * 3600


def expiry(now: float) -> float:
    """What was deleted at this moment or before may go at `now`."""
    return now - DELETE_GRACE_SECONDS


def is_expired(deleted_at: float | None, expired: float) -> bool:
    """Whether bytes may go; None stands for an object that is held."""
    return deleted_at is not None and deleted_at <= expired
