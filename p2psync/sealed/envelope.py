"""The outside of an envelope, the blind object that carries one epoch's secret to its members.

object = signed ‖ signature by an admin's feed key; signed = msgpack [version, epoch id, [parent epoch ids],
commitment, [sealed parent secrets], [boxes], feed]. Boxes stand in random order, padded to 2^k with dummies of the
same size, so the number of members is hidden within a factor of two. Key `k/<epoch id>/<hash>`. Source: formats, "envelope".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.crypto.signing import SIGNATURE_BYTES, SigningKey, verify
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import PeerError
from p2psync.ids import Ciphertext, EpochId, FeedId
from p2psync.limits import ENVELOPE_MAX
from p2psync.sealed.keys import ObjectKey, envelope_key

VERSION = 1
BOXES_MAX = 1024
BOX_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A parsed, signature-checked envelope. `data` is the object as stored."""

    epoch: EpochId
    parents: tuple[EpochId, ...]
    commitment: bytes
    sealed_parents: tuple[bytes, ...]
    boxes: tuple[bytes, ...]
    feed: FeedId
    hash: bytes
    data: Ciphertext

    @property
    def key(self) -> ObjectKey:
        return envelope_key(self.epoch, self.hash)


def epoch_id(folder: bytes, parents: tuple[EpochId, ...], commitment: bytes) -> EpochId:
    """The id of the epoch whose secret has this commitment (BLAKE3 over folder id, sorted parents, commitment)[:16]."""
    return EpochId(labelled_hash(domains.EPOCH_ID, folder, *sorted(parents), commitment)[:16])


def build(
    feed_key: SigningKey,
    epoch: EpochId,
    parents: tuple[EpochId, ...],
    commitment: bytes,
    sealed_parents: tuple[bytes, ...],
    boxes: tuple[bytes, ...],
) -> Envelope:
    signed = encode([VERSION, epoch, parents, commitment, sealed_parents, boxes, feed_key.public])
    return parse(signed + feed_key.sign(domains.SIGN_ENVELOPE, signed))


def parse(data: bytes) -> Envelope:
    """Parse and verify one object. PeerError on a wrong form, IntegrityError on a wrong signature."""
    if not SIGNATURE_BYTES < len(data) <= ENVELOPE_MAX:
        raise PeerError(f"an envelope of {len(data)} bytes is not of an allowed size")
    signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    fields = Fields(decode(signed, ENVELOPE_MAX), "envelope")
    if (version := fields.integer("version")) != VERSION:
        raise PeerError(f"envelope version {version} is not known here; update p2psync")
    epoch = EpochId(fields.data("epoch", size=16))
    parents = tuple(EpochId(_sized(item, 16)) for item in fields.array("parents", BOXES_MAX))
    commitment = fields.data("commitment", size=32)
    sealed_parents = tuple(_sized(item, None) for item in fields.array("sealed parents", BOXES_MAX))
    boxes = tuple(_sized(item, None) for item in fields.array("boxes", BOXES_MAX))
    feed = FeedId(fields.data("feed", size=32))
    fields.end()
    if len(boxes) & (len(boxes) - 1) or len({len(box) for box in boxes}) > 1:
        raise PeerError("envelope: boxes are not a power of two of equal sizes")
    if len(parents) != len(sealed_parents):
        raise PeerError("envelope: parents and their sealed secrets do not match")
    verify(feed, signature, domains.SIGN_ENVELOPE, signed)
    return Envelope(
        epoch=epoch, parents=parents, commitment=commitment, sealed_parents=sealed_parents, boxes=boxes,
        feed=feed, hash=labelled_hash(domains.ENVELOPE_HASH, signed), data=Ciphertext(data),
    )  # fmt: skip


def _sized(value: object, size: int | None) -> bytes:
    if not isinstance(value, bytes) or len(value) > BOX_BYTES_MAX or (size is not None and len(value) != size):
        raise PeerError("envelope: an item has the wrong form")
    return value
