"""History: one short row for every version ever admitted or published, so that a path's past is listed without decoding.

A row says when (its author's clock), who, what kind and how large; the record itself stays in its entry. Times are for
display and selection only. Whether a version's content can still be had is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2psync.catalog.rows import columns, path_of
from p2psync.ids import FeedId
from p2psync.index.paths import Path, join
from p2psync.index.versions import Dot, Kind, Version
from p2psync.limits import NAME_MAX
from p2psync.store.sqlite import Database

_BEHIND_ALL = b"\xff" * (NAME_MAX + 1)
"""Sorts after every path: no component is that long."""
_SELECT = (
    "SELECT past_path.id, past_path.dir, past_path.name, author.feed, seq, idx, time_ms, kind, size"
    " FROM past JOIN past_path ON past_path.id = past.path JOIN author ON author.id = past.author"
)
_NOTE = (
    "INSERT OR IGNORE INTO past (path, author, seq, idx, time_ms, kind, size)"
    " SELECT past_path.id, column3, column4, column5, column6, column7, column8 FROM (VALUES {rows}) AS noted"
    " CROSS JOIN past_path ON dir = column1 AND name = column2"
)


@dataclass(frozen=True, slots=True)
class Past:
    """One version as history lists it; `time_ms` is its author's."""

    path: Path
    dot: Dot
    time_ms: int
    kind: Kind
    size: int


class History:
    def __init__(self, database: Database) -> None:
        self._db = database

    def note(self, versions: Sequence[tuple[Version, int]]) -> None:
        """Write down versions, with their authors' times in ms, that were just admitted or published; one known already
        stays as it is."""
        places = [columns(version.path) for version, _ in versions]
        authors = {feed: self._author(feed) for feed in {version.dot.feed for version, _ in versions}}
        self._db.insert("INSERT OR IGNORE INTO past_path (dir, name) VALUES {rows}", places)
        self._db.insert(
            _NOTE,
            [
                (*place, authors[v.dot.feed], v.dot.seq, v.dot.index, min(time_ms, (1 << 63) - 1), v.kind, v.size)
                for place, (v, time_ms) in zip(places, versions, strict=True)
            ],
        )

    def _author(self, feed: FeedId) -> int:
        """The number of a feed, which gets one with its first version."""
        self._db.execute("INSERT OR IGNORE INTO author (feed) VALUES (?)", (feed,))
        return int(self._db.scalar("SELECT id FROM author WHERE feed = ?", (feed,)))

    def of_path(self, path: Path, limit: int = 1000) -> list[Past]:
        """The versions of a path, newest first."""
        rows = self._db.query(
            f"{_SELECT} WHERE past_path.dir = ? AND past_path.name = ? ORDER BY time_ms DESC, feed DESC, seq DESC LIMIT ?",
            (*columns(path), limit),
        )
        return [_past(row) for row in rows]

    def knows(self, path: Path, dot: Dot) -> bool:
        """Whether this version is listed under this path."""
        return bool(
            self._db.scalar(
                "SELECT EXISTS (SELECT 1 FROM past JOIN past_path ON past_path.id = past.path"
                " JOIN author ON author.id = past.author WHERE dir = ? AND name = ? AND feed = ? AND seq = ? AND idx = ?)",
                (*columns(path), dot.feed, dot.seq, dot.index),
            )
        )

    def of_tree(self, top: Path, limit: int = 1000) -> list[Past]:
        """The latest versions of everything below `top`, newest first. Looks at all of them."""
        rows = self._db.query(
            f"{_SELECT} WHERE past_path.dir = ? OR (past_path.dir >= ? AND past_path.dir < ?)"
            " ORDER BY time_ms DESC, feed DESC, seq DESC LIMIT ?",
            (join(top), *_below(top), limit),
        )
        return [_past(row) for row in rows]

    def version_at(self, path: Path, time_ms: int) -> Past | None:
        """The last version of a path by then; None when there was none yet."""
        row = self._db.query_one(
            f"{_SELECT} WHERE past_path.dir = ? AND past_path.name = ? AND time_ms <= ?"
            " ORDER BY time_ms DESC, feed DESC, seq DESC LIMIT 1",
            (*columns(path), time_ms),
        )
        return None if row is None else _past(row)

    def standing_at(self, top: Path, time_ms: int, after: Path | None, limit: int = 1000) -> list[Past]:
        """The last version by then of every path below `top` (itself included), in path order behind `after`; of a path
        that had none yet the latest, whose time says so."""
        behind = columns(after) if after is not None else (b"", b"")
        paths = self._db.query(
            "SELECT id FROM past_path WHERE (dir, name) > (?1, ?2) AND ((dir = ?3 AND name = ?4) OR dir = ?5"
            " OR (dir >= ?6 AND dir < ?7)) ORDER BY dir, name LIMIT ?8",
            (*behind, *(columns(top) if top else (b"", b"")), join(top), *_below(top), limit),
        )
        found: list[Past] = []
        for (number,) in paths:
            row = self._db.query_one(
                f"{_SELECT} WHERE past.path = ? ORDER BY time_ms > ?, time_ms DESC, feed DESC, seq DESC LIMIT 1",
                (number, time_ms),
            )
            if row is not None:
                found.append(_past(row))
        return found

    def by_authors(
        self, feeds: Iterable[FeedId], since_ms: int, after: int, limit: int = 1000
    ) -> list[tuple[int, Path]]:
        """(number, path) of paths that these feeds changed since then, by their own clocks; numbers above `after`."""
        wanted = list(feeds)
        marks = ", ".join("?" * len(wanted))
        rows = self._db.query(
            "SELECT DISTINCT past_path.id, dir, name FROM past JOIN past_path ON past_path.id = past.path"
            f" WHERE author IN (SELECT id FROM author WHERE feed IN ({marks})) AND time_ms >= ?"
            " AND past_path.id > ? ORDER BY past_path.id LIMIT ?",
            (*wanted, since_ms, after, limit),
        )
        return [(number, path_of(directory, name)) for number, directory, name in rows]

    def feeds_like(self, start: bytes) -> list[FeedId]:
        """Authors whose feed id starts with these bytes."""
        rows = self._db.query("SELECT feed FROM author WHERE substr(feed, 1, ?) = ?", (len(start), start))
        return [FeedId(feed) for (feed,) in rows]


def _below(top: Path) -> tuple[bytes, bytes]:
    """Bounds of the parents below `top`, joined, `top` itself left out."""
    return (join(top) + b"/", join(top) + b"0") if top else (b"\x01", _BEHIND_ALL)


def _past(row: tuple[object, ...]) -> Past:
    _, directory, name, feed, seq, index, time_ms, kind, size = row
    dot = Dot(FeedId(feed), seq, index)  # type: ignore[arg-type]
    return Past(path_of(directory, name), dot, time_ms, Kind(kind), size)  # type: ignore[arg-type]
