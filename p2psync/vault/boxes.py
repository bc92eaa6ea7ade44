"""X25519 sealed boxes: anyone can seal to a public key, only its owner opens.

The bytes are libsodium's `crypto_box_seal` (ephemeral key ‖ box, nonce = BLAKE2b-24(ephemeral ‖ recipient)); sealing
takes the ephemeral seed as an argument, so that it can be replayed in a simulation. Opening is libsodium's own.
"""

from __future__ import annotations

from nacl import bindings
from nacl.encoding import RawEncoder
from nacl.exceptions import CryptoError
from nacl.hash import blake2b

from p2psync.crypto.hashing import equal
from p2psync.errors import IntegrityError, PeerError

KEY_BYTES = 32
OVERHEAD = 48
"""Ephemeral public key (32) and Poly1305 tag (16)."""


class BoxKey:
    """An X25519 secret; `public` is its 32-byte public key."""

    __slots__ = ("public", "seed")

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.public = bindings.crypto_scalarmult_base(seed)

    def open(self, sealed: bytes) -> bytes:
        """Open a box sealed to this key; IntegrityError otherwise."""
        try:
            return bindings.crypto_box_seal_open(sealed, self.public, self.seed)
        except (CryptoError, ValueError, TypeError):
            raise IntegrityError("a sealed box does not open with this device's key") from None

    def __repr__(self) -> str:
        return f"BoxKey(public={self.public.hex()[:8]}…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoxKey) and equal(self.seed, other.seed)

    def __hash__(self) -> int:
        return hash(self.public)


def seal_box(recipient: bytes, plain: bytes, ephemeral_seed: bytes) -> bytes:
    """Seal to a 32-byte X25519 public key; `ephemeral_seed` is 32 fresh random bytes."""
    ephemeral = BoxKey(ephemeral_seed)
    nonce = blake2b(ephemeral.public + recipient, digest_size=24, encoder=RawEncoder)
    try:
        return ephemeral.public + bindings.crypto_box(plain, nonce, recipient, ephemeral.seed)
    except CryptoError:
        raise PeerError("an encryption key that nobody can own (small order)") from None
