"""What stood at a path before one device changed it: a pure decision from the versions of that path.

Only what was seen when the changes were made counts, by version vectors; clocks chose the changes and decide nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.index.merge import Frontier, decide
from p2psync.index.versions import Dot, Version


def state_before(undone: Sequence[Version], others: Sequence[Version]) -> Version | None:
    """The version that stood before the `undone` ones, among the path's `others`; None: nothing did.

    Those are the versions that an undone one covers; what covers an undone one was written after it.
    """
    frontier = Frontier()
    for version in sorted(others, key=lambda v: v.dot):
        if any(each.covers(version) for each in undone) and not any(version.covers(each) for each in undone):
            frontier = frontier.add(version)
    if not frontier.versions:
        return None
    winner = decide(frontier.versions).winner
    return winner if winner.live else None


def may_undo(standing: Dot, undone: Sequence[Version]) -> bool:
    """Whether what stands now is one of the changes to undo: what somebody changed since is left."""
    return any(version.dot == standing for version in undone)
