"""Making and opening envelopes: how an epoch's secret reaches its members.

box = sealed_box(lp(BOX_EPOCH, folder, epoch, recipient, issuer, S, generation secrets), recipient's X25519 key). A
parent's secret is sealed under the child's, so whoever holds the newest epoch can read back. What a recipient opened is
provisional until the `rotate` record and the issuer's binding validate: that judgement is made above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import equal, lp, split_lp
from p2psync.crypto.signing import SigningKey
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import EpochId, FolderId, IdentityKey
from p2psync.sealed import envelope as outer
from p2psync.vault.aead import open_message, seal_message
from p2psync.vault.boxes import OVERHEAD, BoxKey, seal_box
from p2psync.vault.secrets import SECRET_BYTES, EpochSecret, Generation, commitment

_GENERATION_BYTES = 2 + SECRET_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class OpenedBox:
    """What a box held: provisional until its issuer is known to be an admin."""

    secret: EpochSecret
    generations: tuple[Generation, ...]
    issuer: IdentityKey


def encode_generations(generations: Sequence[Generation]) -> bytes:
    return b"".join(held.number.to_bytes(2, "big") + held.secret for held in generations)


def decode_generations(data: bytes) -> tuple[Generation, ...]:
    if len(data) % _GENERATION_BYTES:
        raise PeerError("generation secrets have the wrong size")
    rows = (data[i : i + _GENERATION_BYTES] for i in range(0, len(data), _GENERATION_BYTES))
    return tuple(Generation(int.from_bytes(row[:2], "big"), row[2:]) for row in rows)


def seal_envelope(
    *,
    folder: FolderId,
    secret: EpochSecret,
    generations: Sequence[Generation],
    issuer: IdentityKey,
    feed_key: SigningKey,
    recipients: Sequence[bytes],
    parents: Sequence[EpochSecret],
    random: Callable[[int], bytes],
) -> outer.Envelope:
    """Make the envelope of `secret` for X25519 `recipients`; `random(n)` gives n fresh random bytes."""

    def box(recipient: bytes) -> bytes:
        plain = lp(
            domains.BOX_EPOCH, folder, secret.epoch, recipient, issuer, secret.secret, encode_generations(generations)
        )
        return seal_box(recipient, plain, random(32))

    boxes = [box(recipient) for recipient in recipients]
    while len(boxes) & (len(boxes) - 1):
        dummy = BoxKey(random(32)).public
        boxes.append(seal_box(dummy, bytes(len(boxes[0]) - OVERHEAD), random(32)))
    order = sorted(boxes, key=lambda _: random(16))
    sealed_parents = tuple(
        seal_message(
            secret.secret,
            domains.KEY_ENVELOPE_PARENT,
            lp(domains.AAD_ENVELOPE_PARENT, folder, secret.epoch, parent.epoch),
            parent.secret,
            random(32),
        )
        for parent in parents
    )
    parent_ids = tuple(parent.epoch for parent in parents)
    return outer.build(feed_key, secret.epoch, parent_ids, commitment(secret.secret), sealed_parents, tuple(order))


def open_envelope(folder: FolderId, key: BoxKey, envelope: outer.Envelope) -> OpenedBox:
    """Find and open this device's box; IntegrityError when there is none or it does not fit the envelope."""
    for box in envelope.boxes:
        try:
            plain = key.open(box)
        except IntegrityError:
            continue
        held, epoch, recipient, issuer, secret, generations = split_lp(domains.BOX_EPOCH, plain, 6)
        if held != folder or epoch != envelope.epoch or not equal(recipient, key.public):
            raise IntegrityError("a box in this envelope was made for another folder, epoch or device")
        if commitment(secret) != envelope.commitment or outer.epoch_id(
            folder, envelope.parents, envelope.commitment
        ) != EpochId(epoch):
            raise IntegrityError("a box holds another secret than its envelope commits to")
        return OpenedBox(EpochSecret(EpochId(epoch), secret), decode_generations(generations), IdentityKey(issuer))
    raise IntegrityError("this envelope holds no box for this device")


def open_parents(folder: FolderId, secret: EpochSecret, envelope: outer.Envelope) -> list[EpochSecret]:
    """The parents' secrets, readable by whoever holds this epoch."""
    opened = []
    for parent, sealed in zip(envelope.parents, envelope.sealed_parents, strict=True):
        aad = lp(domains.AAD_ENVELOPE_PARENT, folder, secret.epoch, parent)
        opened.append(EpochSecret(parent, open_message(secret.secret, domains.KEY_ENVELOPE_PARENT, aad, sealed)))
    return opened
