"""The first seconds of a link to a relay: connecting, the carrier, and the hello that proves who is there.

Owns the choice of carrier by URL and the comparison of the relay's key: with the pin of the URL, with the key TLS
showed, and with the key the caller knows from an earlier contact. Over a WebSocket only the last is left, since TLS
ends at a web server: there the signed hello is the proof. What is said after the hello is not its concern.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import trio

from p2psync.errors import LinkLost, PeerError
from p2psync.ids import RelayKey
from p2psync.net.network import Connector
from p2psync.net.tls import open_client, open_web_client
from p2psync.net.urls import RelayUrl, pin_of
from p2psync.net.websocket import connect_websocket
from p2psync.seams import Randomness
from p2psync.session.link import Link
from p2psync.wire.conversation import Speaker
from p2psync.wire.faults import error_of
from p2psync.wire.login import NONCE_BYTES, check_hello
from p2psync.wire.messages import VERSION, ClientHello, Failure, ServerHello

CONNECT_SECONDS = 30
"""Connecting over a bad line takes seconds; a relay that does not finish TLS and hello in this time is not there."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Greeting:
    """A link on which both have said hello. `observed` is the address the relay sees us from, port 0 when unknown."""

    stream: trio.abc.Stream
    link: Link
    relay_key: RelayKey
    features: tuple[str, ...]
    origin: str | None
    observed: tuple[str, int] | None


async def greet_relay(
    url: RelayUrl,
    *,
    network: Connector,
    randomness: Randomness,
    expected: RelayKey | None = None,
    features: tuple[str, ...] = (),
) -> Greeting:
    """Connect to the relay of `url` and prove who it is; whoever calls closes the link.

    LinkLost: nobody answers there. PeerError: it is another relay than `url` or `expected` says, or speaks another
    protocol.
    """
    return await _within(CONNECT_SECONDS, url, lambda: _connect(url, network, randomness, expected, features))


@asynccontextmanager
async def observed_address(
    url: RelayUrl, *, connector: Connector, randomness: Randomness, expected: RelayKey | None = None
) -> AsyncIterator[tuple[str, int] | None]:
    """Where the relay sees connections of `connector` from: the outside address of a local port. None if it cannot say.

    A relay behind a web server that does not pass ports on knows none, which is no use for dialling. The connection
    stays for the length of the block: a NAT may forget the port when it ends.
    """
    greeting = await greet_relay(url, network=connector, randomness=randomness, expected=expected)
    try:
        yield greeting.observed if greeting.observed and greeting.observed[1] else None
    finally:
        await greeting.link.aclose()


async def _within(seconds: float, url: RelayUrl, work: Callable[[], Awaitable[T]]) -> T:
    with trio.move_on_after(seconds):
        return await work()
    raise LinkLost(f"{url.place} did not answer within {seconds:.0f} seconds")


async def _connect(
    url: RelayUrl, network: Connector, randomness: Randomness, expected: RelayKey | None, features: tuple[str, ...]
) -> Greeting:
    transport = await network.connect(url.host, url.port)
    try:
        stream, shown = await _open_carrier(transport, url)
        link = Link(stream, Speaker.CLIENT, url.place)
        hello = await _greet(link, randomness.bytes(NONCE_BYTES), features, url.origin)
        _check_key(url, hello.relay_key, shown, expected)
        return Greeting(stream, link, hello.relay_key, hello.features, url.origin, _observed(hello))
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def _open_carrier(transport: trio.abc.Stream, url: RelayUrl) -> tuple[trio.abc.Stream, RelayKey | None]:
    """The stream frames go through, and the relay's key where TLS shows it."""
    if url.path is None:
        return await open_client(transport, url)
    return await connect_websocket(await open_web_client(transport, url), url), None


def _check_key(url: RelayUrl, key: RelayKey, shown: RelayKey | None, expected: RelayKey | None) -> None:
    if shown is not None and key != shown:
        raise PeerError(f"{url.place} is not the relay this address names: it shows two different keys")
    if url.pin is not None and pin_of(key) != url.pin:
        raise PeerError(f"{url.place} is not the relay this address names: its key does not match the pin in the URL")
    if expected is not None and key != expected:
        raise PeerError(
            f"{url.place} shows another relay key than at first contact: its operator set it up anew, or somebody "
            "stands between; ask the operator, and share the folder through the new relay if that is what happened"
        )


async def _greet(link: Link, nonce: bytes, features: tuple[str, ...], origin: str | None) -> ServerHello:
    link.outbox.say(ClientHello(versions=(VERSION,), features=features, nonce=nonce, origin=origin))
    try:
        await link.outbox.flush()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise LinkLost("the relay closed the link before the greeting") from None
    match await link.next_message():
        case ServerHello() as hello:
            if hello.version != VERSION:
                raise PeerError(f"the relay chose protocol version {hello.version}, which was not offered")
            check_hello(hello.relay_key, hello.signature, nonce, origin)
            return hello
        case Failure(code=code, sentence=sentence):
            raise error_of(code, sentence)
    raise PeerError("the relay did not greet")


def _observed(hello: ServerHello) -> tuple[str, int] | None:
    """The relay's word for where we are, which nobody can check: of use for trying, never for trusting."""
    if hello.observed is None:
        return None
    host, _, port = hello.observed.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise PeerError("the relay tells an address that is none")
    return str(address), int(port)
