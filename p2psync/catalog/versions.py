"""Versions and what is wanted: the frontier of every path and the outcome of merging it.

`apply` takes a version into its path's frontier; `refresh` recomputes what should stand at the touched paths, derived
conflict copies included, and keeps the `need` queue true. Decisions are `index/merge.py`'s; this is their bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2psync.catalog.frontiers import Frontiers
from p2psync.catalog.placed import PlacedFiles
from p2psync.catalog.queue import Queue, need_row
from p2psync.catalog.rows import Placed, columns, decode_vector, encode_vector, path_of
from p2psync.catalog.totals import Place, Totals
from p2psync.errors import BugError
from p2psync.ids import ChunkId, FeedId
from p2psync.index.merge import DerivedCopy, decide, derive_copies
from p2psync.index.paths import Path
from p2psync.index.versions import Dot, Kind, Vector, Version
from p2psync.planner.xattrs import Look
from p2psync.store.sqlite import Database

_UNWRITTEN: Mapping[Path, Placed] = {}
_WANTED = "dir, name, feed, seq, idx, kind, size, vector, source_dir, source_name, chunk"
_KNOWN = (
    "SELECT column1, column2 FROM {asked}"
    " WHERE EXISTS (SELECT 1 FROM wanted WHERE dir = column1 AND name = column2)"
    " OR EXISTS (SELECT 1 FROM placed WHERE dir = column1 AND name = column2)"
)
Row = tuple[object, ...]
"""The columns of a table, in order."""
_Winner = tuple[Path, Version, Vector]
"""What takes a path, with the vector that covers all of its state."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should stand at `path`. `source` is set for a derived conflict copy: the path whose loser it is."""

    path: Path
    dot: Dot
    kind: Kind
    size: int
    vector: Vector
    source: Path | None
    chunk: ChunkId | None
    """The first chunk of its content, if it has any."""


