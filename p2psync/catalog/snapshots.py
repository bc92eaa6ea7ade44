"""Snapshots of feeds: which have come and how far, what they restate, and what they left out.

Bookkeeping only: what a snapshot means is decided in `replica/restating.py` and `replica/compaction.py`. Source: formats,
"Snapshots".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from p2psync.catalog.rows import columns, path_of
from p2psync.ids import FeedId
from p2psync.index.paths import Path
from p2psync.index.versions import Dot, Vector
from p2psync.store.sqlite import Database

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Underway:
    """A snapshot of which parts have come. `behind`: the last entry held before its first part was taken in."""

    first: int
    behind: int
    parts: int


class Snapshots:
    def __init__(self, database: Database) -> None:
        self._db = database

    def newest(self, feed: FeedId) -> tuple[int, int] | None:
        """(first, last) entry of a feed's newest complete snapshot."""
        return self._db.query_one(
            "SELECT first, last FROM snapshot WHERE feed = ? AND last > 0 ORDER BY first DESC LIMIT 1", (feed,)
        )

    def all_newest(self) -> dict[FeedId, tuple[int, int]]:
        """`newest` of every feed that has one."""
        rows = self._db.query("SELECT feed, first, last FROM snapshot WHERE last > 0 ORDER BY first")
        return {FeedId(feed): (first, last) for feed, first, last in rows}

    def is_partial(self, feed: FeedId) -> bool:
        """Whether parts of the feed's newest snapshot have not come yet."""
        last = self._db.scalar("SELECT last FROM snapshot WHERE feed = ? ORDER BY first DESC LIMIT 1", (feed,))
        return bool(last == 0)

    def underway(self, feed: FeedId, first: int) -> Underway | None:
        """What is known of an incomplete snapshot."""
        row = self._db.query_one(
            "SELECT first, behind, parts FROM snapshot WHERE feed = ? AND first = ? AND last = 0", (feed, first)
        )
        return None if row is None else Underway(*row)

    def note(self, feed: FeedId, snapshot: Underway, last: int = 0) -> None:
        """Write down how far a snapshot is here; with `last` it is complete."""
        self._db.execute(
            "INSERT INTO snapshot (feed, first, last, behind, parts, attended)"
            " VALUES (?, ?, ?, ?, ?, coalesce((SELECT seconds FROM attended), 0))"
            " ON CONFLICT (feed, first) DO UPDATE SET last = excluded.last, parts = excluded.parts",
            (feed, snapshot.first, last, snapshot.behind, snapshot.parts),
        )

    def note_seen(self, feed: FeedId, first: int, seen: Vector) -> None:
        """How far its author had seen the other feeds."""
        self._db.executemany(
            "INSERT OR REPLACE INTO snapshot_seen (feed, first, other, seq) VALUES (?, ?, ?, ?)",
            [(feed, first, other, seq) for other, seq in seen.items()],
        )

    def seen(self, feed: FeedId, first: int) -> Vector:
        rows = self._db.query("SELECT other, seq FROM snapshot_seen WHERE feed = ? AND first = ?", (feed, first))
        return {FeedId(other): seq for other, seq in rows}

    def note_restated(self, dots: Iterable[tuple[Dot, int]], part: int) -> None:
        """The records of versions (dot, place) stand in the entry `part` of their feed."""
        self._db.executemany(
            "INSERT INTO restated (feed, seq, idx, part, place) VALUES (?1, ?2, ?3, ?4, ?5)"
            " ON CONFLICT (feed, seq, idx) DO UPDATE SET part = ?4, place = ?5",
            ((dot.feed, dot.seq, dot.index, part, place) for dot, place in dots),
        )

    def restated_at(self, dot: Dot) -> tuple[int, int] | None:
        """(entry of the feed, place in it) of a snapshot's part that restates a version."""
        return self._db.query_one(
            "SELECT part, place FROM restated WHERE feed = ? AND seq = ? AND idx = ?", (dot.feed, dot.seq, dot.index)
        )

    # What a snapshot leaves out.

    def unsettled(self) -> list[tuple[FeedId, int]]:
        """(feed, first entry) of newest snapshots that are complete and of which no consequences were drawn yet."""
        rows = self._db.query(
            "SELECT feed, first FROM snapshot s WHERE last > 0 AND settled = 0"
            " AND NOT EXISTS (SELECT 1 FROM snapshot n WHERE n.feed = s.feed AND n.last > 0 AND n.first > s.first)"
        )
        return [(FeedId(feed), first) for feed, first in rows]

    def is_undecided(self, dot: Dot) -> bool:
        """Whether a snapshot that is not settled yet may leave this version out, or may have passed over what replaced it."""
        return self._undecided(dot.feed) > dot.seq

    def _undecided(self, feed: FeedId) -> int:
        return int(
            self._db.scalar("SELECT coalesce(max(first), 0) FROM snapshot WHERE feed = ? AND settled = 0", (feed,))
        )

    def settle(self, feed: FeedId, first: int) -> None:
        """The consequences of this snapshot, and of those before it, were drawn; what only they restated is not kept."""
        self._db.execute("UPDATE snapshot SET settled = 1 WHERE feed = ? AND first <= ?", (feed, first))
        self._db.execute("DELETE FROM restated WHERE feed = ? AND part < ?", (feed, first))
        self._db.execute("DELETE FROM snapshot_seen WHERE feed = ? AND first < ?", (feed, first))

    def left_out(self, feed: FeedId, first: int) -> list[tuple[Path, Dot]]:
        """Versions in frontiers that stood before a snapshot of their feed and are not in it."""
        rows = self._db.query(
            "SELECT dir, name, seq, idx FROM version v WHERE feed = ?1 AND seq < ?2 AND NOT EXISTS"
            " (SELECT 1 FROM restated r WHERE r.feed = ?1 AND r.seq = v.seq AND r.idx = v.idx AND r.part >= ?2)",
            (feed, first),
        )
        return [(path_of(directory, name), Dot(feed, seq, index)) for directory, name, seq, index in rows]

    def placed_before(self, feed: FeedId, first: int) -> list[Path]:
        """Paths where this disk shows something by an entry of the feed before `first`, although nothing is wanted there."""
        rows = self._db.query(
            "SELECT dir, name FROM placed WHERE feed = ? AND seq < ? AND NOT EXISTS"
            " (SELECT 1 FROM wanted WHERE wanted.dir = placed.dir AND wanted.name = placed.name)",
            (feed, first),
        )
        return [path_of(directory, name) for directory, name in rows]

    def settled_for(self, seconds: float) -> dict[FeedId, tuple[int, int]]:
        """(first, last) entry of each feed's newest snapshot that has stood settled for so much attended time."""
        rows = self._db.query(
            "SELECT feed, first, last FROM snapshot WHERE settled = 1 AND last > 0"
            " AND coalesce((SELECT seconds FROM attended), 0) - attended >= ? ORDER BY first",
            (seconds,),
        )
        return {FeedId(feed): (first, last) for feed, first, last in rows}

    def holds_before(self, feed: FeedId, first: int) -> bool:
        """Whether an entry of a feed before this one is held."""
        return self._db.scalar("SELECT 1 FROM entry WHERE feed = ? AND seq < ? LIMIT 1", (feed, first)) is not None

    def forget(self, feed: FeedId, first: int) -> int:
        """Delete the entries of a feed before one of its snapshots; returns how many there were."""
        self._db.execute("DELETE FROM inline_chunk WHERE feed = ? AND seq < ?", (feed, first))
        return self._db.execute("DELETE FROM entry WHERE feed = ? AND seq < ?", (feed, first))

    def passed_over(self) -> bool:
        """Whether anything known here came from a snapshot that stood for entries this device never read."""
        return self._db.scalar("SELECT 1 FROM snapshot WHERE behind < first - 1 LIMIT 1") is not None

    # What a snapshot must hold.

    def frontier_size(self, feed: FeedId) -> tuple[int, int]:
        """(count, bytes) of a feed's versions in frontiers. Looks at all versions."""
        return self._db.query_one(
            "SELECT count(*), coalesce(sum(length(data)), 0) FROM version WHERE feed = ?", (feed,)
        ) or (0, 0)

    def frontier_of(self, feed: FeedId) -> Iterator[tuple[Dot, int, bytes]]:
        """A feed's versions in frontiers, by path: (dot, its author's time in ms, record)."""
        after = (b"", b"")
        while rows := self._db.query(
            "SELECT v.dir, v.name, v.seq, v.idx, v.data, coalesce((SELECT time_ms FROM past WHERE past.seq = v.seq"
            " AND author = (SELECT id FROM author WHERE author.feed = v.feed) AND path ="
            " (SELECT id FROM past_path p WHERE p.dir = v.dir AND p.name = v.name)), 0)"
            " FROM version v WHERE v.feed = ? AND (v.dir, v.name) > (?, ?) ORDER BY v.dir, v.name LIMIT ?",
            (feed, *after, _PAGE),
        ):
            yield from ((Dot(feed, seq, index), time_ms, data) for _, _, seq, index, data, time_ms in rows)
            after = rows[-1][:2]

    def in_frontier(self, path: Path, feed: FeedId, seq: int) -> tuple[Dot, bytes] | None:
        """(dot, record) of this feed's version of a path from its entry `seq`, if no other covers it."""
        row = self._db.query_one(
            "SELECT idx, data FROM version WHERE dir = ? AND name = ? AND feed = ? AND seq = ?",
            (*columns(path), feed, seq),
        )
        return None if row is None else (Dot(feed, seq, row[0]), row[1])

    def reaches_beyond(self, path: Path) -> bool:
        """Whether versions that are gone from this path's frontier covered more than what is left of it."""
        return self._db.scalar("SELECT 1 FROM beyond WHERE dir = ? AND name = ?", columns(path)) is not None

    def frontier_records(self) -> Iterator[tuple[Dot, bytes]]:
        """Every version in a frontier."""
        after: tuple[bytes, bytes, bytes, int] = (b"", b"", b"", -1)
        while rows := self._db.query(
            "SELECT dir, name, feed, seq, idx, data FROM version WHERE (dir, name, feed, seq) > (?, ?, ?, ?)"
            " ORDER BY dir, name, feed, seq LIMIT ?",
            (*after, _PAGE),
        ):
            yield from ((Dot(FeedId(feed), seq, index), data) for _, _, feed, seq, index, data in rows)
            after = rows[-1][:4]

    # Which entries are held.

    def entry_bytes(self, feed: FeedId, after: int) -> tuple[int, int]:
        """(entries, bytes) held of a feed behind `after`."""
        return self._db.query_one(
            "SELECT count(*), coalesce(sum(length(data)), 0) FROM entry WHERE feed = ? AND seq > ?", (feed, after)
        ) or (0, 0)

    def known_up_to(self, feed: FeedId, after: int) -> int:
        """The last entry held of a feed up to `after`: 0 when what it said by then is here by a later snapshot alone."""
        return int(
            self._db.scalar("SELECT coalesce(max(seq), 0) FROM entry WHERE feed = ? AND seq <= ?", (feed, after))
        )

    def unbroken_from(self, feed: FeedId) -> int:
        """The first of the entries held without a gap up to the feed's last; 0 when none is held."""
        return int(
            self._db.scalar(
                "SELECT coalesce(max(seq), 0) FROM entry e WHERE feed = ?1"
                " AND NOT EXISTS (SELECT 1 FROM entry WHERE feed = ?1 AND seq = e.seq - 1)",
                (feed,),
            )
        )
