"""What a user can decide about a conflict. Pure; what comes of it is the replica's."""

from __future__ import annotations

from enum import Enum


class Keep(Enum):
    MINE = "mine"
    """What this device wrote; where it wrote none or several of the sides, what has the name."""
    THEIRS = "theirs"
    BOTH = "both"