class Versions:
    def __init__(
        self, database: Database, placed: PlacedFiles, totals: Totals, short_device: Callable[[FeedId], str]
    ) -> None:
        """`short_device` gives a feed owner's seven-character id, for conflict names."""
        self._db, self._placed, self._totals, self._short_device = database, placed, totals, short_device
        self._frontiers, self._queue = Frontiers(database), Queue(database)
        self.left_alone: Callable[[Path, Wanted | None, Placed | None], bool] = lambda path, wanted, placed: False
        """Whether what is wanted at a path asks nothing of this disk, because of what this device keeps of the folder."""
        self.is_undecided: Callable[[Dot], bool] = lambda dot: False
        """Whether what stands on this disk by a version may only seem to be wanted no more: not all is read yet."""
        self.taken_in = 0
        """How often versions were taken in: read together with the queue it says whether there may be more."""
        self._settled_at: set[Path] = set()
        """Paths whose losers were settled since the last refresh."""

    def frontier(self, path: Path) -> list[Version]:
        return self._frontiers.of(path)

    def version(self, path: Path, dot: Dot) -> Version | None:
        """The version with this dot, if it is in the frontier of its path."""
        return self._frontiers.version(path, dot)

    def of_feed(self, path: Path, feed: FeedId) -> Version | None:
        """This feed's version in the frontier of a path; there is at most one, since a later one covers it."""
        return self._frontiers.of_feed(path, feed)

    def all_of_feed(self, paths: Sequence[Path], feed: FeedId) -> dict[Path, Version]:
        """`of_feed` for many paths, of those where there is one."""
        return self._frontiers.all_of_feed(paths, feed)

    def has_copies(self) -> bool:
        """Whether any derived conflict copy stands in this folder: mostly there is none, and much need not be asked."""
        return self._db.scalar("SELECT 1 FROM wanted WHERE source_dir IS NOT NULL LIMIT 1") is not None

    def _with_copies(self, paths: Sequence[Path]) -> set[Path]:
        """Those of these paths of which derived conflict copies stand."""
        rows = self._db.look_up(
            "SELECT DISTINCT source_dir, source_name FROM {asked}"
            " CROSS JOIN wanted ON source_dir = column1 AND source_name = column2",
            [columns(path) for path in paths],
        )
        return {path_of(*row) for row in rows}

    def losers(self, path: Path) -> list[Version]:
        """The versions of a path that stand as derived conflict copies beside it now."""
        rows = self._db.query(
            "SELECT feed, seq, idx FROM wanted WHERE source_dir = ? AND source_name = ? ORDER BY feed, seq",
            columns(path),
        )
        found = (self.version(path, Dot(FeedId(feed), seq, index)) for feed, seq, index in rows)
        return [version for version in found if version is not None]

    def lost_with(self, path: Path, losers: Sequence[Version]) -> list[Version]:
        """These losers, those that have names of their own already, and every version of the same state as one of them.

        A change of the path takes them all in: one that it left out could take the path's name from it later.
        """
        rows = self._db.query("SELECT feed, seq FROM settled WHERE dir = ? AND name = ?", columns(path))
        settled = {(feed, seq) for feed, seq in rows}
        if not settled and not losers:
            return []
        frontier = self.frontier(path)
        named = [v for v in decide(frontier).losers if (v.dot.feed, v.dot.seq) in settled] if frontier else []
        return [v for v in frontier if any(v.same_state(lost) for lost in (*losers, *named))]

    def copy_path(self, version: Version) -> Path | None:
        """Where the conflict copy of `version` stands, or would if another took its place; None: there is none."""
        row = self._db.query_one(
            "SELECT dir, name FROM wanted WHERE source_dir = ? AND source_name = ? AND feed = ? AND seq = ?",
            (*columns(version.path), version.dot.feed, version.dot.seq),
        )
        if row is not None:
            return path_of(*row)
        wanted = self.wanted(version.path)
        if wanted is None or wanted.dot != version.dot:
            return None  # published under its own name already, or equal to another version that stands
        made = derive_copies(
            [version], lambda v: self._short_device(v.dot.feed), lambda p: self._taken(p, version.path), set()
        )
        return made[0].path

    def apply(self, versions: Sequence[tuple[Version, bytes]]) -> dict[Path, tuple[Version, ...]]:
        """Take versions, with their records, into their paths' frontiers, one after another; returns those frontiers, for
        `refresh`, which must follow in the same transaction."""
        self.taken_in += 1
        settled = []
        for version, _ in versions:
            origin = version.origin
            if origin is not None and origin.path != version.path:
                self._settled_at.add(origin.path)
                settled.append((*columns(origin.path), origin.dot.feed, origin.dot.seq))
        if settled:
            self._db.executemany("INSERT OR IGNORE INTO settled (dir, name, feed, seq) VALUES (?, ?, ?, ?)", settled)
        return {path: frontier.versions for path, frontier in self._frontiers.add(versions).items()}

    def begin(self, frontier: Sequence[Row], wanted: Sequence[Row], size: int) -> None:
        """`apply` and `refresh` at paths that have no version yet, each once, for what this disk shows already: rows of
        `version` and of `wanted`, and how many bytes are wanted with them."""
        self.taken_in += 1
        self._frontiers.begin(frontier)
        self._begin_wanted(wanted, size)

    def refresh(self, frontiers: Mapping[Path, Sequence[Version]], written: Mapping[Path, Placed] = _UNWRITTEN) -> None:
        """Recompute what should stand at these paths, and the conflict copies they bring or displace. `written` are those
        rows of `placed` that the caller has just written.

        First every published winner takes its path, then the copies get names that are free: so the order of paths
        and of arrival does not matter.
        """
        losers: dict[Path, Sequence[Version] | None] = {}
        winners: list[_Winner] = []
        paths = list(frontiers) if self.has_copies() else []
        held, sources = self.wanted_all(paths), self._with_copies(paths)
        for path, frontier in frontiers.items():
            if frontier:
                before = held.get(path)
                if before is not None and before.source is not None:
                    losers.setdefault(before.source)
                if len(frontier) == 1:
                    winners.append((path, frontier[0], frontier[0].vector))
                    losers[path] = ()
                else:
                    outcome = decide(frontier)
                    winners.append((path, outcome.winner, outcome.vector))
                    losers[path] = outcome.losers
        self._set_winners(winners, written)
        for path in self._settled_at:
            losers.setdefault(path)
        self._settled_at = set()
        for path, known in losers.items():
            if known is not None:
                if known or path in sources:
                    self._refresh_copies(path, known)
            elif found := self.frontier(path):
                self._refresh_copies(path, decide(found).losers)

    def drop(self, gone: Sequence[tuple[Path, Dot]]) -> None:
        """Take versions out of frontiers that nothing takes the place of; where none is left nothing is wanted any more."""
        frontiers = self._frontiers.drop(gone)
        for path in (path for path, versions in frontiers.items() if not versions):
            place = columns(path)
            self._refresh_copies(path, ())
            self._db.execute("DELETE FROM settled WHERE dir = ? AND name = ?", place)
            held = self.wanted(path)
            if held is not None and held.source is None:
                self._remove_wanted(place)
            placed = self._placed.get(path)
            if placed is not None and not placed.live:
                self._placed.forget(path)
            self.check_need(path)
        self.refresh({path: versions for path, versions in frontiers.items() if versions})

    def _refresh_copies(self, path: Path, losers: Sequence[Version]) -> None:
        place = columns(path)
        held = {
            path_of(*row)
            for row in self._db.query("SELECT dir, name FROM wanted WHERE source_dir = ? AND source_name = ?", place)
        }
        copies: list[DerivedCopy] = []
        if losers:
            settled = {
                (feed, seq)
                for feed, seq in self._db.query("SELECT feed, seq FROM settled WHERE dir = ? AND name = ?", place)
            }
            dots = {v.dot for v in losers if (v.dot.feed, v.dot.seq) in settled}
            copies = derive_copies(
                losers, lambda v: self._short_device(v.dot.feed), lambda p: self._taken(p, path), dots
            )
        for stale in held - {copy.path for copy in copies}:
            self._remove_wanted(columns(stale))
            self.check_need(stale)
        for copy in copies:
            self._set_copy(copy.path, copy.loser, path)

    def _taken(self, path: Path, source: Path) -> bool:
        held = self.wanted(path)
        return held is not None and held.source != source

    def _set_winners(self, winners: Sequence[_Winner], written: Mapping[Path, Placed]) -> None:
        """The published version that takes each of these paths; what is needed goes to the end of the queue in this order."""
        places = [columns(winner[0]) for winner in winners]
        known = set(self._db.look_up(_KNOWN, places))
        held = [winner for winner, place in zip(winners, places, strict=True) if place in known]
        wanted = {winner[0]: _wanted_of(*winner, None) for winner in held}
        self._write_wanted(list(wanted.values()))
        placed = {**self._placed.get_all([path for path in wanted if path not in written]), **written}
        first: list[Row] = []
        needs: list[tuple[Place, Row | None]] = []
        size = 0
        for (path, version, vector), place in zip(winners, places, strict=True):
            if place in known:
                needs.append((place, self._need_row(path, wanted[path], placed.get(path))))
                continue
            dot, chunk = version.dot, _first_chunk(version)
            first.append((
                *place, dot.feed, dot.seq, dot.index, version.kind, version.size, encode_vector(vector), None, None, chunk,
            ))  # fmt: skip
            size += version.size
            needed = version.live and not self.left_alone(path, None, None)  # nothing is placed: only the path counts
            needs.append((place, need_row(place, True, version.size, chunk, None) if needed else None))
        self._begin_wanted(first, size)
        self._queue_up(needs, anew=True)

    def _begin_wanted(self, rows: Sequence[Row], size: int) -> None:
        self._db.insert(f"INSERT INTO wanted ({_WANTED}) VALUES {{rows}}", rows)
        self._totals.add_wanted([(Kind.FILE, size, False)])

    def _set_copy(self, path: Path, version: Version, source: Path) -> None:
        wanted = _wanted_of(path, version, version.vector, source)
        self._write_wanted([wanted])
        self.note_needs([(path, wanted, self._placed.get(path))], anew=True)

    def _write_wanted(self, wanted: Sequence[Wanted]) -> None:
        gone = [columns(each.path) for each in wanted]
        self._totals.add_wanted(((each.kind, each.size, each.source is not None) for each in wanted), gone)
        self._db.insert(_SET_WANTED, list(map(_wanted_row, wanted)))

    def _remove_wanted(self, place: tuple[bytes, bytes]) -> None:
        self._totals.add_wanted((), [place])
        self._db.execute("DELETE FROM wanted WHERE dir = ? AND name = ?", place)

    # What is wanted, and what follows for the disk.

    def wanted(self, path: Path) -> Wanted | None:
        row = self._db.query_one(f"SELECT {_WANTED} FROM wanted WHERE dir = ? AND name = ?", columns(path))
        return None if row is None else _wanted_in(row)

    def wanted_all(self, paths: Sequence[Path]) -> dict[Path, Wanted]:
        """`wanted` for many paths, of those where something is."""
        rows = self._db.look_up(
            f"SELECT {_WANTED} FROM {{asked}} CROSS JOIN wanted ON dir = column1 AND name = column2",
            [columns(path) for path in paths],
        )
        return {wanted.path: wanted for wanted in map(_wanted_in, rows)}

    def wanted_version(self, wanted: Wanted) -> Version:
        """The version behind a wanted row; for a derived copy, the loser as it stands at its source path."""
        found = self.version(wanted.source or wanted.path, wanted.dot)
        if found is None:
            raise BugError("a wanted row names a version that is in no frontier")
        return found

    def wanted_versions(self, wanted: Iterable[Wanted]) -> dict[Path, Version]:
        """`wanted_version` for many, by the paths where they are wanted."""
        keys = {each.path: (each.source or each.path, each.dot) for each in wanted}
        found = self._frontiers.versions(list(keys.values()))
        if not found.keys() >= set(keys.values()):
            raise BugError("a wanted row names a version that is in no frontier")
        return {path: found[key] for path, key in keys.items()}

    def check_need(self, path: Path) -> None:
        """Queue the path if the disk does not hold what is wanted; take it off the queue if it does."""
        self.note_need(path, self.wanted(path), self._placed.get(path))

    def note_need(self, path: Path, wanted: Wanted | None, placed: Placed | None) -> None:
        """`check_need` for whoever has just read or written both rows in this transaction."""
        self.note_needs([(path, wanted, placed)])

    def note_needs(self, states: Iterable[tuple[Path, Wanted | None, Placed | None]], *, anew: bool = False) -> None:
        """`note_need` for many paths, each once. With `anew`, for what was just taken in, see `Queue`."""
        rows = [(columns(path), self._need_row(path, wanted, placed)) for path, wanted, placed in states]
        self._queue_up(rows, anew=anew)

    def _queue_up(self, rows: Sequence[tuple[Place, Row | None]], *, anew: bool) -> None:
        """Queue these places, and take those off the queue that have no row."""
        self._queue.set([row for _, row in rows if row is not None], anew=anew)
        self._queue.drop([place for place, row in rows if row is None])

    def _need_row(self, path: Path, wanted: Wanted | None, placed: Placed | None) -> Row | None:
        """What stands in the queue for a path; None: nothing."""
        live = wanted is not None and wanted.kind is not Kind.DELETED
        if wanted is None and placed is not None and placed.live and self.is_undecided(placed.dot):
            needed = False
        elif wanted is None or not live:
            needed = placed is not None and (placed.live or (wanted is not None and placed.dot != wanted.dot))
            # A deletion of something this disk never held asks nothing of it.
        else:
            needed = placed is None or (placed.dot, placed.vector) != (wanted.dot, wanted.vector)
            needed = needed or (placed is not None and placed.xattrs.look is Look.OWED)
        if not needed or self.left_alone(path, wanted, placed):
            return None
        chunk = wanted.chunk if wanted is not None else None
        size = wanted.size if wanted is not None and live else 0
        return need_row(columns(path), live, size, chunk, _taker(wanted, placed))

    def copies_placed(self, path: Path) -> bool:
        """Whether every derived conflict copy of this path's losers stands on the disk."""
        rows = self._db.query(
            "SELECT dir, name FROM wanted WHERE source_dir = ? AND source_name = ?"
            " AND EXISTS (SELECT 1 FROM need WHERE need.dir = wanted.dir AND need.name = wanted.name)",
            columns(path),
        )
        return not rows


