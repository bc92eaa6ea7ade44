"""Predecessors: what stands in the frontier of a path that this device is about to change, read for many paths at once.

It knows this device's own previous version and the conflict copies that hang on a path; what a new version makes of them is
the publisher's. A path may be asked once from what was read ahead; after that it is asked anew, since its change counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.index.paths import Path
from p2psync.index.versions import Version
from p2psync.replica.context import Context


class Predecessors:
    """Make it inside the transaction in which it is asked."""

    def __init__(self, context: Context, paths: Sequence[Path] = ()) -> None:
        """`paths` are those to be read ahead; any other may be asked as well."""
        self._versions, self._own_feed = context.catalog.versions, context.own_feed
        self._ahead = set(paths)
        self._own = self._versions.all_of_feed(paths, self._own_feed)
        copies = bool(paths) and self._versions.has_copies()
        self._without_copies = set() if copies else self._ahead - context.catalog.conflicts.settled_among(paths)

    def own(self, path: Path) -> Version | None:
        """This device's version in the frontier."""
        return self._own.get(path) if path in self._ahead else self._versions.of_feed(path, self._own_feed)

    def losers(self, path: Path) -> list[Version]:
        return [] if path in self._without_copies else self._versions.losers(path)

    def lost_with(self, path: Path, losers: Sequence[Version]) -> list[Version]:
        """See `Versions.lost_with`."""
        return [] if path in self._without_copies else self._versions.lost_with(path, losers)

    def changed(self, path: Path) -> None:
        """A version of this path was made."""
        self._ahead.discard(path)
        self._without_copies.discard(path)
