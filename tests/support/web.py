"""A web server before a relay for tests: a certificate authority of our own, and a front that ends TLS and passes on."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from p2psync.net.network import TcpNetwork, bound_port

_START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class WebIdentity:
    """Files: the authority's certificate (for SSL_CERT_FILE), and a server's chain and key."""

    authority: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        context.set_alpn_protocols(["http/1.1"])
        return context


def make_web_identity(directory: Path, host: str = "127.0.0.1") -> WebIdentity:
    """An authority, and a certificate of its for `host`."""
    found = WebIdentity(directory / "authority.pem", directory / "server.pem", directory / "server.key")
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    try:
        name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_START)
            .not_valid_after(_END)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    authority = certificate(authority_name, authority_key, True).sign(authority_key, hashes.SHA256())
    server = (
        certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), server_key, False)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    found.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    found.certificate.write_bytes(server.public_bytes(Encoding.PEM))
    found.key.write_bytes(server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return found


@asynccontextmanager
async def web_front(identity: WebIdentity, relay_port: int) -> AsyncIterator[int]:
    """A TLS end on 127.0.0.1 that passes bytes on to a relay as a web server does: over TLS, naming no protocol."""
    (listener,) = await TcpNetwork().listen("127.0.0.1", 0)
    context = identity.server_context()
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    inner.check_hostname, inner.verify_mode = False, ssl.CERT_NONE

    async def serve(transport: trio.abc.Stream) -> None:
        async with transport, await trio.open_tcp_stream("127.0.0.1", relay_port) as relay:
            outside = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
            inside = trio.SSLStream(relay, inner, https_compatible=True)
            async with trio.open_nursery() as nursery:
                for source, sink in ((outside, inside), (inside, outside)):
                    nursery.start_soon(pass_on, source, sink, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield bound_port(listener)
        nursery.cancel_scope.cancel()


async def pass_on(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope) -> None:
    """Copy bytes until either end leaves; then cancel `scope`, which ends the other direction too."""
    try:
        while data := await source.receive_some(65536):
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # one end left; the other is told by the end of the connection
    scope.cancel()
