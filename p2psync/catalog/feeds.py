"""Feeds, entries, what their authors had seen, and membership: the tables behind admission.

Does not judge: signatures, chains and roles are checked before anything is written here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from p2psync.errors import PeerError
from p2psync.ids import ZERO_HASH, Ciphertext, EntryHash, FeedId, IdentityKey
from p2psync.index.body import FeedHead
from p2psync.index.membership import Membership, NotYetKnown
from p2psync.index.records import RecordType, record_type
from p2psync.index.versions import Vector
from p2psync.sealed.entry import Entry
from p2psync.sealed.keys import ObjectKey, entry_key
from p2psync.store.sqlite import Database


@dataclass(frozen=True, slots=True)
class FeedState:
    """How far this device holds a feed; seq 0 means not at all. `held` says why it goes no further."""

    feed: FeedId
    identity: IdentityKey | None
    seq: int
    hash: EntryHash
    held: str | None = None


class Feeds:
    def __init__(self, database: Database) -> None:
        self._db = database

    def state(self, feed: FeedId) -> FeedState:
        row = self._db.query_one("SELECT identity, seq, hash, held FROM feed WHERE feed = ?", (feed,))
        return FeedState(feed, None, 0, ZERO_HASH) if row is None else FeedState(feed, *row)

    def states(self) -> list[FeedState]:
        return [FeedState(*row) for row in self._db.query("SELECT feed, identity, seq, hash, held FROM feed")]

    def hold(self, feed: FeedId, reason: str | None) -> None:
        """Say why a feed goes no further (None: it goes on again)."""
        self._db.execute(
            "INSERT INTO feed (feed, seq, hash, held) VALUES (?, 0, ?, ?) ON CONFLICT (feed) DO UPDATE SET held = ?3",
            (feed, ZERO_HASH, reason),
        )

    def append(self, entry: Entry, identity: IdentityKey) -> None:
        self._db.execute(
            "INSERT INTO feed (feed, identity, seq, hash) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (feed) DO UPDATE SET identity = ?2, seq = ?3, hash = ?4, held = NULL",
            (entry.feed, identity, entry.seq, entry.hash),
        )
        self._db.execute(
            "INSERT INTO entry (feed, seq, hash, data) VALUES (?, ?, ?, ?)",
            (entry.feed, entry.seq, entry.hash, entry.data),
        )

    def entry(self, feed: FeedId, seq: int) -> Ciphertext | None:
        data = self._db.scalar("SELECT data FROM entry WHERE feed = ? AND seq = ?", (feed, seq))
        return None if data is None else Ciphertext(data)

    def hash_at(self, feed: FeedId, seq: int) -> EntryHash | None:
        """The hash of a held entry."""
        name = self._db.scalar("SELECT hash FROM entry WHERE feed = ? AND seq = ?", (feed, seq))
        return None if name is None else EntryHash(name)

    def entries_after(self, feed: FeedId, seq: int, limit: int) -> list[tuple[int, ObjectKey, Ciphertext]]:
        """Up to `limit` held entries behind `seq`, in order."""
        rows = self._db.query(
            "SELECT seq, hash, data FROM entry WHERE feed = ? AND seq > ? ORDER BY seq LIMIT ?", (feed, seq, limit)
        )
        return [(number, entry_key(feed, number, EntryHash(name)), Ciphertext(data)) for number, name, data in rows]

    # What authors had seen.

    def seen(self, feed: FeedId) -> dict[FeedId, int]:
        rows = self._db.query("SELECT other, seq FROM seen WHERE feed = ?", (feed,))
        return {FeedId(other): seq for other, seq in rows}

    def note_seen(self, feed: FeedId, seen: Vector) -> None:
        """Its author had seen the other feeds so far: never less than it said before."""
        self._db.executemany(
            "INSERT INTO seen (feed, other, seq) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
            [(feed, other, seq) for other, seq in seen.items()],
        )

    def unannounced(self, own: FeedId, everything: bool) -> tuple[FeedHead, ...]:
        """Heads of the other feeds that changed since our last entry (or all of them)."""
        rows = self._db.query(
            "SELECT feed, seq, hash FROM feed WHERE feed <> ? AND seq > 0 AND (? OR seq > announced) ORDER BY feed",
            (own, everything),
        )
        return tuple(FeedHead(FeedId(feed), seq, EntryHash(name)) for feed, seq, name in rows)

    def mark_announced(self, heads: tuple[FeedHead, ...]) -> None:
        self._db.executemany("UPDATE feed SET announced = ? WHERE feed = ?", [(head.seq, head.feed) for head in heads])

    # Membership and blind objects.

    def add_membership(self, author: IdentityKey, data: bytes) -> None:
        """Keep an accepted record; one that is kept already changes nothing."""
        self._db.execute(
            "INSERT INTO membership (author, data) SELECT ?1, ?2"
            " WHERE NOT EXISTS (SELECT 1 FROM membership WHERE author = ?1 AND data = ?2)",
            (author, data),
        )

    def load_membership(self, membership: Membership, without: Collection[bytes] = ()) -> None:
        """Replay the accepted records into an empty `membership`; those of `without`, and what needs them, left out."""
        for author, data in self._db.query("SELECT author, data FROM membership ORDER BY position"):
            if record_type(data) == RecordType.GENESIS:
                membership.apply_genesis(data)
            elif data not in without:
                try:
                    membership.apply_add(data, IdentityKey(author))
                except (NotYetKnown, PeerError):
                    if not without:
                        raise

    def add_object(self, key: ObjectKey, data: Ciphertext) -> None:
        self._db.execute("INSERT OR IGNORE INTO object (key, data) VALUES (?, ?)", (key, data))

    def objects(self) -> list[tuple[ObjectKey, Ciphertext]]:
        rows = self._db.query("SELECT key, data FROM object ORDER BY key")
        return [(ObjectKey(key), Ciphertext(data)) for key, data in rows]
