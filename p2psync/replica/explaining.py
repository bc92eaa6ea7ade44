"""What this device knows of one path, for a user who asks why it is as it is.

Reads the catalog and looks at the disk; decides and changes nothing. What it says is true of the moment it looked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from p2psync.catalog.rows import Placed
from p2psync.ids import ChunkId, FeedId, IdentityKey
from p2psync.index.merge import decide
from p2psync.index.paths import Path, is_internal, show
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Dot, Kind, Version
from p2psync.planner.shaping import FolderType
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context, pack_subject
from p2psync.replica.filesystem import Kind as DiskKind
from p2psync.replica.filesystem import Stat
from p2psync.replica.scanner import KINDS, fingerprint_of
from p2psync.replica.xattrs import flaw

_CHUNKS_MOST = 100_000
"""Chunks looked up one by one; what a larger file lacks is not counted further."""


Knowing = Callable[[Dot], frozenset[str]]
"""Which connected stores and devices, by name, hold the entry of a version."""


class Disk(StrEnum):
    """What the disk shows, compared with what was last agreed."""

    AGREED = "as agreed"
    CHANGED = "changed since"
    NOTHING = "nothing"
    UNREADABLE = "cannot be read"
    FOREIGN = "not synced"
    """A special file, or one of the product's own names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVersion:
    """A version that no other covers. `stands_at` is where it should stand: its path, or that of its conflict copy."""

    dot: Dot
    author: IdentityKey | None
    kind: Kind
    size: int
    mtime_ns: int
    stands_at: Path | None
    aware: frozenset[IdentityKey]
    """Members that have said they know of it."""
    known_to: frozenset[str]
    """Connected stores and devices, by name, that hold its entry."""


@dataclass(slots=True, kw_only=True)
class Lacking:
    """Content that must still come to this disk, chunks that another file or an entry here holds not counted."""

    chunks: int = 0
    bytes: int = 0
    of_chunks: int = 0
    in_stores: int = 0
    """Of those, chunks that packs of a store are known to hold."""
    troubles: list[str] = field(default_factory=list)
    """Why packs that hold some of them could not be read, one sentence each."""
    list_missing: bool = False
    """Not even the list of its chunks is here yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    path: Path
    disk: Disk
    held: Dot | None
    """The version this disk last agreed with."""
    versions: tuple[KnownVersion, ...]
    """The newest first; more than one means a conflict."""
    deleted: bool
    """The outcome is a deletion."""
    needed: bool
    """This disk does not hold the outcome yet."""
    lacking: Lacking
    upload_bytes: int
    """Of the outcome's content, waiting to go to a store."""
    reasons: tuple[str, ...]
    """Standing problems with the path or a directory above it."""


def explain(context: Context, path: Path, knowing: Knowing) -> Explained:
    """Everything known of `path`, a path inside the folder."""
    with context.tree:
        catalog = context.catalog
        placed, disk = catalog.placed.get(path), _disk(context, path)
        frontier = catalog.versions.frontier(path) if path else []
        versions, winner = _known(context, path, frontier, knowing)
        needed = bool(path) and catalog.needs.has(path)
        lacking, upload = Lacking(), 0
        if winner is not None and winner.kind is Kind.FILE:
            rows = file_rows(context, winner)
            upload = 0 if rows is None else _upload(context, rows)
            if needed and not _same(placed, winner):
                lacking = _lacking(context, rows)
        return Explained(
            path=path, disk=disk, held=placed.dot if placed is not None and placed.live else None, versions=versions,
            deleted=winner is not None and not winner.live, needed=needed, lacking=lacking, upload_bytes=upload,
            reasons=_reasons(context, path),
        )  # fmt: skip


def _same(placed: Placed | None, winner: Version) -> bool:
    return placed is not None and placed.same_state(winner)


def _disk(context: Context, path: Path) -> Disk:
    if any(is_internal(name) for name in path):
        return Disk.FOREIGN
    if context.opened is None:
        return Disk.UNREADABLE
    try:
        stat = context.opened.stat(path) if path else None
    except OSError:
        return Disk.UNREADABLE
    if stat is None:
        return Disk.AGREED if not path else Disk.NOTHING
    if stat.kind is DiskKind.OTHER:
        return Disk.FOREIGN
    return Disk.AGREED if _agrees(context, path, stat) else Disk.CHANGED


def _agrees(context: Context, path: Path, stat: Stat) -> bool:
    placed = context.catalog.placed.get(path)
    if placed is None or placed.kind is not KINDS[stat.kind]:
        return False
    if placed.kind is Kind.DIRECTORY:
        return placed.mode == stat.mode & 0o777
    return placed.fingerprint == fingerprint_of(stat)


