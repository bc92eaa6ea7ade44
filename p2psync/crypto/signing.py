"""Ed25519 with labels: what is signed is lp(label, fields…), so no signature is valid in two places.

The secret class never shows its bytes. Source: RFC 8032 through PyNaCl (libsodium).
"""

from __future__ import annotations

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from p2psync.crypto.hashing import equal, lp
from p2psync.errors import IntegrityError

SIGNATURE_BYTES = 64


class SigningKey:
    """An Ed25519 secret; `public` is its 32-byte public key."""

    __slots__ = ("_secret", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """`seed` is 32 random bytes (the RFC 8032 secret)."""
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.seed = seed

    def sign(self, label: str, *fields: bytes) -> bytes:
        """64-byte signature over lp(label, fields…)."""
        return bindings.crypto_sign(lp(label, *fields), self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()[:8]}…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKey) and equal(self.seed, other.seed)

    def __hash__(self) -> int:
        return hash(self.public)


def verify(public: bytes, signature: bytes, label: str, *fields: bytes) -> None:
    """Raise IntegrityError unless `signature` is `public`'s over lp(label, fields…)."""
    try:
        bindings.crypto_sign_open(signature + lp(label, *fields), public)
    except (BadSignatureError, CryptoError, ValueError):
        raise IntegrityError(f"bad signature ({label})") from None
