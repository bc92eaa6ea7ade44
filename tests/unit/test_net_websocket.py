"""The WebSocket carrier: a stream like any other, the relay behind a web server, and whom it lets in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import h11
import pytest
import trio
import trio.testing
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost, PeerError, UserError
from p2psync.ids import RelayKey
from p2psync.net.network import TcpNetwork
from p2psync.net.tls import client_context
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.net.websocket import (
    SUBPROTOCOL,
    Forwarded,
    WebSocketStream,
    accept_websocket,
    connect_websocket,
    forwarded_for,
)
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.relay_link import open_relay_link
from p2psync.wire.login import Right
from tests.support.links import PIPE_BYTES, MemoryNetwork, running_relay
from tests.support.objects import make_pack
from tests.support.web import WebIdentity, make_web_identity, web_front

URL = RelayUrl("relay.example", 443, None, "/sync")
OUTSIDE = {"network": TcpNetwork(), "clock": SystemClock(), "randomness": SystemRandomness()}


async def memory_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    network = MemoryNetwork()
    (listener,) = await network.listen("", 1)
    near = await network.connect("relay.example", 1)
    far = await listener.accept()
    await listener.aclose()
    return near, far


async def websocket_pair() -> tuple[WebSocketStream, WebSocketStream]:
    near, far = await memory_pair()
    found: list[WebSocketStream] = []

    async def serve() -> None:
        accepted = await accept_websocket(far)
        assert accepted is not None
        found.append(accepted[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await connect_websocket(near, URL)
    return client, found[0]


async def test_websocket_streams_keep_trios_stream_contract() -> None:
    async def clogged_pair() -> tuple[WebSocketStream, WebSocketStream]:
        client, server = await websocket_pair()
        for end, head in ((client, 8), (server, 4)):
            await end.send_all(bytes(PIPE_BYTES - head))
        return client, server

    await trio.testing.check_two_way_stream(websocket_pair, clogged_pair)


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=6), st.integers(1, 5000))
def test_bytes_arrive_in_order_however_they_are_sent_and_read(pieces: list[bytes], most: int) -> None:
    async def run() -> None:
        for one, other in ((0, 1), (1, 0)):
            pair = await websocket_pair()
            received = bytearray()

            async def send(source: WebSocketStream) -> None:
                for piece in pieces:
                    await source.send_all(piece)
                await source.aclose()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, pair[one])
                while data := await pair[other].receive_some(most):
                    assert len(data) <= most
                    received += data
            assert received == b"".join(pieces)

    trio.run(run)


async def test_what_stands_behind_the_upgrade_is_not_lost() -> None:
    near, far = await memory_pair()

    async def serve() -> None:
        accepted = await accept_websocket(far)
        assert accepted is not None
        await accepted[0].send_all(b"early")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        client = await connect_websocket(near, URL)
        assert await client.receive_some() == b"early"


async def test_a_foreign_websocket_client_is_understood_and_its_pings_answered() -> None:
    near, far = await memory_pair()

    async def echo() -> None:
        accepted = await accept_websocket(far)
        assert accepted is not None
        while data := await accepted[0].receive_some():
            await accepted[0].send_all(data)
        await accepted[0].aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        client = await trio_websocket.wrap_client_stream(
            nursery, near, "relay.example", "/any/path", subprotocols=[SUBPROTOCOL]
        )
        received = bytearray()
        nursery.start_soon(client.send_message, b"a" * 300_000)
        await client.ping(b"there?")
        while len(received) < 300_000:
            received += await client.get_message()
        await client.aclose()
        nursery.cancel_scope.cancel()


async def test_text_breaks_the_stream() -> None:
    near, far = await memory_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            accepted = await accept_websocket(far)
            assert accepted is not None
            with pytest.raises(trio.BrokenResourceError):
                await accepted[0].receive_some()
            nursery.cancel_scope.cancel()

        nursery.start_soon(serve)
        client = await trio_websocket.wrap_client_stream(nursery, near, "h", "/", subprotocols=[SUBPROTOCOL])
        await client.send_message("text")
        await trio.sleep_forever()


async def test_a_connection_cut_without_goodbye_is_not_an_end() -> None:
    client, server = await websocket_pair()
    await trio.aclose_forcefully(server._inner)
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()


async def exchange(request: bytes, relay: Callable[[trio.abc.Stream], Awaitable[object]]) -> bytes:
    near, far = await memory_pair()
    answer = bytearray()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            try:
                await relay(far)
            finally:
                with trio.CancelScope(shield=True):
                    await far.aclose()

        nursery.start_soon(serve)
        await near.send_all(request)
        while data := await near.receive_some():
            answer += data
    return bytes(answer)


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /", b"200", b"p2psync relay\n"),
        ("GET /metrics", b"404", b"not found\n"),
        ("POST /", b"404", b"not found\n"),
        ("GET /?x", b"404", b"not found\n"),
    ],
)
async def test_a_browser_sees_one_page_and_nothing_else(request_line: str, status: bytes, body: bytes) -> None:
    request = f"{request_line} HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n\r\n".encode()
    answer = await exchange(request, accept_websocket)
    assert answer.split()[1] == status and answer.endswith(b"\r\n\r\n" + body)
    assert b"server:" not in answer.lower()


async def test_a_websocket_for_something_else_is_not_ours() -> None:
    request = (
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n"
    )
    assert (await exchange(request, accept_websocket)).startswith(b"HTTP/1.1 200")


@given(st.binary(max_size=200))
def test_garbage_instead_of_http_is_a_lost_link_and_nothing_else(data: bytes) -> None:
    async def run() -> None:
        near, far = await memory_pair()
        await near.send_all(data)
        await near.send_eof()  # type: ignore[attr-defined]
        try:
            accepted = await accept_websocket(far)
        except LinkLost:
            return
        assert accepted is None

    trio.run(run)


async def test_an_endless_head_is_refused() -> None:
    def head() -> bytes:
        return b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 40_000

    async def serve(far: trio.abc.Stream) -> None:
        with pytest.raises(LinkLost):
            await accept_websocket(far)

    assert (await exchange(head(), serve)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("X-Real-IP", "203.0.113.9"), ("X-Real-Port", "4711")], Forwarded("203.0.113.9", 4711)),
        ([("X-Real-IP", "203.0.113.9"), ("X-Real-Port", "99999")], Forwarded("203.0.113.9", 0)),
        ([("X-Forwarded-For", "10.0.0.1, 203.0.113.9")], Forwarded("203.0.113.9", 0)),
        ([("X-Real-IP", "2001:db8::7")], Forwarded("2001:db8::7", 0)),
        ([("X-Real-IP", "nobody")], None),
        ([], None),
    ],
)
def test_the_web_server_names_the_client(headers: list[tuple[str, str]], found: Forwarded | None) -> None:
    assert forwarded_for(h11.Request(method="GET", target="/", headers=[("Host", "h"), *headers])) == found


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebIdentity:
    """A web server's identity that this process trusts for the length of a test."""
    made = make_web_identity(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    return made


async def test_a_device_uses_a_relay_behind_a_web_server(
    tmp_path: Path, identity: WebIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, (key, data) = SigningKey(b"w" * 32), make_pack(1, 3_000_000)
    async with running_relay(tmp_path / "relay") as running, web_front(identity, running.url.port) as port:
        url = parse_relay_url(f"wss://127.0.0.1:{port}/sync")
        async with open_relay_link(url, **OUTSIDE) as link:  # type: ignore[arg-type]
            store = await link.login(await link.create_namespace(owner), owner, Right.OWN)
            await store.put([(key, data)])
            assert await store.get(key) == data
            assert link.observed is not None and link.observed[0] == "127.0.0.1"
            relay_key = link.relay_key
        async with open_relay_link(url, expected=relay_key, **OUTSIDE):  # type: ignore[arg-type]
            pass
        with pytest.raises(PeerError, match="another relay key than at first contact"):
            async with open_relay_link(url, expected=RelayKey(bytes(32)), **OUTSIDE):  # type: ignore[arg-type]
                pass
        with pytest.raises(PeerError, match="does not match the pin"):
            async with open_relay_link(dataclasses.replace(url, pin=bytes(32)), **OUTSIDE):  # type: ignore[arg-type]
                pass
        monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
        with pytest.raises(LinkLost, match="not trusted here"):
            async with open_relay_link(url, **OUTSIDE):  # type: ignore[arg-type]
                pass


async def test_a_relay_that_knows_its_url_cannot_be_passed_off_as_another(
    tmp_path: Path, identity: WebIdentity
) -> None:
    home = RelayUrl("127.0.0.1", 443, None, "/")
    async with (
        running_relay(tmp_path / "relay", public_url=home) as running,
        web_front(identity, running.local.port) as port,
    ):
        assert running.url == dataclasses.replace(home, pin=running.local.pin)
        with pytest.raises(PeerError, match=f"reached as wss://127.0.0.1, not as wss://127.0.0.1:{port}"):
            async with open_relay_link(RelayUrl("127.0.0.1", port, None, "/"), **OUTSIDE):  # type: ignore[arg-type]
                pass


async def test_raw_links_and_pages_share_the_relays_port(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        async with open_relay_link(running.url, **OUTSIDE) as link:  # type: ignore[arg-type]
            assert link.observed is not None and link.observed[0] == "127.0.0.1" and link.observed[1] > 0
        context = client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        browser = trio.SSLStream(
            await trio.open_tcp_stream("127.0.0.1", running.url.port), context, https_compatible=True
        )
        answer = b""
        async with browser:
            await browser.send_all(b"GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
            while data := await browser.receive_some():
                answer += data
        assert answer.endswith(b"p2psync relay\n")


@pytest.mark.parametrize("text", ["wss://relay.example/", "wss://relay.example:8443/a/b", "wss://[::1]:8443/"])
def test_a_websocket_url_survives_its_text(text: str) -> None:
    assert str(parse_relay_url(text)) == text
    pinned = dataclasses.replace(parse_relay_url(text), pin=b"p" * 32)
    assert parse_relay_url(str(pinned)) == pinned
    assert parse_relay_url(text).origin == text.rsplit("/", text.count("/") - 2)[0]


@pytest.mark.parametrize("text", ["wss://relay.example/?x", "wss:///path", "wss://u@h/", "wss://h/#abc", "wss://h/ä"])
def test_a_wrong_websocket_url_is_a_user_error(text: str) -> None:
    with pytest.raises(UserError):
        parse_relay_url(text)
