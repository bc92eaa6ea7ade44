"""Relay URLs: `p2p://host:port/#pin`.

The pin is the BLAKE3 hash of the relay's public key in base32, so the URL alone says whom to trust: whoever has it
needs no certificate authority. This module knows text only.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import urlsplit

from p2psync.crypto.hashing import content_hash
from p2psync.errors import UserError
from p2psync.ids import RelayKey
from p2psync.net.network import place

SCHEME = "p2p"
DEFAULT_PORT = 22443
PIN_BYTES = 32


def pin_of(key: RelayKey) -> bytes:
    """The 32-byte pin of a relay's Ed25519 public key."""
    return content_hash(key)


@dataclass(frozen=True, slots=True)
class RelayUrl:
    host: str
    port: int
    pin: bytes

    def __str__(self) -> str:
        pin = base64.b32encode(self.pin).decode().rstrip("=").lower()
        return f"{SCHEME}://{place(self.host, self.port)}/#{pin}"

    @property
    def place(self) -> str:
        """host:port without the pin, for messages."""
        return place(self.host, self.port)


def parse_relay_url(text: str) -> RelayUrl:
    """Read a relay URL; UserError says what is wrong with it."""
    try:
        parts = urlsplit(text.strip())
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise UserError(f"the relay URL {text!r} cannot be read: {error}") from None
    if parts.scheme != SCHEME or not parts.hostname:
        raise UserError(f"the relay URL {text!r} must look like {SCHEME}://host:{DEFAULT_PORT}/#pin")
    if parts.username is not None or parts.query or parts.path not in ("", "/") or port == 0:
        raise UserError(f"the relay URL {text!r} has parts that do not belong: it is {SCHEME}://host:port/#pin")
    if not parts.fragment:
        raise UserError(
            f"the relay URL {text!r} lacks its #pin, without which the relay cannot be told from an impostor; "
            "p2psync-relay prints the full URL when it starts and keeps it in the file 'url' of its data directory"
        )
    return RelayUrl(parts.hostname, port, _pin(parts.fragment))


def _pin(text: str) -> bytes:
    plain = text.upper()
    try:
        pin = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except binascii.Error:
        pin = b""
    if len(pin) != PIN_BYTES or base64.b32encode(pin).decode().rstrip("=") != plain:
        raise UserError("the #pin of the relay URL is mistyped or cut off; copy the whole URL again")
    return pin
