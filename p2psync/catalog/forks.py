"""Forked feeds, and the replay that works everything out anew when entries turn out not to count.

Bookkeeping only: what a fork means is decided in `replica/forking.py`, what is replayed in `replica/rebuilding.py`.
Source: formats, "Forks".
"""

from __future__ import annotations

from p2psync.catalog.locations import SEALED
from p2psync.catalog.totals import Totals
from p2psync.ids import Ciphertext, FeedId
from p2psync.index.forks import encode_fork
from p2psync.sealed.fork import ForkProof
from p2psync.store.sqlite import Database

_DERIVED = (
    "entry", "version", "beyond", "settled", "wanted", "need", "seen", "feed", "inline_chunk", "snapshot", "snapshot_seen",
    "restated",
)  # fmt: skip
"""Tables that hold entries and what follows from them alone. Not `membership`: who was admitted once stays a member, or
what was written under that admission could never be read again."""


class Forks:
    def __init__(self, database: Database, totals: Totals) -> None:
        self._db, self._totals = database, totals

    def cut(self, feed: FeedId) -> int | None:
        """The first entry of a forked feed that does not count; None for a feed that has not forked."""
        seq: int | None = self._db.scalar("SELECT seq FROM fork WHERE feed = ?", (feed,))
        return seq

    def add(self, proof: ForkProof) -> bool:
        """Keep a proof; False when the feed is known to have forked there or earlier."""
        known = self.cut(proof.feed)
        if known is not None and known <= proof.seq:
            return False
        self._db.execute(
            "INSERT INTO fork (feed, seq, proof) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (feed) DO UPDATE SET seq = ?2, proof = ?3",
            (proof.feed, proof.seq, encode_fork(proof)),
        )
        return True

    def all(self) -> list[tuple[FeedId, int, bytes]]:
        """Every forked feed: where, and the record that proves it."""
        return [(FeedId(feed), seq, proof) for feed, seq, proof in self._db.query("SELECT feed, seq, proof FROM fork")]

    # Replay.

    def begin_replay(self, feed: FeedId, after: int) -> None:
        """Set every held entry aside but those of `feed` behind `after`, and clear what follows from entries.

        What the disk holds (`placed`, intents, local versions), packs on their way and queued uploads stay. A pack that
        only void entries announced is forgotten, since nobody else will know of it.
        """
        self._db.execute("DROP TABLE IF EXISTS replay")
        self._db.execute(
            "CREATE TEMP TABLE replay (feed BLOB, seq INTEGER, data BLOB, PRIMARY KEY (feed, seq)) WITHOUT ROWID"
        )
        self._db.execute(
            "INSERT INTO replay SELECT feed, seq, data FROM entry WHERE feed <> ? OR seq <= ?", (feed, after)
        )
        for table in _DERIVED:
            self._db.execute(f"DELETE FROM {table}")
        self._totals.forget_wanted()
        self._db.execute("DELETE FROM location WHERE pack IN (SELECT id FROM pack WHERE state <> ?)", (SEALED,))
        self._db.execute("DELETE FROM pack WHERE state <> ?", (SEALED,))
        self._db.execute(
            "DELETE FROM past WHERE author = (SELECT id FROM author WHERE feed = ?) AND seq > ?", (feed, after)
        )

    def replay_feeds(self) -> list[FeedId]:
        return [FeedId(feed) for (feed,) in self._db.query("SELECT DISTINCT feed FROM replay ORDER BY feed")]

    def replay_after(self, feed: FeedId, seq: int, limit: int) -> list[Ciphertext]:
        rows = self._db.query(
            "SELECT data FROM replay WHERE feed = ? AND seq > ? ORDER BY seq LIMIT ?", (feed, seq, limit)
        )
        return [Ciphertext(data) for (data,) in rows]

    def end_replay(self, own: FeedId) -> None:
        """What our own entries had told of the other feeds is told still."""
        self._db.execute("DROP TABLE replay")
        self._db.execute(
            "UPDATE feed SET announced = coalesce((SELECT seen.seq FROM seen WHERE seen.feed = ? AND other = feed.feed), 0)",
            (own,),
        )
