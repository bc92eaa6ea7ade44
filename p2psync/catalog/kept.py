"""Local versions: files a replacement or a deletion displaced, which stand under `.p2psync/versions/` for a while.

A row knows which placed row the file had, when it was displaced and whose version took its place. Files and rows come and
go together as far as a crash lets them: who finds a file without a row, or a row without a file, is `replica/keeping.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2psync.catalog.rows import Placed, columns, content_key, decode_placed, encode_placed, path_of
from p2psync.errors import BugError
from p2psync.ids import FeedId
from p2psync.index.paths import Path
from p2psync.index.versions import Content, Dot, Kind
from p2psync.store.sqlite import Database

_COLUMNS = "id, file, dir, name, kept_ms, size, placed"
_TAKEN = "FROM kept WHERE taken = 1 AND by_feed = ? AND kept_ms BETWEEN ? AND ? AND by_seq > ?"


@dataclass(frozen=True, slots=True)
class Kept:
    """`file` is its name in the directory of versions; `kept_ms` is this device's clock when it was displaced."""

    id: int
    file: str
    path: Path
    kept_ms: int
    size: int
    placed: Placed


class KeptVersions:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, file: str, placed: Placed, kept_ms: int, by: Dot | None, *, taken: bool) -> None:
        """`by` took its place; `taken`: its content stood nowhere else on this disk then."""
        content = content_key(placed.content) if placed.kind is Kind.FILE else None
        self._db.execute(
            "INSERT OR IGNORE INTO kept (file, dir, name, kept_ms, size, content, placed, by_feed, by_seq, taken)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file, *columns(placed.path), kept_ms, placed.fingerprint.size, content, encode_placed(placed),
                by.feed if by is not None else None, by.seq if by is not None else None, taken,
            ),
        )  # fmt: skip

    def has_file(self, file: str) -> bool:
        return bool(self._db.scalar("SELECT 1 FROM kept WHERE file = ?", (file,)))

    def of_path(self, path: Path, limit: int = 1000) -> list[Kept]:
        """Newest first."""
        return self._rows("WHERE dir = ? AND name = ? ORDER BY id DESC LIMIT ?", (*columns(path), limit))

    def with_content(self, content: Content, limit: int = 4) -> list[Kept]:
        """Files that should hold exactly this content; whoever reads them verifies."""
        return self._rows("WHERE content = ? ORDER BY id DESC LIMIT ?", (content_key(content), limit))

    def has_content(self, content: Content) -> bool:
        return bool(self._db.scalar("SELECT 1 FROM kept WHERE content = ?", (content_key(content),)))

    def after(self, path: Path | None, limit: int) -> list[Kept]:
        """Rows of paths behind `path`, whole paths together, oldest first within one."""
        behind = columns(path) if path is not None else (b"", b"")
        return self._rows("WHERE (dir, name) > (?, ?) ORDER BY dir, name, id LIMIT ?", (*behind, limit))

    def page(self, after: int, limit: int) -> list[Kept]:
        """Rows with id above `after`, in order."""
        return self._rows("WHERE id > ? ORDER BY id LIMIT ?", (after, limit))

    def oldest(self, limit: int) -> list[Kept]:
        return self._rows("ORDER BY id LIMIT ?", (limit,))

    def total(self) -> tuple[int, int]:
        """(files, bytes) kept."""
        files, size = self._db.query_one("SELECT count(*), coalesce(sum(size), 0) FROM kept") or (0, 0)
        return files, size

    def remove(self, numbers: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM kept WHERE id = ?", [(number,) for number in numbers])

    def taken_by(self, feed: FeedId, after_seq: int, since_ms: int, until_ms: int) -> int:
        """How many files versions of this feed behind `after_seq` took away between these times; one saved often is one."""
        return int(
            self._db.scalar(
                f"SELECT count(DISTINCT dir || x'00' || name) {_TAKEN}", (feed, since_ms, until_ms, after_seq)
            )
        )

    def gone_by(self, feed: FeedId, after_seq: int, since_ms: int, until_ms: int) -> int:
        """How many of these stand at their paths no more."""
        return int(
            self._db.scalar(
                f"SELECT count(DISTINCT dir || x'00' || name) {_TAKEN} AND NOT EXISTS (SELECT 1 FROM placed"
                " WHERE placed.dir = kept.dir AND placed.name = kept.name AND placed.kind = 0)",
                (feed, since_ms, until_ms, after_seq),
            )
        )

    def is_taken_by(self, path: Path, feed: FeedId, after_seq: int, since_ms: int, until_ms: int) -> bool:
        """Whether the file at this path is one of these."""
        return bool(
            self._db.scalar(
                f"SELECT EXISTS (SELECT 1 {_TAKEN} AND dir = ? AND name = ?)",
                (feed, since_ms, until_ms, after_seq, *columns(path)),
            )
        )

    def _rows(self, condition: str, parameters: tuple[object, ...]) -> list[Kept]:
        rows = self._db.query(f"SELECT {_COLUMNS} FROM kept {condition}", parameters)
        return [_kept(*row) for row in rows]


def _kept(number: int, file: str, directory: bytes, name: bytes, kept_ms: int, size: int, data: bytes) -> Kept:
    placed = decode_placed(data)
    if placed is None:
        raise BugError("a kept version without its placed row")
    return Kept(number, file, path_of(directory, name), kept_ms, size, placed)
