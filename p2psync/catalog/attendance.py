"""When something was last heard of each member, by the clock and in attended time.

Bookkeeping only: what silence means is decided in `planner/attendance.py`. Source: formats, "Heartbeats".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2psync.ids import IdentityKey
from p2psync.planner.attendance import passed
from p2psync.store.sqlite import Database


@dataclass(frozen=True, slots=True)
class Heard:
    """`at`: when its last entry came, in Unix seconds by this device's clock (None: none has). `silent`: attended
    seconds since then, or since it is known."""

    at: float | None
    silent: float


class Attendance:
    def __init__(self, database: Database) -> None:
        self._db = database

    def look(self, now: float) -> None:
        """Count what has passed since the last look."""
        row = self._db.query_one("SELECT seconds, seen FROM attended")
        seconds, seen = row if row is not None else (0.0, now)
        self._db.execute(
            "INSERT INTO attended (id, seconds, seen) VALUES (1, ?1, ?2)"
            " ON CONFLICT (id) DO UPDATE SET seconds = ?1, seen = ?2",
            (seconds + passed(seen, now), now),
        )

    def meet(self, members: Iterable[IdentityKey]) -> None:
        """These members are known from now on, unless they were before."""
        self._db.executemany(
            f"INSERT OR IGNORE INTO heard (identity, at, attended) VALUES (?, NULL, {_ATTENDED})",
            [(member,) for member in members],
        )

    def hear(self, member: IdentityKey, now: float) -> None:
        """An entry of this member has come."""
        self._db.execute(
            f"INSERT INTO heard (identity, at, attended) VALUES (?1, ?2, {_ATTENDED})"
            " ON CONFLICT (identity) DO UPDATE SET at = excluded.at, attended = excluded.attended",
            (member, now),
        )

    def heard(self) -> dict[IdentityKey, Heard]:
        rows = self._db.query(f"SELECT identity, at, {_ATTENDED} - attended FROM heard")
        return {IdentityKey(identity): Heard(at, silent) for identity, at, silent in rows}


_ATTENDED = "coalesce((SELECT seconds FROM attended), 0)"
