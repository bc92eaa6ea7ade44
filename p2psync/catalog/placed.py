"""What this disk holds: placed versions with their fingerprints, the reverse index chunk → files, and problems.

Rows are written only after the disk was looked at. A local edit's vector starts from here, never from what is wanted.
Source: formats, "On disk".
"""

from __future__ import annotations

from collections.abc import Iterator

from p2psync.catalog.rows import (
    PLACED_COLUMNS,
    Fingerprint,
    Placed,
    columns,
    path_of,
    placed_of,
    placed_row,
    prefix,
)
from p2psync.ids import ChunkId
from p2psync.index.paths import Path, join
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Kind
from p2psync.limits import NAME_MAX
from p2psync.store.sqlite import Database

_MARKS = ", ".join("?" * 16)
_BEHIND_ALL = b"\xff" * (NAME_MAX + 1)
"""Sorts after every path: no component is that long."""


class PlacedFiles:
    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, path: Path) -> Placed | None:
        row = self._db.query_one(f"SELECT {PLACED_COLUMNS} FROM placed WHERE dir = ? AND name = ?", columns(path))
        return None if row is None else placed_of(row)

    def in_directory(self, path: Path) -> dict[bytes, Placed]:
        """Live rows directly inside a directory, by name."""
        rows = self._db.query(f"SELECT {PLACED_COLUMNS} FROM placed WHERE dir = ? AND kind <> 3", (join(path),))
        return {placed.path[-1]: placed for placed in map(placed_of, rows)}

    def below(self, path: Path, limit: int = 1000) -> list[Placed]:
        """Live rows anywhere below a directory (not the directory itself)."""
        top = join(path)
        rows = self._db.query(
            f"SELECT {PLACED_COLUMNS} FROM placed WHERE kind <> 3 AND (dir = ?1 OR (dir > ?2 AND dir < ?3)) LIMIT ?4",
            (top, top + b"/", top + b"0", limit) if top else (b"", b"", _BEHIND_ALL, limit),
        )
        return [placed_of(row) for row in rows]

    def count_files(self) -> int:
        return int(self._db.scalar("SELECT count(*) FROM placed WHERE kind = 0"))

    def by_inode(self, seen: Fingerprint) -> list[Placed]:
        """Rows of files that were this very file under another name: the hint for renames."""
        inode = seen.inode - (1 << 64) if seen.inode >= 1 << 63 else seen.inode
        rows = self._db.query(f"SELECT {PLACED_COLUMNS} FROM placed WHERE inode = ? AND kind = 0", (inode,))
        return [placed for placed in map(placed_of, rows) if placed.fingerprint.same_file(seen)]

    def paths(self) -> Iterator[Path]:
        """Every path of a live row, in batches, so that rows may be written meanwhile."""
        last = 0
        while batch := self._db.query(
            "SELECT id, dir, name FROM placed WHERE id > ? AND kind <> 3 ORDER BY id LIMIT 1000", (last,)
        ):
            last = batch[-1][0]
            yield from (path_of(directory, name) for _, directory, name in batch)

    def put(self, placed: Placed, rows: bytes | None = None, *, new: bool = False) -> None:
        """Write a row; `rows` is the file's full chunk list when `placed.content` carries only a list of lists.

        `new`: the caller has seen in this transaction that the path has no row.
        """
        place = columns(placed.path)
        old = None if new else self._db.query_one("SELECT id, content FROM placed WHERE dir = ? AND name = ?", place)
        values = placed_row(placed)
        if old is None:
            number = self._db.scalar(f"INSERT INTO placed ({PLACED_COLUMNS}) VALUES ({_MARKS}) RETURNING id", values)
        else:
            number = old[0]
            self._db.execute(f"UPDATE placed SET ({PLACED_COLUMNS}) = ({_MARKS}) WHERE id = ?", (*values, number))
            if old[1] == values[-1]:
                return
            self._db.execute("DELETE FROM file_chunk WHERE placed = ?", (number,))
        if placed.kind is Kind.FILE and placed.content.chunks:
            self._index(number, rows if rows is not None else placed.content.chunks)

    def _index(self, number: int, rows: bytes) -> None:
        position, entries = 0, []
        for chunk, length in iterate_chunks(rows):
            entries.append((prefix(chunk), number, position))
            position += length
        insert = "INSERT OR IGNORE INTO file_chunk (prefix, placed, position) VALUES (?, ?, ?)"
        if len(entries) == 1:
            self._db.execute(insert, entries[0])
        else:
            self._db.executemany(insert, entries)

    def refresh_fingerprint(self, path: Path, seen: Fingerprint) -> None:
        """The file is as it was, only its inode or ctime differ."""
        inode = seen.inode - (1 << 64) if seen.inode >= 1 << 63 else seen.inode
        self._db.execute(
            "UPDATE placed SET dev = ?, inode = ?, size = ?, mtime_ns = ?, ctime_ns = ? WHERE dir = ? AND name = ?",
            (seen.dev, inode, seen.size, seen.mtime_ns, seen.ctime_ns, *columns(path)),
        )

    def forget(self, path: Path) -> None:
        number = self._db.scalar("SELECT id FROM placed WHERE dir = ? AND name = ?", columns(path))
        if number is not None:
            self._db.execute("DELETE FROM file_chunk WHERE placed = ?", (number,))
            self._db.execute("DELETE FROM placed WHERE id = ?", (number,))

    def page(self, after: Path | None, limit: int = 1000) -> list[Placed]:
        """Rows of every kind by path, behind `after`."""
        directory, name = columns(after) if after is not None else (b"", b"")
        rows = self._db.query(
            f"SELECT {PLACED_COLUMNS} FROM placed WHERE (dir, name) > (?, ?) ORDER BY dir, name LIMIT ?",
            (directory, name, limit),
        )
        return [placed_of(row) for row in rows]

    def holders(self, chunk: ChunkId, limit: int = 4) -> list[tuple[Placed, int]]:
        """Placed files that should hold a chunk, with its offset there. The reader verifies what it finds."""
        rows = self._db.query(
            "SELECT " + ", ".join(f"placed.{column}" for column in PLACED_COLUMNS.split(", ")) + ", position"
            " FROM file_chunk JOIN placed ON placed.id = file_chunk.placed WHERE prefix = ? LIMIT ?",
            (prefix(chunk), limit),
        )
        return [(placed_of(row[:-1]), row[-1]) for row in rows]

    # Problems: what the user should know about a path.

    def set_problem(self, path: Path, reason: str | None) -> None:
        if reason is None:
            self._db.execute("DELETE FROM problem WHERE dir = ? AND name = ?", columns(path))
        else:
            self._db.execute(
                "INSERT INTO problem (dir, name, reason) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET reason = ?3",
                (*columns(path), reason),
            )

    def directories(self) -> int:
        return int(self._db.scalar("SELECT count(*) FROM placed WHERE kind = 1"))

    def problem(self, path: Path) -> str | None:
        found: str | None = self._db.scalar("SELECT reason FROM problem WHERE dir = ? AND name = ?", columns(path))
        return found

    def problems(self, limit: int = 100) -> list[tuple[Path, str]]:
        rows = self._db.query("SELECT dir, name, reason FROM problem ORDER BY dir, name LIMIT ?", (limit,))
        return [(path_of(directory, name), reason) for directory, name, reason in rows]

    def problem_paths(self, path: Path) -> set[bytes]:
        """Names directly inside a directory that have a problem."""
        return {name for (name,) in self._db.query("SELECT name FROM problem WHERE dir = ?", (join(path),))}
