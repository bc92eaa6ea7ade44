"""First versions: the rows of paths at which neither the folder nor this disk has anything yet, for all tables at once.

It owns no table. What stands in each is said where the table is at home (`frontiers`, `versions`, `placed`); here the rows
are made in one go, without objects in between, because all of a new tree is first versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from p2psync.catalog.placed import PlacedFiles
from p2psync.catalog.rows import Fingerprint, columns, encode_vector, placed_values
from p2psync.catalog.versions import Versions
from p2psync.index.versions import Version
from p2psync.planner.xattrs import HeldXattrs


class First(NamedTuple):
    """A version of a path that has none, its record, and what this disk shows of it."""

    version: Version
    data: bytes
    seen: Fingerprint
    rows: bytes
    """The full chunk list of a file."""
    xattrs: HeldXattrs


class FirstVersions:
    def __init__(self, versions: Versions, placed: PlacedFiles) -> None:
        self._versions, self._placed = versions, placed

    def begin(self, firsts: Sequence[First]) -> None:
        """Each path once; the caller has seen in this transaction that nothing is wanted or placed there."""
        if not firsts:
            return
        frontier, wanted, placed, chunks = [], [], [], []
        size = files = 0
        for version, data, seen, rows, xattrs in firsts:
            place, dot, kind, content = columns(version.path), version.dot, version.kind, version.content
            vector = encode_vector(version.vector)
            dotted = (*place, dot.feed, dot.seq, dot.index)
            frontier.append((*dotted, data))
            wanted.append((*dotted, kind, version.size, vector, None, None, content.chunks[:32] or None))
            placed.append(
                placed_values(
                    place, dot, version.hash, kind, vector, seen, version.mode, version.target, content, xattrs
                )
            )
            chunks.append(rows if content.chunks else b"")
            size += version.size
            files += seen.size if not kind else 0
        self._versions.begin(frontier, wanted, size)
        self._placed.begin(placed, chunks, files)
