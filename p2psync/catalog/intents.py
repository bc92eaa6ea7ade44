"""Intents: disk operations written down before they become visible, until they are durable.

An intent keeps the path, the operation, what stood there (the old placed row), what will (the new one, with the
fingerprint of its temp). After a crash, "still old" means redo, "already new" means done, and what is neither is the
user's edit. Source: formats, "On disk", write order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2psync.catalog.rows import Placed, columns, decode_placed, encode_placed, path_of
from p2psync.index.paths import Path
from p2psync.store.sqlite import Database

WRITE, MOVE, DELETE = "write", "move", "delete"


@dataclass(frozen=True, slots=True)
class Intent:
    """`new` carries the fingerprint the file will have. A move is two intents: its target and its source."""

    operation: str
    path: Path
    old: Placed | None
    new: Placed | None


class Intents:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, batch: int, intents: Iterable[Intent]) -> None:
        self._db.executemany(
            "INSERT INTO intent (batch, operation, dir, name, old, new) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    batch, intent.operation, *columns(intent.path),
                    encode_placed(intent.old), encode_placed(intent.new),
                )
                for intent in intents
            ],
        )  # fmt: skip

    def clear(self, up_to_batch: int) -> None:
        self._db.execute("DELETE FROM intent WHERE batch <= ?", (up_to_batch,))

    def all(self) -> list[Intent]:
        """Every open intent, newest first: undoing goes backwards."""
        rows = self._db.query("SELECT operation, dir, name, old, new FROM intent ORDER BY id DESC")
        return [
            Intent(operation, path_of(directory, name), decode_placed(old), decode_placed(new))
            for operation, directory, name, old, new in rows
        ]

    def last_batch(self) -> int:
        return int(self._db.scalar("SELECT coalesce(max(batch), 0) FROM intent"))
