"""The brake's tables: which feeds are held, how far each was accepted, and what a feed would take from this disk.

Counts only; whether that is too much is `planner/brake.py`'s decision.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.catalog.rows import columns, path_of
from p2psync.ids import FeedId
from p2psync.index.paths import Path
from p2psync.store.sqlite import Database

_COPIES_MAX = 64
"""Copies of a content that are looked at: thousands of equal files that all go must not be compared each with each."""


@dataclass(frozen=True, slots=True)
class Held:
    """A feed whose changes are not applied here, since `held_ms`; `files` is what they would take."""

    feed: FeedId
    accepted: int
    held_ms: int
    files: int


class Brake:
    def __init__(self, database: Database) -> None:
        self._db = database

    def takers(self) -> list[tuple[FeedId, int]]:
        """(feed, queued paths where its version would take content away from this disk)."""
        rows = self._db.query("SELECT takes, count(*) FROM need WHERE takes IS NOT NULL GROUP BY takes")
        return [(FeedId(feed), count) for feed, count in rows]

    def taken_paths(self, feed: FeedId, accepted: int, after: int, limit: int = 1000) -> list[tuple[int, Path]]:
        """(number, path) of those paths of one feed, numbers above `after`, where what is taken by an entry behind `accepted`
        stands nowhere else."""
        rows = self._db.query(
            "SELECT need.id, need.dir, need.name FROM need CROSS JOIN wanted USING (dir, name)"
            " LEFT JOIN placed USING (dir, name)"
            f" WHERE need.takes = ? AND need.id > ? AND wanted.seq > ? AND NOT {_STANDS_ELSEWHERE}"
            " ORDER BY need.id LIMIT ?",
            (feed, after, accepted, limit),
        )
        return [(number, path_of(directory, name)) for number, directory, name in rows]

    def accepted(self, feed: FeedId) -> int:
        """The last entry of a feed that was accepted whatever it takes."""
        return int(self._db.scalar("SELECT accepted FROM brake WHERE feed = ?", (feed,)) or 0)

    def held(self) -> list[Held]:
        rows = self._db.query(
            "SELECT feed, accepted, held_ms, files FROM brake WHERE held_ms IS NOT NULL ORDER BY feed"
        )
        return [Held(FeedId(feed), accepted, since, files) for feed, accepted, since, files in rows]

    def hold(self, feed: FeedId, files: int, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO brake (feed, held_ms, files) VALUES (?1, ?2, ?3) ON CONFLICT (feed) DO UPDATE"
            " SET held_ms = coalesce(held_ms, ?2), files = ?3",
            (feed, now_ms, files),
        )

    def release(self, feed: FeedId, accepted: int | None = None) -> None:
        """Hold a feed no longer; with `accepted`, up to that entry whatever it takes."""
        self._db.execute(
            "UPDATE brake SET held_ms = NULL, files = 0, accepted = max(accepted, coalesce(?2, 0)) WHERE feed = ?1",
            (feed, accepted),
        )

    def stands_elsewhere(self, path: Path) -> bool:
        """Whether what is placed at `path` also stands, or is about to stand, at another path: then nothing is lost."""
        query = f"SELECT 1 FROM placed WHERE dir = ? AND name = ? AND {_STANDS_ELSEWHERE}"
        return self._db.scalar(query, columns(path)) is not None


_FIRST = "(SELECT prefix FROM file_chunk WHERE file_chunk.placed = placed.id AND position = 0)"
_STANDS_ELSEWHERE = (
    "(EXISTS (SELECT 1 FROM"
    f"  (SELECT placed AS other FROM file_chunk WHERE prefix = {_FIRST} AND position = 0 AND placed <> placed.id"
    f"   LIMIT {_COPIES_MAX}) JOIN placed AS copy ON copy.id = other WHERE copy.size = placed.size"
    "  AND NOT EXISTS (SELECT 1 FROM need AS gone WHERE gone.dir = copy.dir AND gone.name = copy.name"
    "   AND gone.takes IS NOT NULL))"
    f" OR EXISTS (SELECT 1 FROM need AS coming WHERE coming.prefix = {_FIRST} AND coming.live = 1"
    "  AND coming.size = placed.size))"
)
"""Of a row of `placed`: whether another file of its size with the same first chunk stays, or is about to come."""
