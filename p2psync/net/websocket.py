"""A byte stream inside a WebSocket (RFC 6455), and the HTTP that leads to one, at both ends.

Owns the upgrade and the wrapping of bytes into binary messages; message boundaries mean nothing. wsproto (with h11)
does the protocol without I/O of its own, so the stream needs no task of its own either. TLS stands below: by the time
bytes come here the carrier is agreed on. It does not know frames, hellos or keys. To everybody who does not ask for
our subprotocol the relay is a web server with one page.
"""

from __future__ import annotations

import ipaddress
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.utilities import ProtocolError, RemoteProtocolError

from p2psync.errors import LinkLost, PeerError
from p2psync.net.turns import OneAtATime
from p2psync.net.urls import RelayUrl

SUBPROTOCOL = "p2psync.1"
MESSAGE_BYTES = 256 * 1024
"""One message at most: what the link writes at once. Its other end reads whatever part has come."""
READ_BYTES = 64 * 1024
"""What TLS gives best (see tls)."""
HEAD_BYTES_MAX = 16 * 1024
"""An HTTP request or answer up to its blank line."""
GOODBYE_SECONDS = 2
PAGE = b"p2psync relay\n"

_OURS = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Whom a reverse proxy on this machine says it speaks for; `port` is 0 when it does not say."""

    address: str
    port: int


class WebSocketStream(trio.abc.Stream):
    """Both ends; made by `connect_websocket` and `accept_websocket`."""

    def __init__(self, inner: trio.abc.Stream, connection: WSConnection, events: Iterator[Event]) -> None:
        self._inner, self._connection = inner, connection
        self._masks = connection.client
        self._events = events
        """Of the handshake's last read: bytes may already stand behind the upgrade."""
        self._left = memoryview(b"")
        self._sending = trio.Lock()
        self._send_conflict = OneAtATime("sending on this WebSocket")
        self._receive_conflict = OneAtATime("receiving from this WebSocket")
        self._ended = self._closed = False
        self._pongs: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._send_conflict:
            await trio.lowlevel.checkpoint()
            view = memoryview(data)
            while len(view):
                await self._send_message(view[:MESSAGE_BYTES])
                view = view[MESSAGE_BYTES:]
            self._check_open()

    async def wait_send_all_might_not_block(self) -> None:
        with self._send_conflict:
            await trio.lowlevel.checkpoint()
            self._check_open()
            async with self._sending:
                await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with self._receive_conflict:
            if max_bytes is not None and operator.index(max_bytes) < 1:
                raise ValueError("max_bytes must be positive")
            await trio.lowlevel.checkpoint()
            while not len(self._left):
                self._check_open()
                if self._ended:
                    return b""
                if not self._take_events():
                    await self._read()
                await self._answer_pings()
            count = min(max_bytes or READ_BYTES, len(self._left))
            data, self._left = bytes(self._left[:count]), self._left[count:]
            return data

    async def aclose(self) -> None:
        """Say goodbye and close. Nobody waits for the other end's goodbye: whatever it still sends is unwanted."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed, self._left = True, memoryview(b"")
        try:
            if not self._sending.locked():
                with trio.move_on_after(GOODBYE_SECONDS):
                    await self._inner.send_all(self._connection.send(CloseConnection(code=1000)))
        except (*_OURS, ProtocolError):
            return  # it was broken or closed from the other side: nobody hears goodbye
        finally:
            await self._inner.aclose()

    def _take_events(self) -> bool:
        """Look at one event; False when there is none."""
        event = next(self._events, None)
        match event:
            case None:
                return False
            case BytesMessage(data=data):
                self._left = memoryview(data)
            case Ping(payload=payload):
                self._pongs = [bytes(payload)]  # only the latest ping needs an answer (RFC 6455, 5.5.3)
            case CloseConnection():
                self._ended = True
            case Pong():
                pass
            case _:
                raise trio.BrokenResourceError("the other end sent text in a WebSocket of bytes")
        return True

    async def _read(self) -> None:
        data = await self._inner.receive_some(READ_BYTES)
        self._check_open()
        if not data:
            raise trio.BrokenResourceError("the connection ended without a goodbye")
        try:
            self._connection.receive_data(bytes(data))
            # A list: a generator that raises in the middle of a read would be finished for good.
            self._events = iter(list(self._connection.events()))
        except ProtocolError as error:
            raise trio.BrokenResourceError("the other end broke the WebSocket protocol") from error

    async def _answer_pings(self) -> None:
        """Whoever is sending answers after that; else answer now."""
        if self._pongs and not self._sending.locked():
            async with self._sending:
                await self._send_pongs()

    async def _send_message(self, data: memoryview) -> None:
        async with self._sending:
            self._check_open()
            if self._ended or self._connection.state is not ConnectionState.OPEN:
                raise trio.BrokenResourceError("the other end closed the WebSocket")
            await self._send_pongs()
            await self._inner.send_all(binary_frame(data, os.urandom(4) if self._masks else None))

    async def _send_pongs(self) -> None:
        while self._pongs and not self._ended:
            await self._inner.send_all(self._connection.send(Pong(payload=self._pongs.pop())))

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError


def binary_frame(data: memoryview, mask: bytes | None) -> bytes:
    """One whole binary message (RFC 6455, 5.2). Made here because wsproto masks at a third of this speed."""
    size, flag = len(data), 0x80 if mask else 0
    if size < 126:
        head = bytes((0x82, flag | size))
    elif size < 1 << 16:
        head = bytes((0x82, flag | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x82, flag | 127)) + size.to_bytes(8, "big")
    if mask is None:
        return b"".join((head, data))
    pattern = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return b"".join((head, mask, (int.from_bytes(data, "little") ^ pattern).to_bytes(size, "little")))


async def connect_websocket(inner: trio.abc.Stream, url: RelayUrl) -> WebSocketStream:
    """Ask the web server for a WebSocket. PeerError when it has none for us there, LinkLost when it goes."""
    connection = WSConnection(ConnectionType.CLIENT)
    request = Request(host=url.authority, target=url.path or "/", subprotocols=[SUBPROTOCOL])
    try:
        await inner.send_all(connection.send(request))
        while True:
            events = iter(await _handshake_events(inner, connection, url.place))
            match next(events, None):
                case AcceptConnection(subprotocol=chosen) if chosen == SUBPROTOCOL:
                    return WebSocketStream(inner, connection, events)
                case AcceptConnection():
                    raise PeerError(f"the web server {url.place} opens WebSockets, but not for p2psync")
                case RejectConnection(status_code=status):
                    raise PeerError(
                        f"the web server {url.place} has no relay at this path (HTTP status {status}); "
                        "check the path of the URL and the web server's configuration"
                    )
                case RejectData() | None:
                    continue
                case _:
                    raise PeerError(f"the web server {url.place} did not answer the request for a WebSocket")
    except _OURS:
        raise LinkLost(f"{url.place} closed the connection during the WebSocket's opening") from None


async def _handshake_events(inner: trio.abc.Stream, connection: WSConnection, place: str) -> list[Event]:
    data = await inner.receive_some(READ_BYTES)
    if not data:
        raise LinkLost(f"{place} closed the connection during the WebSocket's opening")
    try:
        connection.receive_data(bytes(data))
        return list(connection.events())
    except (ProtocolError, h11.RemoteProtocolError):
        raise PeerError(f"{place} does not speak HTTP as a WebSocket needs it") from None


async def accept_websocket(inner: trio.abc.Stream) -> tuple[WebSocketStream, Forwarded | None] | None:
    """Answer HTTP requests until one asks for our WebSocket, at any path: what the proxy in front calls it is its matter.

    None when the client went after pages only. LinkLost when it spoke no HTTP or left.
    """
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    try:
        while True:
            request = await _next_request(inner, server)
            if request is None:
                return None
            if _wants_websocket(request):
                return await _upgrade(inner, server, request), forwarded_for(request)
            if not await _serve_page(inner, server, request):
                return None
    except (h11.RemoteProtocolError, ProtocolError):
        await _refuse(inner, server)
        raise LinkLost("a client does not speak HTTP") from None
    except _OURS:
        raise LinkLost("a client left before its HTTP request was answered") from None


async def _next_request(inner: trio.abc.Stream, server: h11.Connection) -> h11.Request | None:
    while True:
        event = server.next_event()
        if event is h11.NEED_DATA:
            server.receive_data(bytes(await inner.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Request):
            return event
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


def _header(request: h11.Request, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in request.headers if key == name)


def _tokens(request: h11.Request, name: bytes) -> list[str]:
    return [token.strip().lower() for token in _header(request, name).split(",")]


def _wants_websocket(request: h11.Request) -> bool:
    return (
        request.method == b"GET"
        and "websocket" in _tokens(request, b"upgrade")
        and SUBPROTOCOL in _tokens(request, b"sec-websocket-protocol")
    )


async def _upgrade(inner: trio.abc.Stream, server: h11.Connection, request: h11.Request) -> WebSocketStream:
    connection = WSConnection(ConnectionType.SERVER)
    connection.initiate_upgrade_connection(list(request.headers), request.target.decode("latin-1"))
    if not isinstance(next(connection.events(), None), Request):
        raise RemoteProtocolError("not a WebSocket's request")
    await inner.send_all(connection.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
    early, _ = server.trailing_data
    if early:
        connection.receive_data(early)
    return WebSocketStream(inner, connection, iter(list(connection.events())))


async def _serve_page(inner: trio.abc.Stream, server: h11.Connection, request: h11.Request) -> bool:
    """Answer with the one page or without; True when another request may follow."""
    found = request.target == b"/" and request.method in (b"GET", b"HEAD")
    status, body = (200, PAGE) if found else (404, b"not found\n")
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    data = server.send(h11.Response(status_code=status, headers=headers)) or b""
    data += server.send(h11.Data(data=body)) or b""
    data += server.send(h11.EndOfMessage()) or b""
    await inner.send_all(data)
    while server.their_state is h11.SEND_BODY:
        if server.next_event() is h11.NEED_DATA:
            return False  # a body nobody asked for: do not read it
    if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
        return False
    server.start_next_cycle()
    return True


async def _refuse(inner: trio.abc.Stream, server: h11.Connection) -> None:
    if server.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [("Content-Length", "0"), ("Connection", "close")]
    data = server.send(h11.Response(status_code=400, headers=headers)) or b""
    try:
        await inner.send_all(data + (server.send(h11.EndOfMessage()) or b""))
    except _OURS:
        raise LinkLost("a client left before its HTTP request was answered") from None


def forwarded_for(request: h11.Request) -> Forwarded | None:
    """The client a reverse proxy names: X-Real-IP, else the last X-Forwarded-For, which is what the proxy added."""
    text = _header(request, b"x-real-ip") or _header(request, b"x-forwarded-for").rpartition(",")[2]
    port = _header(request, b"x-real-port").strip()
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    known = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536
    return Forwarded(str(address), int(port) if known else 0)
