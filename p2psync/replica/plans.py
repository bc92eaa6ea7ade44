"""What is to be done about one queued path: its step, and what is needed to take it.

Looks at the catalog and the disk, decides with `planner/steps.py`, changes nothing; `materialiser.py` carries plans out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2psync.catalog.rows import NOTHING, Fingerprint, Placed
from p2psync.catalog.versions import Wanted
from p2psync.index.paths import Path
from p2psync.index.versions import Dot, Kind, Version
from p2psync.planner.steps import Step, decide_step
from p2psync.planner.xattrs import NOTHING_HELD, HeldXattrs
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Stat
from p2psync.replica.scanner import KINDS, fingerprint_of
from p2psync.replica.xattrs import planned


@dataclass(slots=True, kw_only=True)
class Plan:
    """One path to bring into its wanted state. `version` is None when nothing is wanted there any more."""

    path: Path
    step: Step
    wanted: Wanted | None
    version: Version | None
    base: Placed | None
    rows: bytes = b""
    temp: Fingerprint = NOTHING
    """Set once the temp is complete."""
    text: bool = True
    """Whether it may be text: False once its beginning was seen and was not."""
    whole: bytes | None = None
    """Its content, if it is small and came here: it is wanted once more when the file is placed."""
    source: Placed | None = None
    """For a rename: the placed file that can simply be moved here."""
    xattrs: HeldXattrs = NOTHING_HELD
    """What its row will say of its extended attributes; what is carried out may find that less was possible."""

    @property
    def dot(self) -> Dot | None:
        return self.wanted.dot if self.wanted is not None else None

    @property
    def size(self) -> int:
        return self.version.size if self.version is not None else 0


class Sight:
    """What the catalog says of a page of queued paths and what the disk shows there, looked at together."""

    def __init__(self, context: Context, paths: Sequence[Path]) -> None:
        catalog, self._filesystem = context.catalog, context.filesystem
        with catalog.reading():  # entries are admitted by another thread meanwhile
            self.wanted, self.placed = catalog.versions.wanted_all(paths), catalog.placed.get_all(paths)
            self.versions = catalog.versions.wanted_versions(self.wanted.values())
            came_from = (version.origin.path for version in self.versions.values() if version.origin is not None)
            origins = [path for path in dict.fromkeys(came_from) if path not in self.wanted]
            self.placed |= catalog.placed.get_all(origins)
            self.wanted |= catalog.versions.wanted_all(origins)
        self._stats = self._filesystem.stats([*paths, *origins])
        self.context = context

    def wants_directory(self, path: Path) -> bool:
        wanted = self.wanted.get(path)
        return wanted is not None and wanted.kind is Kind.DIRECTORY

    def stat(self, path: Path) -> Stat | None:
        return self._stats[path] if path in self._stats else self._filesystem.stat(path)


def plan_path(sight: Sight, path: Path) -> Plan:
    """Decide the step for a queued path."""
    wanted, base, version = sight.wanted.get(path), sight.placed.get(path), sight.versions.get(path)
    context, stat = sight.context, sight.stat(path)
    live = wanted is not None and wanted.kind is not Kind.DELETED
    step = decide_step(
        wanted=wanted.kind if wanted is not None else None,
        placed=base.kind if base is not None else None,
        disk=KINDS.get(stat.kind, Kind.FILE) if stat is not None else None,
        as_placed=stat is not None and base is not None and as_placed(base, stat),
        same_content=live and base is not None and version is not None and base.same_state(version),
        same_meta=base is not None and version is not None and _same_meta(context, base, version),
    )
    xattrs = planned(context, base, version, in_place=step in (Step.META, Step.RECORD))
    return Plan(path=path, step=step, wanted=wanted, version=version, base=base, xattrs=xattrs)


def as_placed(base: Placed, stat: Stat) -> bool:
    """Whether the disk shows exactly what was placed."""
    if KINDS.get(stat.kind) is not base.kind:
        return False
    return base.kind is Kind.DIRECTORY or base.fingerprint == fingerprint_of(stat)


def _same_meta(context: Context, base: Placed, version: Version) -> bool:
    if base.kind is Kind.SYMLINK:
        return True
    if context.shape.xattrs and not base.xattrs.has(version.xattrs):
        return False
    return base.mode == version.mode and (base.kind is Kind.DIRECTORY or base.fingerprint.mtime_ns == version.mtime_ns)
