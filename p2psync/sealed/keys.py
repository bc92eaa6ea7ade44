"""Keys of blind objects: the names under which a store holds packs, entries and envelopes.

`p/<pack name>` · `e/<feed>/<seq as 16 hex>-<entry hash>` · `k/<epoch>/<envelope hash>`, all lower-case hex. Every key
holds the hash of its object and is never rewritten, so two branches of a forked feed both persist and LIST in key
order gives a feed in sequence. Source: formats, "Entry" and "Identity, folder, membership".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from p2psync.errors import PeerError
from p2psync.ids import EntryHash, EpochId, FeedId, PackName

ObjectKey = NewType("ObjectKey", str)

_FORM = re.compile(r"p/([0-9a-f]{64})|e/([0-9a-f]{64})/([0-9a-f]{16})-([0-9a-f]{64})|k/([0-9a-f]{32})/([0-9a-f]{64})")

PACKS = "p/"
ENTRIES = "e/"
ENVELOPES = "k/"


@dataclass(frozen=True, slots=True)
class PackKey:
    name: PackName


@dataclass(frozen=True, slots=True)
class EntryKey:
    feed: FeedId
    seq: int
    hash: EntryHash


@dataclass(frozen=True, slots=True)
class EnvelopeKey:
    epoch: EpochId
    hash: bytes


def pack_key(name: PackName) -> ObjectKey:
    return ObjectKey(f"p/{name.hex()}")


def entry_key(feed: FeedId, seq: int, entry_hash: EntryHash) -> ObjectKey:
    return ObjectKey(f"e/{feed.hex()}/{seq:016x}-{entry_hash.hex()}")


def entry_prefix(feed: FeedId) -> str:
    return f"e/{feed.hex()}/"


def after_seq(feed: FeedId, seq: int) -> str:
    """A LIST start-after position behind every entry of `feed` up to and including `seq`."""
    return f"e/{feed.hex()}/{seq:016x}-g"  # 'g' sorts after every hex digit


def seq_of(key: ObjectKey) -> int:
    """The number of the entry a key names; PeerError when it names none."""
    parsed = parse_key(key)
    if not isinstance(parsed, EntryKey):
        raise PeerError("not a key of an entry")
    return parsed.seq


def envelope_key(epoch: EpochId, envelope_hash: bytes) -> ObjectKey:
    return ObjectKey(f"k/{epoch.hex()}/{envelope_hash.hex()}")


def parse_key(key: str) -> PackKey | EntryKey | EnvelopeKey:
    """Read a key; PeerError when it has none of the three forms."""
    found = _FORM.fullmatch(key)
    if found is None:
        raise PeerError("not a key of a pack, entry or envelope")
    pack, feed, seq, entry_hash, epoch, envelope = found.groups()
    if pack:
        return PackKey(PackName(bytes.fromhex(pack)))
    if feed:
        return EntryKey(FeedId(bytes.fromhex(feed)), int(seq, 16), EntryHash(bytes.fromhex(entry_hash)))
    return EnvelopeKey(EpochId(bytes.fromhex(epoch)), bytes.fromhex(envelope))
