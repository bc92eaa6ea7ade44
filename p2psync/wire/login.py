"""What a device says to be let in: rights, the namespace's name, and the statements that are signed.

Both ends build the same fields from here, so that neither can drift. Source: formats, "Links and relays".
"""

from __future__ import annotations

from enum import Enum

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.crypto.signing import SigningKey, verify
from p2psync.errors import AccessRefused, IntegrityError, PeerError
from p2psync.ids import AccessKey, NamespaceId, RelayKey

NONCE_BYTES = 32


class Right(Enum):
    """What an access key may do in a namespace; each holds those before it."""

    GET = "get"
    """get, list, missing, heads, watch, usage"""
    PUT = "put"
    """and put"""
    OWN = "own"
    """and delete, restore, and changing the access list"""

    def covers(self, other: Right) -> bool:
        return _RANK[self] >= _RANK[other]


_RANK = {Right.GET: 0, Right.PUT: 1, Right.OWN: 2}


def namespace_id(owner: AccessKey | bytes, relay: RelayKey) -> NamespaceId:
    """The name of the namespace whose first owner is `owner`: it says nothing about folder or devices."""
    return NamespaceId(labelled_hash(domains.NAMESPACE_ID, owner, relay)[:16])


def _time(expiry: int) -> bytes:
    return expiry.to_bytes(8, "big")


def sign_hello(relay: SigningKey, nonce: bytes, origin: str | None) -> bytes:
    return relay.sign(domains.SIGN_RELAY_HELLO, nonce, (origin or "").encode())


def check_hello(relay: RelayKey, signature: bytes, nonce: bytes, origin: str | None) -> None:
    """PeerError unless the relay that holds `relay` answered our nonce."""
    try:
        verify(relay, signature, domains.SIGN_RELAY_HELLO, nonce, (origin or "").encode())
    except IntegrityError:
        raise PeerError("the relay's hello is not signed by its own key") from None


def sign_login(
    key: SigningKey,
    relay: RelayKey,
    namespace: NamespaceId,
    right: Right,
    nonce: bytes,
    expiry: int,
    origin: str | None,
) -> bytes:
    return key.sign(domains.SIGN_LOGIN, *_login_fields(relay, namespace, right, nonce, expiry, origin))


def check_login(
    key: AccessKey, signature: bytes, relay: RelayKey, namespace: NamespaceId, right: Right, nonce: bytes,
    expiry: int, origin: str | None,
) -> None:  # fmt: skip
    """AccessRefused unless `key` signed this login for this relay."""
    try:
        verify(key, signature, domains.SIGN_LOGIN, *_login_fields(relay, namespace, right, nonce, expiry, origin))
    except IntegrityError:
        raise AccessRefused("the login was not signed for this relay and namespace by the key it shows") from None


def _login_fields(
    relay: RelayKey, namespace: NamespaceId, right: Right, nonce: bytes, expiry: int, origin: str | None
) -> tuple[bytes, ...]:
    fields = (relay, namespace, right.value.encode(), nonce, _time(expiry))
    return fields if origin is None else (*fields, origin.encode())


def sign_creation(owner: SigningKey, relay: RelayKey, nonce: bytes, expiry: int) -> bytes:
    return owner.sign(domains.SIGN_NAMESPACE, relay, nonce, _time(expiry))


def check_creation(owner: AccessKey, signature: bytes, relay: RelayKey, nonce: bytes, expiry: int) -> None:
    try:
        verify(owner, signature, domains.SIGN_NAMESPACE, relay, nonce, _time(expiry))
    except IntegrityError:
        raise AccessRefused("the namespace was not asked for by the key that would own it") from None
