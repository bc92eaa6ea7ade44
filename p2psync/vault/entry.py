"""Sealing and opening the inside of an entry.

sealed = salt (32) ‖ AEAD(key = KDF(S, KEY_ENTRY, salt), nonce 0, aad = lp(AAD_ENTRY, folder, feed, seq, previous,
epoch), kind (1) ‖ body length (4) ‖ body ‖ zeros), padded so that the whole object is 4 KiB · 2^k. What a body says is
the index's business. Source: formats, "Entry".
"""

from __future__ import annotations

from p2psync.crypto import domains
from p2psync.crypto.hashing import lp
from p2psync.crypto.signing import SigningKey
from p2psync.errors import IntegrityError
from p2psync.ids import Ciphertext, EntryHash, EpochId, FeedId, FolderId
from p2psync.limits import ENTRY_BODY_PLAIN_MAX
from p2psync.sealed import entry as outer
from p2psync.vault.aead import SALT_BYTES, TAG_BYTES, open_message, seal_message
from p2psync.vault.compression import compress, decompress
from p2psync.vault.secrets import EpochSecret

_PREFIX = 5
"""kind (1) and body length (4)."""


def _aad(folder: FolderId, feed: bytes, seq: int, previous: EntryHash, epoch: EpochId) -> bytes:
    return lp(domains.AAD_ENTRY, folder, feed, seq.to_bytes(8, "big"), previous, epoch)


def seal_entry(
    *,
    folder: FolderId,
    secret: EpochSecret,
    feed_key: SigningKey,
    seq: int,
    previous: EntryHash,
    body: bytes,
    salt: bytes,
) -> outer.Entry:
    """Compress, pad, seal and sign. ValueError when the body does not fit an entry even compressed."""
    kind, payload = compress(body)
    content = _PREFIX + len(payload)
    overhead = SALT_BYTES + TAG_BYTES
    least = outer.outer_overhead(seq, content + overhead) + overhead + content
    size = outer.padded_size(least)
    room = size - outer.outer_overhead(seq, size - 256) - overhead
    inner = b"".join((bytes([kind]), len(payload).to_bytes(4, "big"), payload)).ljust(room, b"\0")
    aad = _aad(folder, feed_key.public, seq, previous, secret.epoch)
    sealed = seal_message(secret.secret, domains.KEY_ENTRY, aad, inner, salt)
    return outer.build(feed_key, seq, previous, secret.epoch, Ciphertext(sealed))


def open_entry(folder: FolderId, secret: EpochSecret, entry: outer.Entry) -> bytes:
    """The body; IntegrityError when it was altered, or sealed for another folder, feed, place or epoch."""
    aad = _aad(folder, FeedId(entry.feed), entry.seq, entry.previous, entry.epoch)
    inner = memoryview(open_message(secret.secret, domains.KEY_ENTRY, aad, entry.sealed))
    size = int.from_bytes(inner[1:_PREFIX], "big")
    if len(inner) < _PREFIX or _PREFIX + size > len(inner):
        raise IntegrityError("entry: body length does not fit")
    if bytes(inner[_PREFIX + size :]).strip(b"\0"):
        raise IntegrityError("entry: padding is not zero")
    return decompress(inner[0], inner[_PREFIX : _PREFIX + size], ENTRY_BODY_PLAIN_MAX)