def _known(
    context: Context, path: Path, frontier: list[Version], knowing: Knowing
) -> tuple[tuple[KnownVersion, ...], Version | None]:
    """The versions of the path's frontier, the winner first; of a derived conflict copy, the one that stands there."""
    versions, authors = context.catalog.versions, _authors(context)
    wanted = versions.wanted(path) if path else None
    if wanted is not None and wanted.source is not None:
        version = versions.wanted_version(wanted)
        return (_describe(context, version, authors, path, knowing),), version
    if not frontier:
        return (), None
    winner = decide(frontier).winner
    ordered = [winner, *(version for version in frontier if version is not winner)]
    places = [path, *(versions.copy_path(version) if version.live else None for version in ordered[1:])]
    return tuple(_describe(context, v, authors, p, knowing) for v, p in zip(ordered, places, strict=True)), winner


def _authors(context: Context) -> dict[FeedId, IdentityKey]:
    return {state.feed: state.identity for state in context.catalog.feeds.states() if state.identity is not None}


def _describe(
    context: Context, version: Version, authors: dict[FeedId, IdentityKey], place: Path | None, knowing: Knowing
) -> KnownVersion:
    dot, feeds = version.dot, context.catalog.feeds
    aware = {
        owner for feed, owner in authors.items() if feed == dot.feed or feeds.seen(feed).get(dot.feed, 0) >= dot.seq
    }
    return KnownVersion(
        dot=dot, author=authors.get(dot.feed), kind=version.kind, size=version.size, mtime_ns=version.mtime_ns,
        stands_at=place, aware=frozenset(aware), known_to=knowing(dot),
    )  # fmt: skip


def _upload(context: Context, rows: bytes) -> int:
    locations = context.catalog.locations
    return sum(length for chunk, length in _first(rows) if locations.is_queued(ChunkId(chunk)))


def _lacking(context: Context, rows: bytes | None) -> Lacking:
    lacking, troubles = Lacking(), list[str | None]()
    if rows is None:
        lacking.list_missing = True
        return lacking
    locations, chunks = context.catalog.locations, list(_first(rows))
    local = locations.all_local([ChunkId(chunk) for chunk, _ in chunks])
    for chunk, length in chunks:
        lacking.of_chunks += 1
        if chunk in local:
            continue
        lacking.chunks += 1
        lacking.bytes += length
        packs = [location.pack for location in locations.find(ChunkId(chunk))]
        lacking.in_stores += bool(packs)
        troubles += (context.trouble.get(pack_subject(pack)) for pack in packs)
    lacking.troubles = [sentence for sentence in dict.fromkeys(troubles) if sentence is not None]
    return lacking


def _first(rows: bytes) -> Iterable[tuple[bytes, int]]:
    return islice(iterate_chunks(rows), _CHUNKS_MOST)


def _reasons(context: Context, path: Path) -> tuple[str, ...]:
    placed = context.catalog.placed
    found: list[str] = []
    for depth in range(1, len(path) + 1):
        above = path[:depth]
        reason = placed.problem(above) or context.refused.get(above)
        if reason is not None:
            found.append(reason if depth == len(path) else f"{show(above)}: {reason}")
    if path and (reason := flaw(context, path)) is not None:
        found.append(reason)
    return (*found, *_left_alone(context, path))


def _left_alone(context: Context, path: Path) -> list[str]:
    """Why this disk differs from the folder on purpose."""
    found, catalog, shape = list[str](), context.catalog, context.shape
    row, wanted = catalog.placed.get(path), catalog.versions.wanted(path) if path else None
    verdict = shape.verdict(path)
    if shape.ignores(path, None if row is None else row.kind):
        found.append(f"ignored by {verdict.rule}" if verdict.rule is not None else "ignored: it is an ignore file")
    if (noted := catalog.local_changes.get(path)) is not None and not context.publishes:
        found.append(
            f"{noted.change.value} here, and nothing is published: p2psync folder revert takes the folder's state"
        )
    if not shape.type.writes and path and catalog.needs.has(path):
        found.append(
            "differs because this folder is send-only here: p2psync folder override publishes what stands here"
        )
    if wanted is not None and wanted.kind is Kind.DELETED and row is not None and row.live and not verdict.ignored:
        found += ["deleted by another device and kept, because this folder is an archive"] * (
            shape.type is FolderType.ARCHIVE
        )
    return found
