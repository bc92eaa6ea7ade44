"""The catalog's versions against a model that keeps every version ever seen and computes all anew each time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.rows import NOTHING, Placed
from p2psync.crypto.hashing import content_hash
from p2psync.ids import FeedId, RecordHash
from p2psync.index.merge import Frontier, conflict_name, decide
from p2psync.index.paths import Path
from p2psync.index.records import decode_version, encode_version
from p2psync.index.versions import Content, Dot, Kind, Origin, Vector, Version, join_vectors

FEEDS = [FeedId(bytes([number]) * 32) for number in range(1, 4)]
PATHS: list[Path] = [(b"a.txt",), (b"d", b"b")]
SHORT = "UNKNOWN"
Row = tuple[Dot, Kind, Vector, Path | None]


def record(version: Version) -> tuple[Version, bytes]:
    data = encode_version(version)
    return decode_version(data, version.dot), data


class CatalogMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.catalog = Catalog(None)
        self.pool: list[tuple[Version, bytes]] = []
        self.applied: list[Version] = []
        self.known: dict[FeedId, set[int]] = {feed: set() for feed in FEEDS}
        self.seqs = dict.fromkeys(FEEDS, 0)
        self.placed: dict[Path, Placed] = {}
        self.given = 0

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()

    # What should be: from all versions, by the words of the formats.

    @staticmethod
    def outcome(versions: list[Version]) -> dict[Path, Row]:
        by_path: dict[Path, list[Version]] = defaultdict(list)
        for version in versions:
            by_path[version.path].append(version)
        settled = {(v.origin.path, v.origin.dot) for v in versions if v.origin is not None}
        rows: dict[Path, Row] = {}
        for path, all_versions in by_path.items():
            frontier = [v for v in all_versions if not any(other.covers(v) for other in all_versions)]
            found = decide(frontier)
            rows[path] = (found.winner.dot, found.winner.kind, found.vector, None)
        for path, all_versions in by_path.items():
            frontier = [v for v in all_versions if not any(other.covers(v) for other in all_versions)]
            for loser in decide(frontier).losers:
                if (path, loser.dot) in settled:
                    continue
                later = 0
                while (copy := (*path[:-1], conflict_name(path[-1], loser.mtime_ns, SHORT, later))) in rows:
                    later += 1
                rows[copy] = (loser.dot, loser.kind, loser.vector, path)
        return rows

    # What devices do.

    @rule(
        who=st.sampled_from(FEEDS), where=st.sampled_from([0, 0, 1, 2, 3, 4]), kind=st.sampled_from([Kind.FILE, *Kind]),
        content=st.integers(0, 2),
        mtime=st.integers(0, 1), arrives=st.integers(0, 3),
    )  # fmt: skip
    def write(self, who: FeedId, where: int, kind: Kind, content: int, mtime: int, arrives: int) -> None:
        """A device changes what it sees at some path, conflict copies and their names included."""
        seen = [self.pool[number][0] for number in self.known[who]]
        rows = self.outcome(seen)
        places = PATHS + sorted(path for path in rows if path not in PATHS)
        if where == 4:
            places = [(b"a.sync-conflict-19700101-00000%d-UNKNOWN.txt" % mtime,)]
        path = places[where % len(places)]
        self.seqs[who] += 1
        dot = Dot(who, self.seqs[who], content)
        _, _, base, source = rows.get(path, (None, None, {}, None))
        frontier = Frontier()
        for version in seen:
            if version.path == path:
                frontier = frontier.add(version)
        own = [v.vector for v in frontier.versions if v.dot.feed == who]
        origin = None if source is None else Origin(source, rows[path][0])
        body = content_hash(bytes([content])) + (content + 1).to_bytes(4, "big")
        is_file = kind is Kind.FILE
        made = Version(
            path=path, dot=dot, kind=kind, vector={**join_vectors([base, *own]), who: dot.seq}, origin=origin,
            size=content + 1 if is_file else 0, mtime_ns=mtime * 10**9 if is_file else 0,
            target=b"%d" % content if kind is Kind.SYMLINK else None,
            content=Content(chunks=body) if is_file else Content(),
        )  # fmt: skip
        self.known[who].add(len(self.pool))
        self.pool.append(record(made))
        if arrives:
            self.admit_batch([len(self.pool) - 1], True)

    @rule(who=st.sampled_from(FEEDS), other=st.sampled_from(FEEDS))
    def hear(self, who: FeedId, other: FeedId) -> None:
        self.known[who] |= self.known[other]

    @rule(numbers=st.lists(st.integers(0, 1000), min_size=1, max_size=6), forward=st.booleans())
    def admit(self, numbers: list[int], forward: bool) -> None:
        """Entries arrive, in any order between feeds; one batch is refreshed at its end."""
        if self.pool:
            self.admit_batch(numbers, forward)

    def admit_batch(self, numbers: list[int], forward: bool) -> None:
        batch = [self.pool[number % len(self.pool)] for number in numbers]
        with self.catalog.transaction():
            frontiers = self.catalog.versions.apply(batch)
            self.catalog.versions.refresh(dict(sorted(frontiers.items(), reverse=not forward)))
        queued = [need for path in frontiers if (need := self.catalog.needs.at(path)) is not None]
        assert all(need.id > self.given for need in queued), "whoever has gone through the queue sees what came since"
        for version, _ in batch:
            if version not in self.applied:
                self.applied.append(version)

    @rule(where=st.integers(0, 10), everything=st.booleans())
    def place(self, where: int, everything: bool) -> None:
        """The materialiser brings one wanted path, or all, to the disk."""
        rows = self.outcome(self.applied)
        for number, path in enumerate(sorted(rows)):
            if everything or number == where % len(rows):
                dot, kind, vector, _ = rows[path]
                self.put(
                    Placed(
                        path=path, dot=dot, hash=RecordHash(bytes(32)), kind=kind, vector=vector,
                        fingerprint=NOTHING._replace(size=dot.seq),
                    )
                )  # fmt: skip

    @precondition(lambda self: self.placed)
    @rule(where=st.integers(0, 10), keep=st.booleans())
    def disturb(self, where: int, keep: bool) -> None:
        """A placed row is forgotten, or is of another version than the wanted one."""
        path = sorted(self.placed)[where % len(self.placed)]
        if keep:
            self.put(replace(self.placed[path], vector={}))
        else:
            del self.placed[path]
            self.catalog.placed.forget(path)
            self.catalog.versions.check_need(path)

    def put(self, placed: Placed) -> None:
        self.placed[placed.path] = placed
        if placed.dot.seq % 2:
            self.catalog.placed.put(placed)
        else:
            self.catalog.placed.put_all([(placed, None)])
        self.catalog.versions.check_need(placed.path)

    # What must hold after every step.

    @invariant()
    def no_number_of_the_queue_is_given_twice(self) -> None:
        if hasattr(self, "catalog"):
            numbers = [need.id for live in (True, False) for need in self.catalog.needs.page(live, 0)]
            self.given = max([self.given, *numbers])

    @invariant()
    def wanted_is_the_outcome(self) -> None:
        if not hasattr(self, "catalog"):
            return
        versions, rows = self.catalog.versions, self.outcome(self.applied)
        held = self.catalog._db.query("SELECT dir, name FROM wanted")
        paths = {(*directory.split(b"/"), name) if directory else (name,) for directory, name in held}
        assert paths == set(rows)
        for path, row in rows.items():
            wanted = versions.wanted(path)
            assert wanted is not None
            assert (wanted.dot, wanted.kind, wanted.vector, wanted.source) == row
            assert versions.wanted_version(wanted).dot == wanted.dot
            if wanted.source is None:
                frontier = {v.dot for v in versions.frontier(path)}
                same_path = [v for v in self.applied if v.path == path]
                assert frontier == {v.dot for v in same_path if not any(o.covers(v) for o in same_path)}
            else:
                loser = versions.wanted_version(wanted)
                assert versions.copy_path(loser) == path

    @invariant()
    def need_is_exactly_where_wanted_and_placed_differ(self) -> None:
        if not hasattr(self, "catalog"):
            return
        rows = self.outcome(self.applied)
        expected = {}
        for path in {*rows, *self.placed}:
            row, placed = rows.get(path), self.placed.get(path)
            live = row is not None and row[1] is not Kind.DELETED
            if row is not None and live:
                if placed is None or (placed.dot, placed.vector) != (row[0], row[2]):
                    expected[path] = True
            elif placed is not None and (placed.live or (row is not None and placed.dot != row[0])):
                expected[path] = False
        queued = [need for live in (True, False) for need in self.catalog.needs.page(live, 0)]
        assert {need.path: need.live for need in queued} == expected
        assert self.catalog.totals.needed()[0] == len(expected)

    @invariant()
    def totals_are_the_sums_of_the_rows(self) -> None:
        if not hasattr(self, "catalog"):
            return
        scalar = self.catalog._db.scalar
        assert self.catalog.totals.get() == (
            scalar("SELECT coalesce(sum(size), 0) FROM wanted WHERE kind <> 3"),
            scalar("SELECT coalesce(sum(size), 0) FROM placed WHERE kind = 0"),
            scalar("SELECT count(*) FROM wanted WHERE source_dir IS NOT NULL"),
        )


CatalogMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestTheCatalogAgreesWithItsModel = CatalogMachine.TestCase
