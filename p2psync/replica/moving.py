"""Moving: the files that renames take away, seen from the place they leave.

Of a group of moves it knows what stands and is wanted at their sources, read at once, and what is written down there when
a file has gone. How a move is done is the materialiser's. Make one inside the transaction in which it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.catalog.rows import NOTHING, Placed
from p2psync.index.versions import Kind
from p2psync.planner.steps import Step
from p2psync.replica.context import Context
from p2psync.replica.plans import Plan
from p2psync.replica.standing import Booked


class Sources:
    def __init__(self, context: Context, plans: Sequence[Plan]) -> None:
        self._catalog = context.catalog
        paths = [plan.source.path for plan in plans if plan.step is Step.MOVE and plan.source is not None]
        self._placed, self._wanted = self._catalog.placed.get_all(paths), self._catalog.versions.wanted_all(paths)
        self._versions = self._catalog.versions.wanted_versions(self._wanted.values())

    def holds(self, source: Placed) -> bool:
        """Whether the catalog still says that this stands there."""
        return self._placed.get(source.path) == source

    def tombstone(self, source: Placed) -> Placed | None:
        """The row of a path whose file moved away: its deletion, if the folder wants that."""
        wanted = self._wanted.get(source.path)
        if wanted is None or wanted.kind is not Kind.DELETED:
            return None
        return Placed(
            path=source.path, dot=wanted.dot, hash=self._versions[source.path].hash, kind=Kind.DELETED,
            vector=wanted.vector, fingerprint=NOTHING,
        )  # fmt: skip

    def note_gone(self, source: Placed, booked: Booked) -> None:
        gone = self.tombstone(source)
        if gone is None:
            self._catalog.placed.forget(source.path)
            self._catalog.versions.check_need(source.path)
        else:
            booked.add(gone, None, self._wanted[source.path], new=False)
