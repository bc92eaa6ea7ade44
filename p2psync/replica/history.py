"""History of a path: its versions as a user reads them, and where the content of each can still be had.

Owns the reading of records behind the catalog's short rows, and the judgement of `where`. Restores nothing. Synchronous;
runs in workers. Source: formats, "History".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from p2psync.catalog.history import Past
from p2psync.catalog.rows import Placed
from p2psync.errors import P2psyncError
from p2psync.ids import ChunkId, FeedId
from p2psync.index.paths import Path
from p2psync.index.records import decode_version, iterate_chunks
from p2psync.index.versions import Dot, Kind, Origin, Version
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context
from p2psync.replica.statements import Opened, held_statements


class Where(Enum):
    """Where a version's content can be had from now on."""

    HERE = "here"
    STORE = "store"
    """A pack that a store confirmed or another device announced."""
    DEVICE = "device"
    """No pack is known; a connected device may still have it."""
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """One line of history. `current`: it is what the folder says now; `waiting`: and this disk does not show it yet, as when
    the brake holds it. `version` is None when its record is gone."""

    past: Past
    version: Version | None
    where: Where
    reachable: bool
    current: bool
    waiting: bool

    @property
    def origin(self) -> Origin | None:
        return None if self.version is None else self.version.origin


class Records:
    """Reads versions out of the entries that carry them; the last entry is remembered, since neighbours share it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._opened: tuple[tuple[FeedId, int], Opened] | None = None

    def version(self, path: Path, dot: Dot) -> Version | None:
        """The version with this dot; None when its record is not here any more."""
        context = self._context
        held = context.catalog.versions.version(path, dot)
        if held is not None:
            return held
        try:
            data = self._record(dot)
            found = None if data is None else decode_version(data, dot)
        except (P2psyncError, IndexError):
            return None
        return found if found is not None and found.path == path else None

    def _record(self, dot: Dot) -> bytes | None:
        """Out of the entry it was written in, or of a snapshot that restates it."""
        opened, place = self._read(dot.feed, dot.seq), dot.index
        if opened is None:
            where = self._context.catalog.snapshots.restated_at(dot)
            if where is None:
                return None
            opened, place = self._read(dot.feed, where[0]), where[1]
        return None if opened is None else opened.statements[place].data

    def _read(self, feed: FeedId, seq: int) -> Opened | None:
        if self._opened is None or self._opened[0] != (feed, seq):
            data = self._context.catalog.feeds.entry(feed, seq)
            if data is None:
                return None
            self._opened = ((feed, seq), held_statements(self._context, data))
        return self._opened[1]


def list_history(context: Context, path: Path, limit: int) -> list[PastVersion]:
    """The versions of a path, or, for a directory or the root, of everything below it, newest first."""
    catalog = context.catalog
    records, found = Records(context), []
    rows = catalog.history.of_path(path, limit) if path else []
    if not path or any(row.kind is Kind.DIRECTORY for row in rows):
        rows = sorted(rows + catalog.history.of_tree(path, limit), key=lambda row: row.time_ms, reverse=True)[:limit]
    rows = sorted(rows + _without_record(context, path), key=lambda row: row.time_ms, reverse=True)[:limit]
    for row in rows:
        version = records.version(row.path, row.dot) or _kept_version(context, row.path, row.dot)
        found.append(_described(context, row, version))
    return found


def _without_record(context: Context, path: Path) -> list[Past]:
    """Local versions that no entry names under this path: a derived conflict copy has no record under its own name."""
    catalog, found = context.catalog, dict[Dot, Past]()
    for kept in catalog.kept.of_path(path) if path else []:
        dot = kept.placed.dot
        if not catalog.history.knows(path, dot):
            found[dot] = Past(path, dot, kept.kept_ms, kept.placed.kind, kept.size)
    return list(found.values())


def _described(context: Context, past: Past, version: Version | None) -> PastVersion:
    where = Where.NOWHERE if version is None else where_is(context, version)
    wanted = context.catalog.versions.wanted(past.path)
    reachable = {Where.HERE: True, Where.STORE: bool(context.stores), Where.DEVICE: True, Where.NOWHERE: False}[where]
    current = wanted is not None and wanted.dot == past.dot
    return PastVersion(
        past=past, version=version, where=where, reachable=reachable, current=current,
        waiting=current and context.catalog.needs.has(past.path),
    )  # fmt: skip


def where_is(context: Context, version: Version) -> Where:
    """The nearest place that should hold the whole content; what is found there is verified when it is read."""
    locations, content = context.catalog.locations, version.content
    if version.kind is not Kind.FILE or version.size == 0:
        return Where.HERE
    if context.catalog.bases.has(content) or context.catalog.kept.has_content(content):
        return Where.HERE
    rows = file_rows(context, version)
    chunks = [ChunkId(chunk) for chunk, _ in iterate_chunks(rows or content.chunks)]
    local = locations.all_local(chunks)
    away = [chunk for chunk in chunks if chunk not in local]
    if rows is not None and not away:
        return Where.HERE
    if all(locations.find(chunk) for chunk in away):
        return Where.STORE
    return Where.DEVICE if context.peers else Where.NOWHERE


def version_of(placed: Placed) -> Version:
    """The version a placed row was made from, as far as the row tells."""
    return Version(
        path=placed.path, dot=placed.dot, kind=placed.kind, vector=placed.vector, size=placed.fingerprint.size,
        mtime_ns=placed.fingerprint.mtime_ns, mode=placed.mode, target=placed.target, content=placed.content,
        xattrs=placed.xattrs.agreed,
        hash=placed.hash,
    )  # fmt: skip


def _kept_version(context: Context, path: Path, dot: Dot) -> Version | None:
    """What a local version still tells of a version whose record is gone."""
    return next((version_of(k.placed) for k in context.catalog.kept.of_path(path) if k.placed.dot == dot), None)
