"""What this disk holds: placed versions with their fingerprints, the reverse index chunk → files, and problems.

Rows are written only after the disk was looked at. A local edit's vector starts from here, never from what is wanted.
Source: formats, "On disk".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from p2psync.catalog.rows import (
    CONTENT_AT,
    PLACED_COLUMNS,
    Fingerprint,
    Outline,
    Placed,
    columns,
    path_of,
    placed_of,
    placed_row,
    prefix,
    signed,
    xattrs_row,
)
from p2psync.catalog.totals import Totals, file_bytes
from p2psync.ids import ChunkId
from p2psync.index.paths import Path, join
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Kind
from p2psync.limits import NAME_MAX
from p2psync.planner.xattrs import HeldXattrs, Look
from p2psync.store.sqlite import Database

_MARKS = ", ".join("?" * 19)
_BEHIND_ALL = b"\xff" * (NAME_MAX + 1)
"""Sorts after every path: no component is that long."""


_FIRST = "SELECT {} FROM file_chunk WHERE prefix = column2 ORDER BY placed, position LIMIT 1"
_INDEX = "INSERT OR IGNORE INTO file_chunk (prefix, placed, position) VALUES {rows}"


class PlacedFiles:
    def __init__(self, database: Database, totals: Totals) -> None:
        self._db, self._totals = database, totals

    def get(self, path: Path) -> Placed | None:
        row = self._db.query_one(f"SELECT {PLACED_COLUMNS} FROM placed WHERE dir = ? AND name = ?", columns(path))
        return None if row is None else placed_of(row)

    def get_all(self, paths: Sequence[Path]) -> dict[Path, Placed]:
        """`get` for many paths, of those that have a row."""
        rows = self._db.look_up(
            f"SELECT {PLACED_COLUMNS} FROM {{asked}} CROSS JOIN placed ON dir = column1 AND name = column2",
            [columns(path) for path in paths],
        )
        return {placed.path: placed for placed in map(placed_of, rows)}

    def in_directory(self, path: Path) -> dict[bytes, Outline]:
        """Outlines of the live rows directly inside a directory, by name."""
        rows = self._db.query(f"SELECT {PLACED_COLUMNS} FROM placed WHERE dir = ? AND kind <> 3", (join(path),))
        return {row[1]: Outline(row) for row in rows}

    def outlines(self, path: Path, names: Iterable[bytes]) -> dict[bytes, Outline]:
        """`in_directory` of these names only."""
        directory = join(path)
        rows = self._db.look_up(
            f"SELECT {PLACED_COLUMNS} FROM {{asked}} CROSS JOIN placed ON dir = column1 AND name = column2 AND kind <> 3",
            [(directory, name) for name in names],
        )
        return {row[1]: Outline(row) for row in rows}

    def is_large(self, path: Path, rows: int) -> bool:
        """Whether a directory has more than so many rows, those of what was deleted counted."""
        query = "SELECT count(*) FROM (SELECT 1 FROM placed WHERE dir = ? LIMIT ?)"
        return int(self._db.scalar(query, (join(path), rows + 1))) > rows

    def has_rows_in(self, path: Path) -> bool:
        """Whether anything, deletions too, is or was placed directly inside a directory."""
        return self._db.scalar("SELECT 1 FROM placed WHERE dir = ? LIMIT 1", (join(path),)) is not None

    def below(self, path: Path, limit: int = 1000, before: Path | None = None) -> list[Placed]:
        """Live rows anywhere below a directory (not the directory itself), backwards by path from `before` on: so what is in
        a directory comes before it."""
        top = join(path)
        bound = (_BEHIND_ALL, b"") if before is None else columns(before)
        found = self._backwards(
            "dir > ? AND dir < ?", (top + b"/", top + b"0") if top else (b"", _BEHIND_ALL), bound, limit
        )
        if len(found) < limit:
            found += self._backwards("dir = ?", (top,), bound, limit - len(found))
        return found

    def _backwards(self, where: str, values: tuple[bytes, ...], bound: tuple[bytes, bytes], limit: int) -> list[Placed]:
        rows = self._db.query(
            f"SELECT {PLACED_COLUMNS} FROM placed WHERE kind <> 3 AND {where} AND (dir, name) < (?, ?)"
            " ORDER BY dir DESC, name DESC LIMIT ?",
            (*values, *bound, limit),
        )
        return [placed_of(row) for row in rows]

    def count_files(self) -> int:
        return int(self._db.scalar("SELECT count(*) FROM placed WHERE kind = 0"))

    def by_inodes(self, inodes: Sequence[int], kind: Kind = Kind.FILE) -> dict[int, list[Placed]]:
        """Rows of files, or of another kind, by inode: the hint for renames. Whether one is the very same its fingerprint
        says."""
        rows = self._db.look_up(
            f"SELECT {PLACED_COLUMNS} FROM {{asked}} CROSS JOIN placed ON inode = column1 AND kind = {kind:d}",
            [(signed(inode),) for inode in inodes],
        )
        found: dict[int, list[Placed]] = {}
        for placed in map(placed_of, rows):
            found.setdefault(placed.fingerprint.inode, []).append(placed)
        return found

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
        old = (
            None
            if new
            else self._db.query_one("SELECT id, content, kind, size FROM placed WHERE dir = ? AND name = ?", place)
        )
        values = placed_row(placed)
        self._totals.add_placed(_bytes_of(placed) - (0 if old is None else file_bytes(*old[2:])))
        if old is None:
            number = self._db.scalar(f"INSERT INTO placed ({PLACED_COLUMNS}) VALUES ({_MARKS}) RETURNING id", values)
        else:
            number = old[0]
            self._db.execute(f"UPDATE placed SET ({PLACED_COLUMNS}) = ({_MARKS}) WHERE id = ?", (*values, number))
            if old[1] == values[CONTENT_AT]:
                return
            self._db.execute("DELETE FROM file_chunk WHERE placed = ?", (number,))
        if placed.kind is Kind.FILE and placed.content.chunks:
            self._index(number, rows if rows is not None else placed.content.chunks)

    def put_all(self, changed: Sequence[tuple[Placed, bytes | None]]) -> None:
        """`put` of many rows with full chunk lists, each path once."""
        held = {
            (directory, name): (number, content, file_bytes(kind, size))
            for directory, name, number, content, kind, size in self._db.look_up(
                "SELECT dir, name, id, content, kind, size FROM {asked} CROSS JOIN placed ON dir = column1 AND name = column2",
                [columns(placed.path) for placed, _ in changed],
            )
        }
        self.put_new([each for each in changed if columns(each[0].path) not in held])
        updates, stale, grown = [], [], 0
        entries: list[tuple[int, int, int]] = []
        for placed, rows in changed:
            if (place := columns(placed.path)) in held:
                number, content, bytes_ = held[place]
                grown += _bytes_of(placed) - bytes_
                values = placed_row(placed)
                updates.append((*values, number))
                if content != values[CONTENT_AT]:
                    stale.append((number,))
                    entries += _index_rows(number, _chunks_of(placed, rows))
        if updates:
            self._db.executemany(f"UPDATE placed SET ({PLACED_COLUMNS}) = ({_MARKS}) WHERE id = ?", updates)
            self._totals.add_placed(grown)
            self._db.executemany("DELETE FROM file_chunk WHERE placed = ?", stale)
            self._db.insert(_INDEX, entries)

    def put_new(self, fresh: Sequence[tuple[Placed, bytes | None]]) -> None:
        """`put_all` at paths that the caller has seen to have no row."""
        if fresh:
            self.begin(
                [placed_row(placed) for placed, _ in fresh],
                [_chunks_of(placed, rows) for placed, rows in fresh],
                sum(_bytes_of(placed) for placed, _ in fresh),
            )

    def begin(self, rows: Sequence[tuple[object, ...]], chunks: Sequence[bytes], size: int) -> None:
        """Add rows at paths that have none, with the chunk list of each (empty where there is nothing to be found by it)
        and how many bytes of files they are in all."""
        first = 1 + int(self._db.scalar("SELECT coalesce(max(id), 0) FROM placed"))
        self._db.insert(
            f"INSERT INTO placed (id, {PLACED_COLUMNS}) VALUES {{rows}}",
            [(number, *row) for number, row in enumerate(rows, first)],
        )
        entries: list[tuple[int, int, int]] = []
        for number, list_ in enumerate(chunks, first):
            entries += _index_rows(number, list_)
        self._db.insert(_INDEX, entries)
        self._totals.add_placed(size)

    def _index(self, number: int, rows: bytes) -> None:
        self._db.insert(_INDEX, _index_rows(number, rows))

    def refresh(self, path: Path, seen: Fingerprint, xattrs: HeldXattrs) -> None:
        """What is there is as it was, only its inode or ctime differ, or what is known of its extended attributes."""
        held = self._db.query_one("SELECT kind, size FROM placed WHERE dir = ? AND name = ?", columns(path))
        if held is not None:
            self._totals.add_placed(file_bytes(held[0], seen.size) - file_bytes(*held))
        self._db.execute(
            "UPDATE placed SET dev = ?, inode = ?, size = ?, mtime_ns = ?, ctime_ns = ?, xattrs = ?, shown = ?, look = ?"
            " WHERE dir = ? AND name = ?",
            (
                seen.dev, signed(seen.inode), seen.size, seen.mtime_ns, seen.ctime_ns, *xattrs_row(xattrs),
                *columns(path),
            ),
        )  # fmt: skip

    def forget_looks(self) -> list[Path]:
        """Nothing was seen of any extended attributes; returns the paths where some were still to be set."""
        owed = self._db.query("SELECT dir, name FROM placed WHERE look = ?", (Look.OWED,))
        self._db.execute("UPDATE placed SET shown = NULL, look = 0 WHERE look <> 0")
        return [path_of(directory, name) for directory, name in owed]

    def with_look(self, looks: Sequence[Look], limit: int = 100) -> list[tuple[Path, Look]]:
        """Paths whose extended attributes stand so; not for UNSEEN and SEEN."""
        rows = self._db.query(
            f"SELECT dir, name, look FROM placed WHERE look > 1 AND look IN ({', '.join('?' * len(looks))}) LIMIT ?",
            (*looks, limit),
        )
        return [(path_of(directory, name), Look(look)) for directory, name, look in rows]

    def forget(self, path: Path) -> None:
        held = self._db.query_one("SELECT id, kind, size FROM placed WHERE dir = ? AND name = ?", columns(path))
        if held is not None:
            number, kind, size = held
            self._totals.add_placed(-file_bytes(kind, size))
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

    def holders(self, chunk: ChunkId, limit: int = 4) -> list[tuple[Path, int]]:
        """Placed files that should hold a chunk, with its offset there. The reader verifies what it finds."""
        rows = self._db.query(
            "SELECT dir, name, position FROM file_chunk JOIN placed ON placed.id = file_chunk.placed WHERE prefix = ? LIMIT ?",
            (prefix(chunk), limit),
        )
        return [(path_of(directory, name), position) for directory, name, position in rows]

    def holders_of_all(self, chunks: Sequence[ChunkId]) -> dict[ChunkId, tuple[Path, int]]:
        """One of the `holders` of each of many chunks, of those that have any."""
        rows = self._db.look_up(
            f"SELECT column1, dir, name, ({_FIRST.format('position')}) FROM {{asked}}"
            f" CROSS JOIN placed ON placed.id = ({_FIRST.format('placed')})",
            [(chunk, prefix(chunk)) for chunk in chunks],
        )
        return {ChunkId(chunk): (path_of(directory, name), position) for chunk, directory, name, position in rows}

    def of_size(self, least: int) -> list[Path]:
        """Placed files of at least so many bytes."""
        rows = self._db.query("SELECT dir, name FROM placed WHERE kind = 0 AND size >= ?", (least,))
        return [path_of(directory, name) for directory, name in rows]

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


def _chunks_of(placed: Placed, rows: bytes | None) -> bytes:
    """The chunk list a row is to be found by."""
    if placed.kind is not Kind.FILE or not placed.content.chunks:
        return b""
    return rows if rows is not None else placed.content.chunks


def _index_rows(number: int, rows: bytes) -> list[tuple[int, int, int]]:
    """(prefix, placed, position) of every chunk of a file."""
    position, entries = 0, []
    for chunk, length in iterate_chunks(rows):
        entries.append((prefix(chunk), number, position))
        position += length
    return entries


def _bytes_of(placed: Placed) -> int:
    return file_bytes(placed.kind, placed.fingerprint.size)
