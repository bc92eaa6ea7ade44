"""Relay URLs: `p2p://host:port/#pin` and `wss://host[:port]/path[#pin]`.

The pin is the BLAKE3 hash of the relay's public key in base32. A `p2p` URL must have it, so that it alone says whom to
trust; a `wss` URL may leave it out: the web's certificate authorities then vouch for the host, and whoever connects
fixes the relay's key at first contact. This module knows text only.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from p2psync.crypto.hashing import content_hash
from p2psync.errors import UserError
from p2psync.ids import RelayKey
from p2psync.net.network import place

SCHEME = "p2p"
WEBSOCKET_SCHEME = "wss"
DEFAULT_PORT = 22443
WEBSOCKET_PORT = 443
PIN_BYTES = 32
PATH_MAX = 128


def pin_of(key: RelayKey) -> bytes:
    """The 32-byte pin of a relay's Ed25519 public key."""
    return content_hash(key)


@dataclass(frozen=True, slots=True)
class RelayUrl:
    """`path` is None for raw frames over TLS, and what is asked for over HTTP for a WebSocket."""

    host: str
    port: int
    pin: bytes | None
    path: str | None = None

    def __str__(self) -> str:
        pin = "" if self.pin is None else base64.b32encode(self.pin).decode().rstrip("=").lower()
        if self.path is None:
            return f"{SCHEME}://{self.place}/#{pin}"
        return f"{self.origin}{self.path}" + (f"#{pin}" if pin else "")

    @property
    def place(self) -> str:
        """Where it is without the pin, for messages."""
        return place(self.host, self.port) if self.path is None else f"{self.authority}{self.path.rstrip('/')}"

    @property
    def authority(self) -> str:
        """The Host of an HTTP request: the port only where it is not the usual one."""
        if self.port == WEBSOCKET_PORT:
            return f"[{self.host}]" if ":" in self.host else self.host
        return place(self.host, self.port)

    @property
    def origin(self) -> str | None:
        """What hello and login sign over a WebSocket, where TLS ends before the relay; None for raw frames."""
        return None if self.path is None else f"{WEBSOCKET_SCHEME}://{self.authority}"


def parse_relay_url(text: str) -> RelayUrl:
    """Read a relay URL; UserError says what is wrong with it."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise UserError(f"the relay URL {text!r} cannot be read: {error}") from None
    if parts.scheme not in (SCHEME, WEBSOCKET_SCHEME) or not parts.hostname:
        raise UserError(
            f"the relay URL {text!r} must look like {SCHEME}://host:{DEFAULT_PORT}/#pin or {WEBSOCKET_SCHEME}://host/"
        )
    if parts.username is not None or parts.query or port == 0:
        raise UserError(f"the relay URL {text!r} has parts that do not belong: it is {_form(parts.scheme)}")
    if parts.scheme == WEBSOCKET_SCHEME:
        pin = _pin(parts.fragment) if parts.fragment else None
        return RelayUrl(parts.hostname, port or WEBSOCKET_PORT, pin, _path(parts, text))
    if parts.path not in ("", "/"):
        raise UserError(f"the relay URL {text!r} has parts that do not belong: it is {_form(parts.scheme)}")
    if not parts.fragment:
        raise UserError(
            f"the relay URL {text!r} lacks its #pin, without which the relay cannot be told from an impostor; "
            "p2psync-relay prints the full URL when it starts and keeps it in the file 'url' of its data directory"
        )
    return RelayUrl(parts.hostname, port or DEFAULT_PORT, _pin(parts.fragment))


def _form(scheme: str) -> str:
    return f"{SCHEME}://host:port/#pin" if scheme == SCHEME else f"{WEBSOCKET_SCHEME}://host:port/path"


def _path(parts: SplitResult, text: str) -> str:
    path = parts.path or "/"
    if len(path) > PATH_MAX or not path.isascii() or not path.isprintable() or " " in path:
        raise UserError(f"the path of the relay URL {text!r} is too long or has unusual characters")
    return path


def _pin(text: str) -> bytes:
    plain = text.upper()
    try:
        pin = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except binascii.Error:
        pin = b""
    if len(pin) != PIN_BYTES or base64.b32encode(pin).decode().rstrip("=") != plain:
        raise UserError("the #pin of the relay URL is mistyped or cut off; copy the whole URL again")
    return pin
