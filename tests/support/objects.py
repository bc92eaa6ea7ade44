"""Small makers of valid blind objects: entry chains, packs, envelopes. Seeded, so the same call gives the same bytes.

The sealed bytes inside are random: below the key line nobody can tell.
"""

from __future__ import annotations

from random import Random

from p2psync.crypto.hashing import content_hash
from p2psync.crypto.signing import SigningKey
from p2psync.ids import ZERO_HASH, Ciphertext, EntryHash, EpochId, PackName
from p2psync.limits import ENTRY_STEP, PACK_SIZE_MIN
from p2psync.sealed import entry, envelope
from p2psync.sealed.keys import ObjectKey, pack_key
from p2psync.sealed.pack import HEADER_BYTES, PackHeader, padme

BlindObject = tuple[ObjectKey, Ciphertext]


def make_feed_key(seed: int = 0) -> SigningKey:
    """The feed key number `seed`."""
    return SigningKey(Random(f"feed {seed}").randbytes(32))


def make_epoch(seed: int = 0) -> EpochId:
    return EpochId(Random(f"epoch {seed}").randbytes(16))


def make_entry(
    feed_key: SigningKey, seq: int, previous: EntryHash, *, branch: int = 0, size: int = ENTRY_STEP
) -> entry.Entry:
    """One entry of `size` bytes in all; another `branch` gives a sibling with the same seq and previous."""
    random = Random(f"entry {feed_key.public.hex()} {seq} {previous.hex()} {branch}")
    sealed = random.randbytes(size - entry.outer_overhead(seq, size - 300))
    return entry.build(feed_key, seq, previous, make_epoch(), Ciphertext(sealed))


def make_chain(feed_key: SigningKey, length: int, *, branch: int = 0) -> list[entry.Entry]:
    """Entries 1 to `length` of a feed."""
    chain: list[entry.Entry] = []
    for seq in range(1, length + 1):
        chain.append(make_entry(feed_key, seq, chain[-1].hash if chain else ZERO_HASH, branch=branch))
    return chain


def make_pack(seed: int = 0, least: int = PACK_SIZE_MIN) -> BlindObject:
    """A pack of at least `least` bytes, of a size in the Padmé set, under its right name."""
    random = Random(f"pack {seed}")
    header = PackHeader(make_epoch(), random.randbytes(32)).encode()
    data = header + random.randbytes(padme(least) - HEADER_BYTES)
    return pack_key(PackName(content_hash(data))), Ciphertext(data)


def make_envelope(seed: int = 0, boxes: int = 2, parents: int = 1) -> envelope.Envelope:
    """An envelope with `boxes` (a power of two) boxes, signed by the feed key number `seed`."""
    random = Random(f"envelope {seed}")
    return envelope.build(
        make_feed_key(seed),
        EpochId(random.randbytes(16)),
        tuple(EpochId(random.randbytes(16)) for _ in range(parents)),
        random.randbytes(32),
        tuple(random.randbytes(80) for _ in range(parents)),
        tuple(random.randbytes(160) for _ in range(boxes)),
    )


def blind(made: entry.Entry | envelope.Envelope) -> BlindObject:
    """(key, bytes) of an entry or envelope, as `put` wants them."""
    return made.key, made.data
