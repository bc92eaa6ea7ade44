"""TLS between two devices: both show their certificate, both compare it with the pin before any application byte.

`ssl` never shows the certificate of an unknown peer, so the certificates that may come are loaded as trust anchors
first: exactly one for whoever dials, those of all members for whoever listens. That alone is not trust: an anchor that
is a CA would vouch for others, so such certificates are never loaded, and the leaf's bytes are compared with the pin. A
TLS 1.3 client believes to be connected before the server has looked at its certificate; the hello that follows on the
link is what tells it. This module does not know folders: who is a member is its caller's knowledge.
"""

from __future__ import annotations

from collections.abc import Collection

import trio
from cryptography import x509

from p2psync.crypto.hashing import content_hash, equal
from p2psync.errors import LinkLost, PeerError
from p2psync.net.tls import ALPN, handshake, mutual_context
from p2psync.net.tls_stream import TlsStream


def certificate_pin(certificate: bytes) -> bytes:
    """BLAKE3 of the DER bytes: what devices compare."""
    return content_hash(certificate)


def vouches_for_nobody(certificate: bytes) -> bool:
    """Whether this is a certificate that says CA:FALSE, as every device's does."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    return not constraints.ca


async def dial_device(
    transport: trio.abc.Stream, *, seed: bytes, certificate: bytes, expected: bytes, who: str
) -> TlsStream:
    """TLS to the one device whose certificate (DER) is `expected`. PeerError: another answers; LinkLost: TLS fails."""
    if not vouches_for_nobody(expected):
        await trio.lowlevel.checkpoint()
        raise PeerError(f"the certificate of {who} could vouch for others; it must join the folder again")
    context = mutual_context(seed, certificate, [expected], server_side=False)
    stream = await handshake(transport, context, server_side=False, who=who)
    _shown(stream, [certificate_pin(expected)], who)
    return stream


async def accept_device(
    transport: trio.abc.Stream, *, seed: bytes, certificate: bytes, known: Collection[bytes]
) -> tuple[TlsStream, bytes]:
    """TLS with a device that dialled, and its pin; `known` are the certificates (DER) that may come.

    LinkLost when it shows none or an unknown one, speaks an older version, or goes away.
    """
    usable = [each for each in known if vouches_for_nobody(each)]
    context = mutual_context(seed, certificate, usable, server_side=True)
    stream = await handshake(transport, context, server_side=True, who="a device that dialled")
    try:
        pin = _shown(stream, [certificate_pin(each) for each in usable], "a device that dialled")
    except PeerError as error:
        raise LinkLost(str(error)) from None
    return stream, pin


def _shown(stream: TlsStream, pins: Collection[bytes], who: str) -> bytes:
    """The pin of the certificate the other end showed and proved to own; PeerError unless it is one of `pins`."""
    if stream.selected_alpn_protocol() != ALPN:
        raise PeerError(f"{who} does not speak {ALPN}; one of the two programs is too old")
    certificate = stream.getpeercert()
    pin = certificate_pin(certificate or b"")
    if certificate is None or not any(equal(pin, each) for each in pins):
        raise PeerError(f"{who} is not the device it should be: its certificate does not match the pin")
    return pin
