"""The rows of a disk store: which objects it holds, the bytes of the small ones, and the counters.

Owns the SQL over `sql/0001-objects.sql`. An object is *held* (deleted_at is NULL), *hidden* (deleted, its bytes still
there) or unknown. Counters and rows change in one transaction, so the quota is exact. Does not know files or tasks:
pack bytes are elsewhere, and the caller lets one writer in at a time. Every call blocks on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from p2psync.errors import NotFound, QuotaExceeded
from p2psync.ids import Ciphertext, EntryHash, FeedId
from p2psync.limits import FLAGS_MAX, LIST_PAGE
from p2psync.sealed.keys import ObjectKey
from p2psync.store.batch import Incoming
from p2psync.store.board import Change
from p2psync.store.interface import Flag, Head, Listed
from p2psync.store.sqlite import Database

_INSERT = """INSERT INTO object (key, kind, size, feed, seq, hash, previous) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_HEAD = """SELECT seq, hash FROM object WHERE feed = ? AND deleted_at IS NULL ORDER BY seq DESC, hash LIMIT 1"""
_NEXT_FEED = """SELECT feed FROM object WHERE feed > ? ORDER BY feed LIMIT 1"""
_SIBLINGS = """
    SELECT key FROM object AS this WHERE feed IS NOT NULL AND deleted_at IS NULL AND EXISTS (
        SELECT 1 FROM object AS other
        WHERE other.feed = this.feed AND other.seq = this.seq AND other.hash <> this.hash AND other.deleted_at IS NULL)
    ORDER BY feed, seq, hash LIMIT ?
"""
_GAPS = """
    SELECT key FROM object AS this WHERE feed IS NOT NULL AND seq > 1 AND deleted_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM object AS before
        WHERE before.feed = this.feed AND before.seq = this.seq - 1 AND before.hash = this.previous
            AND before.deleted_at IS NULL)
    ORDER BY feed, seq, hash LIMIT ?
"""
_LAST_CHARACTER = "\x7f"
"""Sorts behind every key with the same prefix; LIST requests are ASCII (`batch.check_position`)."""


class ObjectRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        self._database.close()

    def split(self, batch: Iterable[Incoming]) -> tuple[list[Incoming], list[Incoming]]:
        """(unknown ones, hidden ones) of a batch; what is held already is in neither."""
        fresh, hidden = [], []
        for item in batch:
            row = self._database.query_one("SELECT deleted_at FROM object WHERE key = ?", (item.key,))
            if row is None:
                fresh.append(item)
            elif row[0] is not None:
                hidden.append(item)
        return fresh, hidden

    def check_room(self, fresh: Iterable[Incoming], quota: int | None) -> None:
        """QuotaExceeded when these would not fit; hidden objects count, their bytes are still there."""
        added = sum(item.size for item in fresh)
        stored = int(self._database.scalar("SELECT stored_bytes FROM total"))
        if quota is not None and added and stored + added > quota:
            raise QuotaExceeded(f"the store is full: {stored} of {quota} bytes are used")

    def keep(self, fresh: Sequence[Incoming], hidden: Sequence[Incoming]) -> Change:
        """Add rows and small bodies, show hidden objects again, all in one durable transaction."""
        with self._changing(item.key for item in (*fresh, *hidden)) as change:
            self._database.executemany(
                _INSERT,
                [(it.key, it.kind, it.size, it.feed, it.seq, it.hash, it.previous) for it in fresh],
            )
            self._database.executemany(
                "INSERT INTO body (key, data) VALUES (?, ?)", [(it.key, it.data) for it in fresh if it.pack is None]
            )
            self._count(len(fresh), sum(item.size for item in fresh))
            self._show([item.key for item in hidden])
        return change[0]

    def hide(self, keys: Iterable[ObjectKey], now: float) -> Change:
        """Mark held objects as deleted; others are left as they are."""
        held = self._select(keys, "deleted_at IS NULL")
        with self._changing(held) as change:
            self._database.executemany("UPDATE object SET deleted_at = ? WHERE key = ?", [(now, key) for key in held])
            self._count(-len(held), 0)
        return change[0]

    def unhide(self, keys: Sequence[ObjectKey]) -> Change:
        """Take deletes back, all or none; NotFound when one of the keys has no row."""
        known = set(self._select(keys, "TRUE"))
        for key in keys:
            if key not in known:
                raise NotFound(f"the bytes of {key} are gone")
        hidden = self._select(keys, "deleted_at IS NOT NULL")
        with self._changing(hidden) as change:
            self._show(hidden)
        return change[0]

    def expired(self, expiry: float) -> list[ObjectKey]:
        """Up to LIST_PAGE hidden objects deleted at `expiry` or before, the oldest first."""
        sql = "SELECT key FROM object WHERE deleted_at <= ? ORDER BY deleted_at LIMIT ?"
        return [row[0] for row in self._database.query(sql, (expiry, LIST_PAGE))]

    def forget(self, keys: Sequence[ObjectKey]) -> Change:
        """Remove rows and small bodies: the objects are gone."""
        held = self._select(keys, "deleted_at IS NULL")
        with self._changing(held) as change:
            for key in keys:
                if (size := self.size(key)) is not None:
                    self._count(0, -size)
            self._database.executemany("DELETE FROM object WHERE key = ?", [(key,) for key in keys])
            self._database.executemany("DELETE FROM body WHERE key = ?", [(key,) for key in keys])
            self._count(-len(held), 0)
        return change[0]

    def size(self, key: ObjectKey) -> int | None:
        """The size of an object that is held or hidden."""
        return self._database.scalar("SELECT size FROM object WHERE key = ?", (key,))  # type: ignore[no-any-return]

    def held_size(self, key: ObjectKey) -> int | None:
        sql = "SELECT size FROM object WHERE key = ? AND deleted_at IS NULL"
        return self._database.scalar(sql, (key,))  # type: ignore[no-any-return]

    def body(self, key: ObjectKey, offset: int, length: int) -> Ciphertext | None:
        """A range of a small object's bytes, None when it has just gone."""
        # substr() counts from 1 and gives NULL for no row, b'' for an empty range.
        sql = "SELECT substr(data, ?, ?) FROM body WHERE key = ?"
        return self._database.scalar(sql, (offset + 1, length, key))  # type: ignore[no-any-return]

    def page(self, prefix: str, after: str, limit: int) -> list[Listed]:
        sql = """SELECT key, size FROM object WHERE key >= ? AND key < ? AND key > ? AND deleted_at IS NULL
            ORDER BY key LIMIT ?"""
        rows = self._database.query(sql, (prefix, prefix + _LAST_CHARACTER, after, max(limit, 0)))
        return [Listed(key, size) for key, size in rows]

    def missing(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        return {key for key in keys if self.held_size(key) is None}

    def pack_rows(self, shelf: str) -> dict[ObjectKey, int]:
        """Keys and sizes of all packs, held or hidden, whose name starts with two hex digits."""
        sql = "SELECT key, size FROM object WHERE key >= ? AND key < ?"
        return dict(self._database.query(sql, (f"p/{shelf}", f"p/{shelf}{_LAST_CHARACTER}")))

    def heads(self) -> dict[FeedId, Head]:
        """The head of every feed, found by skipping from feed to feed through the index."""
        heads = {}
        feed: FeedId | None = FeedId(b"")
        while (feed := self._database.scalar(_NEXT_FEED, (feed,))) is not None:
            if (head := self._head(feed)) is not None:
                heads[feed] = head
        return heads

    def flags(self) -> dict[ObjectKey, Flag]:
        """Siblings and gaps among the entries held; a sibling that also leaves a gap is flagged as a sibling."""
        flags = {ObjectKey(row[0]): Flag.GAP for row in self._database.query(_GAPS, (FLAGS_MAX,))}
        flags |= {ObjectKey(row[0]): Flag.SIBLING for row in self._database.query(_SIBLINGS, (FLAGS_MAX,))}
        return {key: flags[key] for key in sorted(flags)[:FLAGS_MAX]}

    def totals(self) -> tuple[int, int]:
        """(objects held, bytes stored); hidden ones count in the second only."""
        objects, stored = self._database.query("SELECT objects, stored_bytes FROM total")[0]
        return objects, stored

    def revision(self) -> int:
        return int(self._database.scalar("SELECT revision FROM total"))

    @contextmanager
    def _changing(self, keys: Iterable[ObjectKey]) -> Iterator[list[Change]]:
        """A transaction that moves the revision on if `keys` is not empty; yields where its Change will stand."""
        touched = list(keys)
        result: list[Change] = []
        with self._database.transaction():
            yield result
            if touched:
                self._database.execute("UPDATE total SET revision = revision + 1")
            result.append(self._change(touched))

    def _change(self, keys: Iterable[ObjectKey]) -> Change:
        feeds = {FeedId(bytes.fromhex(key.split("/")[1])) for key in keys if key.startswith("e/")}
        return Change(revision=self.revision(), heads={feed: self._head(feed) for feed in feeds})

    def _head(self, feed: FeedId) -> Head | None:
        row = self._database.query_one(_HEAD, (feed,))
        return None if row is None else Head(row[0], EntryHash(row[1]))

    def _select(self, keys: Iterable[ObjectKey], condition: str) -> list[ObjectKey]:
        sql = f"SELECT 1 FROM object WHERE key = ? AND {condition}"
        return [key for key in keys if self._database.scalar(sql, (key,))]

    def _show(self, keys: Sequence[ObjectKey]) -> None:
        self._database.executemany("UPDATE object SET deleted_at = NULL WHERE key = ?", [(key,) for key in keys])
        self._count(len(keys), 0)

    def _count(self, objects: int, stored: int) -> None:
        if not objects and not stored:
            return  # putting what is held already costs no write
        self._database.execute(
            "UPDATE total SET objects = objects + ?, stored_bytes = stored_bytes + ?", (objects, stored)
        )
