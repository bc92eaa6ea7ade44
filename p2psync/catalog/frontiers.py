"""Frontiers: of every path the versions that no other covers, as records, and what has been covered beyond them.

The tables `version` and `beyond`. What a frontier is and how it grows is `index/merge.py`'s; what follows for the disk is
`versions.py`'s. Records are checked before they come here and are not checked again when they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2psync.catalog.rows import columns, path_of
from p2psync.ids import FeedId
from p2psync.index.merge import Frontier
from p2psync.index.paths import Path
from p2psync.index.records import recall_version
from p2psync.index.versions import Dot, Vector, Version
from p2psync.store.sqlite import Database

_INSERT = "INSERT INTO version (dir, name, feed, seq, idx, data) VALUES {rows}"


class Frontiers:
    def __init__(self, database: Database) -> None:
        self._db = database

    def of(self, path: Path) -> list[Version]:
        rows = self._db.query("SELECT feed, seq, idx, data FROM version WHERE dir = ? AND name = ?", columns(path))
        return [recall_version(data, Dot(FeedId(feed), seq, index)) for feed, seq, index, data in rows]

    def version(self, path: Path, dot: Dot) -> Version | None:
        """The version with this dot, if it is in the frontier of its path."""
        row = self._db.query_one(
            "SELECT data FROM version WHERE dir = ? AND name = ? AND feed = ? AND seq = ?",
            (*columns(path), dot.feed, dot.seq),
        )
        return None if row is None else recall_version(row[0], dot)

    def versions(self, wanted: Sequence[tuple[Path, Dot]]) -> dict[tuple[Path, Dot], Version]:
        """`version` for many, of those that are there."""
        rows = self._db.look_up(
            "SELECT dir, name, version.feed, version.seq, idx, data FROM {asked}"
            " CROSS JOIN version ON dir = column1 AND name = column2 AND feed = column3 AND seq = column4",
            [(*columns(path), dot.feed, dot.seq) for path, dot in wanted],
        )
        found = {}
        for directory, name, feed, seq, index, data in rows:
            dot = Dot(FeedId(feed), seq, index)
            found[path_of(directory, name), dot] = recall_version(data, dot)
        return found

    def of_feed(self, path: Path, feed: FeedId) -> Version | None:
        """This feed's version in the frontier of a path; there is at most one, since a later one covers it."""
        row = self._db.query_one(
            "SELECT seq, idx, data FROM version WHERE dir = ? AND name = ? AND feed = ?", (*columns(path), feed)
        )
        return None if row is None else recall_version(row[2], Dot(feed, row[0], row[1]))

    def all_of_feed(self, paths: Sequence[Path], feed: FeedId) -> dict[Path, Version]:
        """`of_feed` for many paths, of those where there is one."""
        rows = self._db.look_up(
            "SELECT dir, name, seq, idx, data FROM {asked}"
            " CROSS JOIN version ON dir = column1 AND name = column2 AND feed = column3",
            [(*columns(path), feed) for path in paths],
        )
        return {
            path_of(directory, name): recall_version(data, Dot(feed, seq, index))
            for directory, name, seq, index, data in rows
        }

    def add(self, added: Sequence[tuple[Version, bytes]]) -> dict[Path, Frontier]:
        """Take versions in, with their records, one after another; returns the frontiers of their paths after that."""
        paths = list(dict.fromkeys(version.path for version, _ in added))
        held, once = self._held(paths), len(paths) == len(added)
        fresh: dict[tuple[Path, Dot], bytes] = {}
        gone: list[tuple[Path, Dot]] = []
        first: list[tuple[object, ...]] = []
        for version, data in added:
            old = held.get(version.path, _NONE)
            if once and old is _NONE:
                held[version.path] = Frontier((version,))
                first.append(_row(version.path, version.dot, data))
                continue
            new = held[version.path] = old.add(version)
            for each in old.versions:
                if each not in new.versions and fresh.pop((each.path, each.dot), None) is None:
                    gone.append((each.path, each.dot))
            if new is not old and new.versions[-1] is version:
                fresh[version.path, version.dot] = data
            if new.beyond != old.beyond:
                self._set_beyond(columns(version.path), new.beyond)
        self._change(gone, fresh)
        self.begin(first)
        return held

    def begin(self, rows: Sequence[tuple[object, ...]]) -> None:
        """`add` at paths that have no frontier yet, each once: rows of the table."""
        self._db.insert(_INSERT, rows)

    def drop(self, gone: Sequence[tuple[Path, Dot]]) -> dict[Path, tuple[Version, ...]]:
        """Take versions out that nothing takes the place of; returns what is left of the frontiers of their paths."""
        self._change(gone, {})
        left = self._held([path for path, _ in gone])
        empty = [path for path, _ in gone if path not in left or not left[path].versions]
        for path in empty:
            self._db.execute("DELETE FROM beyond WHERE dir = ? AND name = ?", columns(path))
        return {path: left[path].versions if path not in empty else () for path, _ in gone}

    def _change(self, gone: Sequence[tuple[Path, Dot]], fresh: Mapping[tuple[Path, Dot], bytes]) -> None:
        if gone:
            self._db.executemany(
                "DELETE FROM version WHERE dir = ? AND name = ? AND feed = ? AND seq = ?",
                [(*columns(path), dot.feed, dot.seq) for path, dot in gone],
            )
        self.begin([_row(path, dot, data) for (path, dot), data in fresh.items()])

    def _held(self, paths: Sequence[Path]) -> dict[Path, Frontier]:
        """The frontiers of many paths, of those that have one."""
        places = [columns(path) for path in paths]
        versions: dict[Path, list[Version]] = {}
        for directory, name, feed, seq, index, data in self._db.look_up(
            "SELECT dir, name, feed, seq, idx, data FROM {asked}"
            " CROSS JOIN version ON dir = column1 AND name = column2",
            places,
        ):
            version = recall_version(data, Dot(FeedId(feed), seq, index))
            versions.setdefault(path_of(directory, name), []).append(version)
        beyond = self._beyond(places)
        return {
            path: Frontier(tuple(versions.get(path, ())), beyond.get(path, {}))
            for path in versions.keys() | beyond.keys()
        }

    def _beyond(self, places: Sequence[tuple[bytes, bytes]]) -> dict[Path, Vector]:
        found: dict[Path, Vector] = {}
        if self._db.scalar("SELECT 1 FROM beyond LIMIT 1") is None:  # as long as nobody publishes odd vectors
            return found
        for directory, name, feed, seq in self._db.look_up(
            "SELECT dir, name, feed, seq FROM {asked} CROSS JOIN beyond ON dir = column1 AND name = column2", places
        ):
            found.setdefault(path_of(directory, name), {})[FeedId(feed)] = seq
        return found

    def _set_beyond(self, place: tuple[bytes, bytes], beyond: Vector) -> None:
        self._db.execute("DELETE FROM beyond WHERE dir = ? AND name = ?", place)
        self._db.executemany(
            "INSERT INTO beyond (dir, name, feed, seq) VALUES (?, ?, ?, ?)",
            [(*place, feed, seq) for feed, seq in beyond.items()],
        )


def _row(path: Path, dot: Dot, data: bytes) -> tuple[object, ...]:
    return (*columns(path), dot.feed, dot.seq, dot.index, data)


_NONE = Frontier()
