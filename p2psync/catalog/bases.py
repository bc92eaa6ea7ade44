"""Bases: the last synced text-like contents, kept in the catalog for three-way merges.

Bounded in all and each; the least recently used go first. A first version of a file enters only while there is room, so
that an initial sync of a large folder does not push out the bases of the files somebody works on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2psync.catalog.rows import content_key
from p2psync.index.versions import Content
from p2psync.limits import BASE_MAX, BASES_TOTAL_MAX
from p2psync.store.sqlite import Database

_LOOKED_AT = 8192
"""Bytes in which a NUL says that a content is no text (as git and grep judge)."""


def is_text_like(data: bytes | bytearray | memoryview) -> bool:
    return bytes(data[:_LOOKED_AT]).find(b"\0") < 0


class Bases:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._total: int | None = None

    def has_room(self, size: int) -> bool:
        """Whether a content of this size fits without pushing another out."""
        return self._size() + size <= BASES_TOTAL_MAX

    def put(self, content: Content, data: bytes, *, edited: bool) -> bool:
        """Keep a content; whether it is here now. `edited`: it replaced another version, so it may push older ones out."""
        self.put_all([(content, data, edited)])
        return self.has(content)

    def put_all(self, found: Iterable[tuple[Content, bytes, bool]]) -> None:
        """`put` of many (content, data, edited), in one transaction."""
        offered = [(content_key(content), data, edited) for content, data, edited in found]
        with self._db.transaction():
            here, fresh = self.held([key for key, _, _ in offered]), dict[bytes, bytes]()
            for key, data, edited in offered:
                if key in here or key in fresh or not 0 < len(data) <= BASE_MAX:
                    continue
                if edited or self.has_room(len(data)):
                    fresh[key] = data
                    self._total = self._size() + len(data)
            if not fresh:
                return
            used = 1 + int(self._db.scalar("SELECT coalesce(max(used), 0) FROM base"))
            self._db.executemany(
                "INSERT INTO base (content, size, used, data) VALUES (?, ?, ?, ?)",
                [(key, len(data), used + place, data) for place, (key, data) in enumerate(fresh.items())],
            )
            if self._size() > BASES_TOTAL_MAX:
                self._evict()

    def get(self, content: Content) -> bytes | None:
        key = content_key(content)
        data: bytes | None = self._db.scalar("SELECT data FROM base WHERE content = ?", (key,))
        if data is not None:
            self._db.execute(
                "UPDATE base SET used = (SELECT max(used) + 1 FROM base) WHERE content = ?"
                " AND used < (SELECT max(used) FROM base)",
                (key,),
            )
        return data

    def has(self, content: Content) -> bool:
        return bool(self.held([content_key(content)]))

    def held(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of these keys (`content_key`) whose contents are here."""
        rows = self._db.look_up(
            "SELECT content FROM {asked} CROSS JOIN base ON content = column1", [(key,) for key in keys]
        )
        return {key for (key,) in rows}

    def _size(self) -> int:
        if self._total is None:
            self._total = int(self._db.scalar("SELECT coalesce(sum(size), 0) FROM base"))
        return self._total

    def _evict(self) -> None:
        """Down to nine tenths, oldest use first; counted anew, in case a transaction was taken back."""
        self._total = None
        excess = self._size() - BASES_TOTAL_MAX * 9 // 10
        for key, size in self._db.query("SELECT content, size FROM base ORDER BY used LIMIT 10000"):
            if excess <= 0:
                break
            self._db.execute("DELETE FROM base WHERE content = ?", (key,))
            excess -= size
        self._total = None
