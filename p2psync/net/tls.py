"""The one door to `ssl`: TLS 1.3 links to a relay, trusted by pinned key or, over a WebSocket, by the web's authorities.

A relay shows a self-signed Ed25519 certificate made from its own key. The client turns the library's own checks off
(there is no authority to ask) and compares the certificate's public key with the pin before it sends any application
byte; without that comparison there is no trust at all. A `wss` URL names a web server that stands before the relay:
there the system's trust store (or SSL_CERT_FILE) vouches for the host name, and for nothing more. No tickets, no
resumption, no older version. This module does not know what is said over the stream, only which carrier was agreed on;
how bytes go through a connection that is trusted is `tls_stream.py`'s, which reads OpenSSL's errors too.
"""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from p2psync.errors import LinkLost, PeerError
from p2psync.ids import RelayKey
from p2psync.net.tls_stream import TlsStream
from p2psync.net.urls import RelayUrl, pin_of
from p2psync.seams import Randomness

ALPN = "p2psync/1"
"""Raw frames."""
HTTP_ALPN = "http/1.1"
"""WebSocket, and the relay's page."""

NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)
"""Fixed, and wide enough that clocks that are years off do not matter; the key is pinned, its age says nothing."""

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, for which Python has no name: a pinned certificate is good whatever this clock says."""

TlsContext = ssl.SSLContext
"""The type's name for those who only pass a context on."""


def make_certificate(seed: bytes, common_name: str, randomness: Randomness) -> bytes:
    """Self-signed certificate (DER) for the Ed25519 key with this 32-byte seed. CA:FALSE, so it vouches for nobody."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1 + (int.from_bytes(randomness.bytes(16), "big") >> 1))
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.DER)


def server_context(seed: bytes, certificate: bytes) -> ssl.SSLContext:
    """The context of a listener that shows `certificate` (DER) and holds its key."""
    context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ALPN, HTTP_ALPN)
    context.num_tickets = 0
    _load_identity(context, seed, certificate)
    return context


def client_context() -> ssl.SSLContext:
    """Accepts any certificate; only `open_client` may use it, since it compares the pin."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _strict(context, ALPN)


def web_context() -> ssl.SSLContext:
    """Checks a web server's certificate and host name against the system's trust store, or SSL_CERT_FILE's."""
    return _strict(ssl.create_default_context(), HTTP_ALPN)


def mutual_context(seed: bytes, certificate: bytes, trusted: Iterable[bytes], *, server_side: bool) -> ssl.SSLContext:
    """The context of one end of a link between devices: it demands a certificate, and knows only the `trusted` (DER).

    Only `mutual` may use it, since it compares the leaf with the pin. Names are no matter: devices have none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    if server_side:
        context.num_tickets = 0
    for each in trusted:
        try:
            context.load_verify_locations(cadata=each)
        except ssl.SSLError:
            continue  # OpenSSL reads less than a folder may hold: that one is simply not trusted
    _load_identity(context, seed, certificate)
    return _strict(context, ALPN)


def _strict(context: ssl.SSLContext, *protocols: str) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(protocols))
    return context


def _load_identity(context: ssl.SSLContext, seed: bytes, certificate: bytes) -> None:
    """Hand key and certificate to OpenSSL, which reads files only.

    On Linux they stand in an anonymous memory file, which no other user can open and no disk keeps; elsewhere in a
    0600 file of a fresh 0700 directory, gone as soon as they are loaded.
    """
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem += x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("identity", os.MFD_CLOEXEC), "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "identity"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)


async def open_client(transport: trio.abc.Stream, url: RelayUrl) -> tuple[TlsStream, RelayKey]:
    """TLS to the relay of `url`, its key compared with the pin. PeerError if it is another, LinkLost if TLS fails."""
    stream = TlsStream(transport, client_context())
    try:
        await stream.handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkLost(f"{url.place} did not complete TLS: {_reason(error)}") from error
    key = _leaf_key(stream.getpeercert())
    if key is None or pin_of(key) != url.pin:
        raise PeerError(f"{url.place} is not the relay this address names: its key does not match the pin in the URL")
    if stream.selected_alpn_protocol() != ALPN:
        raise PeerError(f"{url.place} does not speak {ALPN}; one of the two programs is too old")
    return stream, key


async def open_web_client(transport: trio.abc.Stream, url: RelayUrl) -> TlsStream:
    """TLS to the web server of a `wss` URL. LinkLost says why it is not to be trusted or does not answer."""
    stream = TlsStream(transport, web_context(), server_hostname=url.host)
    try:
        await stream.handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkLost(f"{url.place} did not complete TLS: {_reason(error)}") from error
    if stream.selected_alpn_protocol() not in (HTTP_ALPN, None):
        raise PeerError(f"the web server {url.place} does not speak {HTTP_ALPN}, which a WebSocket needs")
    return stream


async def open_server(transport: trio.abc.Stream, context: ssl.SSLContext) -> tuple[TlsStream, bool]:
    """TLS with a client, and whether it speaks HTTP; LinkLost when it fails or the client speaks something else.

    A reverse proxy (nginx) names no protocol towards the server behind it; a device always does.
    """
    stream = TlsStream(transport, context, server_side=True)
    try:
        await stream.handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkLost(f"a client did not complete TLS: {_reason(error)}") from error
    chosen = stream.selected_alpn_protocol()
    return stream, chosen != ALPN


async def handshake(transport: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool, who: str) -> TlsStream:
    """TLS over `transport` with wide reads; LinkLost when it fails, `who` naming the other end."""
    stream = TlsStream(transport, context, server_side=server_side)
    try:
        await stream.handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkLost(f"{who} did not complete TLS: {_reason(error)}") from error
    return stream


def _leaf_key(certificate: bytes | None) -> RelayKey | None:
    """The Ed25519 public key of a DER certificate; None when it is anything else."""
    if certificate is None:
        return None
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError):
        return None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        return None
    return RelayKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return str(cause.reason or cause)
    return "the connection ended"
