"""TLS links: only the pinned relay, only TLS 1.3, and our streams keep trio's contract."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost, PeerError, UserError
from p2psync.ids import RelayKey
from p2psync.net import tls
from p2psync.net.counting import CountedStream
from p2psync.net.network import TcpNetwork, bound_port
from p2psync.net.tls_stream import TlsStream
from p2psync.net.urls import RelayUrl, parse_relay_url, pin_of
from p2psync.net.wide import receive_into, send_buffers
from tests.support.links import PIPE_BYTES, MemoryNetwork, SeededRandomness

SEED = b"s" * 32
KEY = RelayKey(SigningKey(SEED).public)
URL = RelayUrl("relay.example", 22443, pin_of(KEY))


def server_context(seed: bytes = SEED) -> ssl.SSLContext:
    return tls.server_context(seed, tls.make_certificate(seed, "relay", SeededRandomness()))


async def memory_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    network = MemoryNetwork()
    (listener,) = await network.listen("", 1)
    near = await network.connect("relay.example", 1)
    far = await listener.accept()
    await listener.aclose()
    return near, far


async def tls_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    near, far = await memory_pair()
    found: dict[str, trio.abc.Stream] = {}

    async def serve() -> None:
        found["server"], http = await tls.open_server(far, server_context())
        assert not http

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        found["client"], key = await tls.open_client(near, URL)
        assert key == KEY
    return found["client"], found["server"]


async def test_the_memory_network_keeps_trios_stream_contract() -> None:
    async def clogged_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = await memory_pair()
        for end in (near, far):
            await end.send_all(bytes(PIPE_BYTES))
        return near, far

    await trio.testing.check_half_closeable_stream(memory_pair, clogged_pair)


async def test_counted_streams_keep_trios_stream_contract() -> None:
    async def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = await memory_pair()
        return CountedStream(near), CountedStream(far)

    async def clogged_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = await pair()
        for end in (near, far):
            await end.send_all(bytes(PIPE_BYTES))
        return near, far

    await trio.testing.check_two_way_stream(pair, clogged_pair)


async def test_tls_streams_keep_trios_stream_contract() -> None:
    await trio.testing.check_two_way_stream(tls_pair, None)


@given(st.lists(st.integers(0, 300_000), max_size=8), st.integers(1, 300_000))
@settings(max_examples=25, deadline=None)
def test_buffers_of_any_size_arrive_as_one_stream_of_bytes(sizes: list[int], room: int) -> None:
    buffers = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    got = bytearray()

    async def check() -> None:
        near, far = await tls_pair()

        async def send() -> None:
            await send_buffers(near, buffers)
            await near.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            place = memoryview(bytearray(room))
            while count := await receive_into(far, place):
                got.extend(place[:count])

    trio.run(check)
    assert bytes(got) == b"".join(buffers)


async def test_much_goes_through_tls_in_large_steps() -> None:
    near, far = await memory_pair()
    sizes: list[int] = []

    class Watched(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            sizes.append(len(data))
            await near.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await near.wait_send_all_might_not_block()

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await near.receive_some(max_bytes)

        async def aclose(self) -> None:
            await near.aclose()

    async def receive() -> None:
        server, _ = await tls.open_server(far, server_context())
        while await server.receive_some():
            continue

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        client, _ = await tls.open_client(Watched(), URL)
        sizes.clear()
        await send_buffers(client, [bytes(250_000), b"head", bytes(1000)] * 16)
        assert len(sizes) <= 4_016_064 // (240 * 1024), sizes
        await client.aclose()


async def test_bytes_altered_on_the_way_are_never_given_out() -> None:
    near, far = await memory_pair()

    class Tampering(trio.abc.Stream):
        """Passes everything on; once `armed`, turns over the last bit of what it is given to send."""

        armed = False

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            data = bytes(data)
            await far.send_all(data[:-1] + bytes([data[-1] ^ 1]) if self.armed else data)

        async def wait_send_all_might_not_block(self) -> None:
            await far.wait_send_all_might_not_block()

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await far.receive_some(max_bytes)

        async def aclose(self) -> None:
            await far.aclose()

    wire, found = Tampering(), []

    async def serve() -> None:
        found.append((await tls.open_server(wire, server_context()))[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client, _ = await tls.open_client(near, URL)
    await found[0].send_all(b"good")
    wire.armed = True
    await found[0].send_all(b"evil")
    assert await client.receive_some() == b"good"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"anything")


@pytest.mark.parametrize("room", [3, 10_000])
async def test_a_goodbye_ends_the_stream_once_what_came_before_is_read(room: int) -> None:
    # Our own streams say none; nginx, and anybody who wants to, does.
    near, far = await memory_pair()
    client, found = trio.SSLStream(near, tls.client_context()), []

    async def serve() -> None:
        found.append((await tls.open_server(far, server_context()))[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await client.do_handshake()

    async def leave() -> None:
        await client.send_all(b"farewell")
        await client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        heard = bytearray()
        while some := await found[0].receive_some(room):
            heard += some
        assert heard == b"farewell" and await found[0].receive_some() == b""
        await found[0].aclose()


async def test_another_relays_key_is_refused_before_any_application_byte() -> None:
    near, far = await memory_pair()
    heard: list[bytes] = []

    async def impostor() -> None:
        stream, _ = await tls.open_server(far, server_context(b"i" * 32))
        try:
            heard.append(bytes(await stream.receive_some()))
        except trio.BrokenResourceError:
            heard.append(b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impostor)
        with pytest.raises(PeerError, match="is not the relay this address names"):
            await tls.open_client(near, URL)
        await near.aclose()
    assert heard == [b""]


@pytest.mark.parametrize(
    ("alpn", "http"), [(["http/1.1"], True), (["h2", "http/1.1"], True), ([], True), (["p2psync/1"], False)]
)
async def test_the_carrier_is_told_by_the_protocol_named(alpn: list[str], http: bool) -> None:
    near, far = await memory_pair()
    client = tls.client_context()
    client.set_alpn_protocols(alpn)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.SSLStream(near, client).do_handshake)
        assert (await tls.open_server(far, server_context()))[1] is http


async def test_a_device_refuses_a_server_of_another_protocol() -> None:
    near, far = await memory_pair()
    web = server_context()
    web.set_alpn_protocols(["http/1.1"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_quiet_handshake, trio.SSLStream(far, web, server_side=True))
        with pytest.raises((PeerError, LinkLost)):
            await tls.open_client(near, URL)
        await trio.aclose_forcefully(near)


async def _quiet_handshake(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        pass  # refused


async def test_tls_1_2_is_refused() -> None:
    near, far = await memory_pair()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def client() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await trio.SSLStream(near, old).do_handshake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        with pytest.raises(LinkLost):
            await tls.open_server(far, server_context())
        await trio.aclose_forcefully(far)


async def test_sessions_cannot_be_resumed() -> None:
    client, _ = await tls_pair()
    assert isinstance(client, TlsStream)
    session = client._tls.session
    assert session is None or not session.has_ticket


def test_the_certificate_vouches_for_nobody_and_does_not_age() -> None:
    certificate = x509.load_der_x509_certificate(tls.make_certificate(SEED, "relay", SeededRandomness()))
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca and constraints.critical
    assert certificate.not_valid_before_utc < datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
    assert certificate.not_valid_after_utc > datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    certificate.verify_directly_issued_by(certificate)


def test_keys_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server_context()
    monkeypatch.delattr("os.memfd_create", raising=False)
    server_context()
    assert not list(tmp_path.iterdir())


async def test_nobody_there_is_a_lost_link_that_names_the_place() -> None:
    network = TcpNetwork()
    (listener,) = await network.listen("127.0.0.1", 0)
    port = bound_port(listener)
    with pytest.raises(UserError, match="--listen"):
        await network.listen("127.0.0.1", port)
    await listener.aclose()
    with pytest.raises(LinkLost, match=f"127.0.0.1:{port}"):
        await network.connect("127.0.0.1", port)


@pytest.mark.parametrize("host", ["relay.example", "127.0.0.1", "::1"])
def test_a_relay_url_survives_its_text(host: str) -> None:
    url = RelayUrl(host, 22443, URL.pin)
    assert parse_relay_url(str(url)) == url
    assert parse_relay_url(str(url).replace(":22443", "")) == url
    pin = str(url).partition("#")[2]
    assert parse_relay_url(str(url).replace(pin, pin.upper())) == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p2p://relay.example/", "file 'url'"),
        ("relay.example:22443", "must look like"),
        ("https://relay.example/#abc", "must look like"),
        ("ws://relay.example/", "must look like"),
        ("p2p://relay.example/#abc", "mistyped"),
        ("p2p://relay.example/#" + "a" * 51 + "1", "mistyped"),
        ("p2p://relay.example:99999/#a", "cannot be read"),
        ("p2p://relay.example:0/" + "#a", "do not belong"),
        ("p2p://user@relay.example/#a", "do not belong"),
        ("p2p://relay.example/path#a", "do not belong"),
        ("p2p://[::1/#a", "cannot be read"),
        ("", "must look like"),
    ],
)
def test_a_wrong_relay_url_is_a_user_error_that_says_what_to_do(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_relay_url(text)


async def test_both_ends_may_send_much_at_once_whoever_comes_first() -> None:
    """A reader that waited for the sender of its own end would stop both ends for ever."""
    for _ in range(150):
        near_raw, far_raw = trio.testing.lockstep_stream_pair()
        found: dict[str, trio.abc.Stream] = {}

        async def serve(raw: trio.abc.Stream = far_raw, found: dict[str, trio.abc.Stream] = found) -> None:
            found["far"], _ = await tls.open_server(raw, server_context())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            found["near"], _ = await tls.open_client(near_raw, URL)

        async def read(stream: trio.abc.Stream) -> None:
            left = 40_000
            while left:
                left -= len(await stream.receive_some(10_000))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for stream in found.values():
                    nursery.start_soon(read, stream)
                    nursery.start_soon(stream.send_all, bytes(40_000))
