"""Proof that a feed forked: its key signed two different entries for one place.

Anyone can check it without the entries, whoever hands it over. Says nothing of which branch is right: neither is.
Source: formats, "Entry" and "Forks".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto.signing import SIGNATURE_BYTES
from p2psync.encoding import Fields
from p2psync.errors import BugError, IntegrityError, PeerError
from p2psync.ids import EntryHash, FeedId
from p2psync.limits import SEQ_MAX
from p2psync.sealed.entry import Entry, verify_place


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Two entries of `feed` at `seq`, as (hash, signature), in the order of their hashes."""

    feed: FeedId
    seq: int
    sides: tuple[tuple[EntryHash, bytes], tuple[EntryHash, bytes]]

    def encode_list(self) -> list[object]:
        return [self.feed, self.seq, *(value for side in self.sides for value in side)]


class ForkFound(IntegrityError):
    """Two entries of one place are here. Reaction: from there on nothing of the feed counts; the proof is passed on."""

    def __init__(self, proof: ForkProof) -> None:
        super().__init__(f"feed {proof.feed.hex()[:8]} has two different entries {proof.seq}")
        self.proof = proof


def prove_fork(one: Entry, other: Entry) -> ForkProof:
    """BugError unless these are two entries of one place."""
    if (one.feed, one.seq) != (other.feed, other.seq) or one.hash == other.hash:
        raise BugError("these two entries prove no fork")
    first, second = sorted([(one.hash, one.signature), (other.hash, other.signature)])
    return ForkProof(one.feed, one.seq, (first, second))


def read_fork(fields: Fields) -> ForkProof:
    """Read and verify the six fields of a proof; IntegrityError when the feed's key did not sign both."""
    feed, seq = FeedId(fields.data("feed", size=32)), fields.integer("seq", 1, SEQ_MAX)
    sides = [
        (EntryHash(fields.data("hash", size=32)), fields.data("signature", size=SIGNATURE_BYTES)) for _ in range(2)
    ]
    if sides[0][0] >= sides[1][0]:
        raise PeerError("a proof of a fork needs two different entries, in the order of their hashes")
    for entry_hash, signature in sides:
        verify_place(feed, seq, entry_hash, signature)
    return ForkProof(feed, seq, (sides[0], sides[1]))
