"""What a device calls out on a LAN: words that only members of its folders understand, new ones every day.

A beacon says "member so-and-so of folder so-and-so listens on this port". It is found by a tag that members compute
beforehand for everybody and every day around, and sealed under a key of the same day, so that it cannot be altered
(played again elsewhere it can be: whoever dials compares the pin). To anybody else all of it is noise: beacons of
different days have nothing in common, and noise of the same size fills what is not needed. Source: formats, "Links".
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.crypto import domains
from p2psync.crypto.hashing import derive_key, lp
from p2psync.errors import IntegrityError
from p2psync.ids import IdentityKey
from p2psync.vault.aead import SALT_BYTES, TAG_BYTES, open_message, seal_message
from p2psync.vault.secrets import EpochSecret

BEACON_TAG_BYTES = 16
_PORT_BYTES = 2
BEACON_BYTES = BEACON_TAG_BYTES + SALT_BYTES + _PORT_BYTES + TAG_BYTES
BEACONS_PER_ANNOUNCEMENT = 16
ANNOUNCEMENT_BYTES = BEACON_BYTES * BEACONS_PER_ANNOUNCEMENT
"""1056 bytes: fits every network's packets, and is always sent in full."""


def beacon_tag(secret: EpochSecret, day: int, identity: IdentityKey) -> bytes:
    """What a beacon of `identity` on `day` (days since 1970, UTC) begins with."""
    return derive_key(secret.secret, domains.KEY_LAN_TAG, _day(day), identity)[:BEACON_TAG_BYTES]


def seal_beacon(secret: EpochSecret, day: int, identity: IdentityKey, port: int, salt: bytes) -> bytes:
    """`salt` is 32 random bytes, new every time."""
    key = derive_key(secret.secret, domains.KEY_LAN, _day(day), identity)
    sealed = seal_message(key, domains.KEY_LAN, _aad(secret), port.to_bytes(_PORT_BYTES, "big"), salt)
    return beacon_tag(secret, day, identity) + sealed


def open_beacon(secret: EpochSecret, day: int, identity: IdentityKey, beacon: bytes) -> int:
    """The port of a beacon whose tag is known; IntegrityError when it was not made with the day's key."""
    key = derive_key(secret.secret, domains.KEY_LAN, _day(day), identity)
    plain = open_message(key, domains.KEY_LAN, _aad(secret), beacon[BEACON_TAG_BYTES:])
    port = int.from_bytes(plain, "big")
    if len(plain) != _PORT_BYTES or not port:
        raise IntegrityError("a beacon without a port")
    return port


def build_announcement(beacons: Sequence[bytes], noise: bytes) -> bytes:
    """At most BEACONS_PER_ANNOUNCEMENT beacons in one datagram, filled up with `noise` (random, ANNOUNCEMENT_BYTES)."""
    return (b"".join(beacons) + noise)[:ANNOUNCEMENT_BYTES]


def split_announcement(data: bytes) -> list[bytes]:
    """The beacons of a datagram, ours or not; empty when it cannot be an announcement."""
    if len(data) != ANNOUNCEMENT_BYTES:
        return []
    return [data[start : start + BEACON_BYTES] for start in range(0, ANNOUNCEMENT_BYTES, BEACON_BYTES)]


def _day(day: int) -> bytes:
    return day.to_bytes(4, "big")


def _aad(secret: EpochSecret) -> bytes:
    return lp(domains.AAD_LAN, secret.epoch)
