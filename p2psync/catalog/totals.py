"""Totals: the sums a status shows, kept in one row so that asking does not take longer the larger a folder is.

Whoever changes a row of `wanted` or `placed` adds the difference here in the same transaction. A member who makes up sizes
can at worst make the sums inexact (SQLite turns what does not fit 64 bits into a float), never fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2psync.index.versions import Kind
from p2psync.store.sqlite import Database

Place = tuple[bytes, bytes]
"""The columns `dir` and `name`."""


class Totals:
    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self) -> tuple[int, int, int]:
        """(bytes wanted, bytes on this disk, derived conflict copies) of the whole folder."""
        wanted, placed, copies = self._db.query_one("SELECT wanted, placed, copies FROM total") or (0, 0, 0)
        return int(wanted), int(placed), int(copies)

    def needed(self) -> tuple[int, int]:
        """(files, bytes) still to be brought to this disk, deletions counted as files; not what was changed on purpose."""
        files, size = self._db.query_one(
            "SELECT count(*), coalesce(sum(size), 0) FROM need WHERE NOT EXISTS"
            " (SELECT 1 FROM local_change c WHERE c.dir = need.dir AND c.name = need.name)"
        ) or (0, 0)
        return files, size

    def add_placed(self, size: int) -> None:
        """So many bytes more (less, when negative) in files on this disk."""
        if size:
            self._db.execute("UPDATE total SET placed = placed + ?", (size,))

    def forget_wanted(self) -> None:
        """All rows of `wanted` are gone."""
        self._db.execute("UPDATE total SET wanted = 0, copies = 0")

    def add_wanted(self, rows: Iterable[tuple[Kind, int, bool]], gone: Sequence[Place] = ()) -> None:
        """(kind, size, whether it is a derived copy) of rows about to be written; those at `gone`, if there are any, go."""
        size = copies = 0
        for kind, bytes_, derived in rows:
            size += bytes_ if kind is not Kind.DELETED else 0
            copies += derived
        for kind, bytes_, derived in self._db.look_up(
            "SELECT kind, size, source_dir IS NOT NULL FROM {asked} CROSS JOIN wanted ON dir = column1 AND name = column2",
            gone,
        ):
            size -= bytes_ if kind != Kind.DELETED else 0
            copies -= derived
        if size or copies:
            self._db.execute("UPDATE total SET wanted = wanted + ?, copies = copies + ?", (size, copies))


def file_bytes(kind: int, size: int) -> int:
    """What a placed row adds to the sum."""
    return size if kind == Kind.FILE else 0
