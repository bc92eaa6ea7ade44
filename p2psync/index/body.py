"""The body of an entry: what its author had seen, and its records.

body = msgpack [membership heads, author's time in ms (display only), [[feed, seq, hash]…] heads that changed since the
author's previous entry (all of them every 256th), [record bytes…], seq of the first part of the author's newest complete
snapshot if there is one]. An empty list of records is a heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.encoding import Fields, decode, encode
from p2psync.errors import PeerError
from p2psync.ids import EntryHash, FeedId, RecordHash
from p2psync.limits import ENTRY_BODY_PLAIN_MAX, SEQ_MAX, VECTOR_MAX

ALL_HEADS_EVERY = 256
RECORDS_MAX = 1 << 16
_MEMBERSHIP_HEADS_MAX = 256


@dataclass(frozen=True, slots=True)
class FeedHead:
    """A place in a feed: its last entry's number and hash."""

    feed: FeedId
    seq: int
    hash: EntryHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    membership: tuple[RecordHash, ...]
    time_ms: int
    heads: tuple[FeedHead, ...]
    records: tuple[bytes, ...]
    snapshot: int = 0
    """Where the author's newest complete snapshot begins; 0: there is none. A hint where to start reading."""


def encode_body(body: Body) -> bytes:
    heads = [[head.feed, head.seq, head.hash] for head in body.heads]
    fields: list[object] = [body.membership, body.time_ms, heads, body.records]
    return encode([*fields, body.snapshot] if body.snapshot else fields)


def decode_body(data: bytes) -> Body:
    """PeerError on a wrong form."""
    fields = Fields(decode(data, ENTRY_BODY_PLAIN_MAX), "entry body")
    membership = fields.array("membership heads", _MEMBERSHIP_HEADS_MAX)
    time_ms = fields.integer("time", 0)
    heads = tuple(read_head(item) for item in fields.array("heads", VECTOR_MAX))
    records = fields.array("records", RECORDS_MAX)
    snapshot = fields.integer("snapshot", 2, SEQ_MAX) if fields.more else 0
    fields.end()
    if not all(isinstance(item, bytes) and len(item) == 32 for item in membership):
        raise PeerError("entry body: membership heads are not hashes")
    if not all(isinstance(item, bytes) for item in records):
        raise PeerError("entry body: records are not bytes")
    return Body(membership=membership, time_ms=time_ms, heads=heads, records=records, snapshot=snapshot)


def read_head(item: object) -> FeedHead:
    fields = Fields(item, "head")
    head = FeedHead(
        FeedId(fields.data("feed", size=32)), fields.integer("seq", 1, SEQ_MAX), EntryHash(fields.data("hash", size=32))
    )
    fields.end()
    return head
