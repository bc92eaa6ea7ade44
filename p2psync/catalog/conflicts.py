"""Conflict copies as the catalog knows them: derived ones, and those that somebody has published under their names.

Only finds them; what becomes of a conflict is decided above. A published copy is told by its name and, where it has one,
its origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2psync.catalog.rows import columns, path_of
from p2psync.catalog.versions import Versions
from p2psync.index.merge import CONFLICT_MARK
from p2psync.index.paths import Path
from p2psync.index.versions import Vector, Version
from p2psync.store.sqlite import Database

_NAME = re.compile(rb"(.+)\.sync-conflict-\d{8}-\d{6}-(?:[A-Z2-7]{7}|UNKNOWN)(\.[^.]*)?", re.S)


@dataclass(frozen=True, slots=True)
class Copy:
    """A conflict copy at `path`, of what stands at `of`. `vector` covers every version of its state."""

    path: Path
    of: Path
    version: Version
    vector: Vector
    derived: bool


class Conflicts:
    def __init__(self, database: Database, versions: Versions) -> None:
        self._db, self._versions = database, versions

    def sources(self, limit: int = 1000) -> list[Path]:
        """Paths beside which derived copies stand."""
        rows = self._db.query(
            "SELECT DISTINCT source_dir, source_name FROM wanted WHERE source_dir IS NOT NULL LIMIT ?", (limit,)
        )
        return [path_of(*row) for row in rows]

    def settled_among(self, paths: Sequence[Path]) -> set[Path]:
        """Those of these paths of which a version has, or had, a name of its own elsewhere: renamed, copied, or a loser."""
        rows = self._db.look_up(
            "SELECT DISTINCT dir, name FROM {asked} CROSS JOIN settled ON dir = column1 AND name = column2",
            [columns(path) for path in paths],
        )
        return {path_of(directory, name) for directory, name in rows}

    def all(self, limit: int = 1000) -> list[Copy]:
        """Every conflict copy of the folder, by what it is a copy of."""
        rows = self._db.query(
            "SELECT dir, name FROM wanted WHERE source_dir IS NOT NULL"
            " UNION SELECT dir, name FROM wanted WHERE kind IN (0, 2) AND instr(name, ?) ORDER BY dir, name LIMIT ?",
            (CONFLICT_MARK, limit),
        )
        return self._copies([path_of(*row) for row in rows])

    def of(self, path: Path) -> list[Copy]:
        """The copies of what stands at a path, or the one copy that itself stands there."""
        rows = self._db.query(
            "SELECT dir, name FROM wanted WHERE source_dir = ?1 AND source_name = ?2"
            " UNION SELECT dir, name FROM wanted WHERE dir = ?1 AND kind IN (0, 2) AND instr(name, ?3)",
            (*columns(path), CONFLICT_MARK),
        )
        return [copy for copy in self._copies([path_of(*row) for row in rows]) if path in (copy.of, copy.path)]

    def _copies(self, paths: list[Path]) -> list[Copy]:
        found = []
        for path in paths:
            wanted = self._versions.wanted(path)
            if wanted is None:
                continue
            version = self._versions.wanted_version(wanted)
            of = wanted.source or _copied(path, version)
            if of is not None:
                found.append(Copy(path, of, version, wanted.vector, wanted.source is not None))
        return sorted(found, key=lambda copy: (copy.of, copy.version.dot))


def _copied(path: Path, version: Version) -> Path | None:
    """What a published copy is a copy of: a name that was cut is known by its origin only."""
    named = _NAME.fullmatch(path[-1])
    if named is None:
        return None
    if version.origin is not None and version.origin.path[:-1] == path[:-1]:
        return version.origin.path
    return (*path[:-1], named[1] + (named[2] or b""))
