"""Challenges and the proofs that answer them: who logs in here, and now.

Nonces belong to one connection, are used once, and expire on this relay's clock; the signed statement names this
relay's key. So a login can be neither replayed nor forwarded. Whether the key may do what it asks is `access`'s matter.
"""

from __future__ import annotations

from p2psync.errors import AccessRefused
from p2psync.ids import RelayKey
from p2psync.limits import CHALLENGE_SECONDS
from p2psync.seams import Clock, Randomness
from p2psync.wire.login import NONCE_BYTES, check_creation, check_login
from p2psync.wire.messages import Challenge, CreateNamespace, Login

OUTSTANDING_MAX = 64
"""Challenges one connection may hold; the oldest goes first."""


class Challenges:
    """The open challenges of one connection."""

    def __init__(self, relay_key: RelayKey, clock: Clock, randomness: Randomness, origin: str | None) -> None:
        self._relay_key, self._clock, self._randomness, self._origin = relay_key, clock, randomness, origin
        self._open: dict[bytes, int] = {}

    def make(self, request: int) -> Challenge:
        nonce = self._randomness.bytes(NONCE_BYTES)
        expiry = int(self._clock.now()) + CHALLENGE_SECONDS
        self._open[nonce] = expiry
        if len(self._open) > OUTSTANDING_MAX:
            del self._open[next(iter(self._open))]
        return Challenge(request=request, nonce=nonce, expiry=expiry)

    def check_login(self, login: Login) -> None:
        """AccessRefused unless the key it shows signed it in answer to an open challenge."""
        self._use(login.nonce, login.expiry)
        check_login(
            login.access_key, login.signature, self._relay_key, login.namespace, login.right, login.nonce,
            login.expiry, self._origin,
        )  # fmt: skip

    def check_creation(self, creation: CreateNamespace) -> None:
        self._use(creation.nonce, creation.expiry)
        check_creation(creation.owner, creation.signature, self._relay_key, creation.nonce, creation.expiry)

    def _use(self, nonce: bytes, expiry: int) -> None:
        if self._open.pop(nonce, None) != expiry:
            raise AccessRefused("the login answers no open challenge of this connection")
        if self._clock.now() > expiry:
            raise AccessRefused("the login came too late after its challenge")
