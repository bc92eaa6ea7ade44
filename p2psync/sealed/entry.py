"""The outside of an entry: what anyone may read and check without a key.

object = signed ‖ signature, signed = msgpack [version, feed, seq, previous hash, epoch id, sealed], signature by the
feed key over lp(SIGN_ENTRY, seq, entry hash), so that two signatures prove a fork without the entries (`fork.py`). The
hash names `signed` only. Checks are made over the received bytes. This module does not know what `sealed` means.
Source: formats, "Entry".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.crypto.signing import SIGNATURE_BYTES, SigningKey, verify
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import ZERO_HASH, Ciphertext, EntryHash, EpochId, FeedId
from p2psync.limits import ENTRY_MAX, ENTRY_STEP, SEQ_MAX
from p2psync.sealed.keys import ObjectKey, entry_key

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed, signature-checked entry. `data` is the object as stored."""

    feed: FeedId
    seq: int
    previous: EntryHash
    epoch: EpochId
    sealed: Ciphertext
    hash: EntryHash
    data: Ciphertext

    @property
    def key(self) -> ObjectKey:
        return entry_key(self.feed, self.seq, self.hash)

    @property
    def signature(self) -> bytes:
        return self.data[-SIGNATURE_BYTES:]


def padded_size(least: int) -> int:
    """The smallest allowed object size (ENTRY_STEP · 2^k) that holds `least` bytes. ValueError above ENTRY_MAX."""
    size = ENTRY_STEP
    while size < least:
        size *= 2
    if size > ENTRY_MAX:
        raise ValueError("entry too large")
    return size


def outer_overhead(seq: int, sealed_size: int) -> int:
    """Bytes the outer fields and the signature add to `sealed_size` bytes of sealed body."""
    empty = len(encode([VERSION, bytes(32), seq, bytes(32), bytes(16), b""]))  # b"" costs a 2-byte header
    header = 2 if sealed_size < 1 << 8 else 3 if sealed_size < 1 << 16 else 5
    return empty - 2 + header + SIGNATURE_BYTES


def build(feed_key: SigningKey, seq: int, previous: EntryHash, epoch: EpochId, sealed: Ciphertext) -> Entry:
    """Frame and sign an entry whose sealed body was sized to make a padded object."""
    signed = encode([VERSION, feed_key.public, seq, previous, epoch, sealed])
    entry_hash = EntryHash(labelled_hash(domains.ENTRY_HASH, signed))
    return Entry(
        feed=FeedId(feed_key.public), seq=seq, previous=previous, epoch=epoch, sealed=sealed, hash=entry_hash,
        data=Ciphertext(signed + feed_key.sign(domains.SIGN_ENTRY, seq.to_bytes(8, "big"), entry_hash)),
    )  # fmt: skip


def parse(data: bytes) -> Entry:
    """Parse and verify one object. PeerError on a wrong form, IntegrityError on a wrong signature."""
    if len(data) > ENTRY_MAX or len(data) < ENTRY_STEP or padded_size(len(data)) != len(data):
        raise PeerError(f"an entry of {len(data)} bytes is not of an allowed size")
    signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    fields = Fields(decode(signed, ENTRY_MAX), "entry")
    if (version := fields.integer("version")) != VERSION:
        raise PeerError(f"entry version {version} is not known here; update p2psync")
    feed = FeedId(fields.data("feed", size=32))
    seq = fields.integer("seq", 1, SEQ_MAX)
    previous = EntryHash(fields.data("previous", size=32))
    epoch = EpochId(fields.data("epoch", size=16))
    sealed = Ciphertext(fields.data("sealed", most=ENTRY_MAX))
    fields.end()
    if (seq == 1) != (previous == ZERO_HASH):
        raise PeerError("entry 1, and only entry 1, follows nothing")
    entry_hash = EntryHash(labelled_hash(domains.ENTRY_HASH, signed))
    verify_place(feed, seq, entry_hash, signature)
    return Entry(
        feed=feed, seq=seq, previous=previous, epoch=epoch, sealed=sealed, hash=entry_hash, data=Ciphertext(data)
    )


def verify_place(feed: FeedId, seq: int, entry_hash: EntryHash, signature: bytes) -> None:
    """IntegrityError unless the feed's key signed that this entry stands at this place."""
    verify(feed, signature, domains.SIGN_ENTRY, seq.to_bytes(8, "big"), entry_hash)


def check_follows(entry: Entry, seq: int, last: EntryHash) -> None:
    """Raise IntegrityError unless `entry` is the direct successor of (seq, last) in its feed."""
    if entry.seq != seq + 1:
        raise IntegrityError(f"feed {entry.feed.hex()[:8]}: entry {entry.seq} where {seq + 1} was expected")
    if entry.previous != last:
        raise IntegrityError(f"feed {entry.feed.hex()[:8]}: entry {entry.seq} follows another branch (fork)")