_SET_WANTED = (
    f"INSERT INTO wanted ({_WANTED}) VALUES {{rows}}"
    " ON CONFLICT (dir, name) DO UPDATE SET feed = excluded.feed,"
    " seq = excluded.seq, idx = excluded.idx, kind = excluded.kind, size = excluded.size, chunk = excluded.chunk,"
    " vector = excluded.vector, source_dir = excluded.source_dir, source_name = excluded.source_name"
)


def _wanted_of(path: Path, version: Version, vector: Vector, source: Path | None) -> Wanted:
    return Wanted(path, version.dot, version.kind, version.size, vector, source, _first_chunk(version))


def _first_chunk(version: Version) -> ChunkId | None:
    return ChunkId(version.content.chunks[:32]) if version.content.chunks else None


def _wanted_row(wanted: Wanted) -> tuple[object, ...]:
    dot, source = wanted.dot, wanted.source
    return (
        *columns(wanted.path), dot.feed, dot.seq, dot.index, wanted.kind, wanted.size, encode_vector(wanted.vector),
        *(columns(source) if source is not None else (None, None)), wanted.chunk,
    )  # fmt: skip


def _wanted_in(row: tuple[Any, ...]) -> Wanted:
    directory, name, feed, seq, index, kind, size, vector, source_dir, source_name, chunk = row
    source = None if source_dir is None else path_of(source_dir, source_name)
    dot = Dot(FeedId(feed), seq, index)
    return Wanted(path_of(directory, name), dot, Kind(kind), size, decode_vector(vector), source, chunk)


def _taker(wanted: Wanted | None, placed: Placed | None) -> FeedId | None:
    """Whose version would take the content away that stands here; None: nothing would be gone."""
    if wanted is None or placed is None or placed.kind is not Kind.FILE or not placed.content.chunks:
        return None
    same = wanted.kind is Kind.FILE and wanted.size == placed.fingerprint.size
    return None if same and wanted.chunk == placed.content.chunks[:32] else wanted.dot.feed
