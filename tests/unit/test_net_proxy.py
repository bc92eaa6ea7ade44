"""Proxies named by the environment: which is used when, and a relay reached through a real SOCKS5 server."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.errors import LinkLost, UserError
from p2psync.net.network import TcpNetwork, bound_port
from p2psync.net.proxy import ProxiedNetwork, parse_proxy
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.relay_link import open_relay_link
from tests.support.links import running_relay
from tests.support.web import pass_on

PROXY = {"ALL_PROXY": "socks5://user:secret@proxy.example:9050"}


class SocksServer:
    """A small SOCKS5 server (RFC 1928, 1929) on 127.0.0.1; `asked` holds the places it was asked for."""

    def __init__(self, password: bytes = b"") -> None:
        self.asked: list[tuple[str, int]] = []
        self.refuses = False
        self._password = password

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        (listener,) = await TcpNetwork().listen("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            yield bound_port(listener)
            nursery.cancel_scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        async with client:
            _, count = await _exactly(client, 2)
            methods = await _exactly(client, count)
            wanted = 2 if self._password else 0
            assert wanted in methods
            await client.send_all(bytes((5, wanted)))
            if self._password and not await self._authenticated(client):
                return
            version, command, _, kind = await _exactly(client, 4)
            assert (version, command) == (5, 1)
            size = {1: 4, 4: 16}.get(kind) or (await _exactly(client, 1))[0]
            raw = await _exactly(client, size)
            host = raw.decode() if kind == 3 else str(ipaddress.ip_address(raw))
            port = int.from_bytes(await _exactly(client, 2), "big")
            self.asked.append((host, port))
            if self.refuses:
                await client.send_all(b"\5\2\0\1" + bytes(6))
                return
            async with await trio.open_tcp_stream("127.0.0.1", port) as target:
                await client.send_all(b"\5\0\0\1" + bytes(6))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pass_on, client, target, nursery.cancel_scope)
                    nursery.start_soon(pass_on, target, client, nursery.cancel_scope)

    async def _authenticated(self, client: trio.SocketStream) -> bool:
        await _exactly(client, 1)
        user = await _exactly(client, (await _exactly(client, 1))[0])
        password = await _exactly(client, (await _exactly(client, 1))[0])
        right = (user, password) == (b"user", self._password)
        await client.send_all(b"\1\0" if right else b"\1\1")
        return right


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.receive_some(count - len(data))
        assert part
        data += part
    return data


async def test_a_relay_is_reached_through_the_proxy(tmp_path: Path) -> None:
    socks = SocksServer(b"pa:ss")
    async with running_relay(tmp_path) as running, socks.running() as port:
        network = ProxiedNetwork(TcpNetwork(), {"ALL_PROXY": f"socks5h://user:pa%3Ass@127.0.0.1:{port}"}, loopback=True)
        async with open_relay_link(
            running.url, network=network, clock=SystemClock(), randomness=SystemRandomness()
        ) as link:
            await link.close_mailbox(1)
    assert socks.asked == [("127.0.0.1", running.url.port)]


async def test_names_are_resolved_by_the_proxy() -> None:
    socks = SocksServer()
    async with socks.running() as port:
        (listener,) = await TcpNetwork().listen("127.0.0.1", 0)
        network = ProxiedNetwork(TcpNetwork(), {"all_proxy": f"socks5://127.0.0.1:{port}"})
        async with await network.connect("no-such-name.invalid", bound_port(listener)), listener:
            assert socks.asked == [("no-such-name.invalid", bound_port(listener))]


async def test_errors_name_the_proxy_and_hide_its_password() -> None:
    socks = SocksServer()
    socks.refuses = True
    async with socks.running() as port:
        network = ProxiedNetwork(TcpNetwork(), {"ALL_PROXY": f"socks5://user:secret@127.0.0.1:{port}"})
        with pytest.raises(LinkLost, match=rf"socks5://127.0.0.1:{port} refuses .* relay.example:22443") as caught:
            await network.connect("relay.example", 22443)
        assert "secret" not in str(caught.value)
    with pytest.raises(LinkLost, match=rf"cannot use the proxy socks5://127.0.0.1:{port} to reach relay.example:1"):
        await network.connect("relay.example", 1)
    wrong = SocksServer(b"right")
    async with wrong.running() as port:
        network = ProxiedNetwork(TcpNetwork(), {"ALL_PROXY": f"socks5://user:wrong@127.0.0.1:{port}"})
        with pytest.raises(LinkLost, match="refuses"):
            await network.connect("relay.example", 1)
    assert "secret" not in repr(parse_proxy(PROXY["ALL_PROXY"], "ALL_PROXY"))


@pytest.mark.parametrize(
    ("host", "exceptions", "proxied"),
    [
        ("relay.example", "", True),
        ("127.0.0.1", "", False),
        ("127.8.8.8", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("relay.example", "*", False),
        ("relay.example", "other.example, relay.example", False),
        ("Relay.Example", "relay.example", False),
        ("relay.example", ".example", False),
        ("relay.example", "*.example", False),
        ("norelay.example", "relay.example", True),
        ("relay.example", "relay.example:22443", False),
        ("relay.example", "relay.example:443", True),
        ("10.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3:22443", False),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("2001:db8::1", "2001:db8::/32", False),
        ("2001:db8::1", "[2001:db8::1]:22443", False),
        ("10.1.2.3", "3", True),
    ],
)
def test_exceptions_and_this_machine_are_not_proxied(host: str, exceptions: str, proxied: bool) -> None:
    network = ProxiedNetwork(TcpNetwork(), {**PROXY, "NO_PROXY": exceptions})
    assert (network.proxy_for(host, 22443) is not None) is proxied


def test_the_more_special_variable_counts() -> None:
    network = ProxiedNetwork(TcpNetwork(), {**PROXY, "HTTPS_PROXY": "proxy.example:3128"})
    assert str(network.proxy_for("relay.example", 443)) == "http://proxy.example:3128"
    assert ProxiedNetwork(TcpNetwork(), {"ALL_PROXY": " "}).proxy_for("relay.example", 443) is None


@pytest.mark.parametrize("text", ["ftp://proxy", "socks5://", "socks5://proxy:port", "://"])
def test_an_unreadable_proxy_is_a_user_error_that_names_the_variable(text: str) -> None:
    with pytest.raises(UserError, match="ALL_PROXY must look like"):
        ProxiedNetwork(TcpNetwork(), {"ALL_PROXY": text}).proxy_for("relay.example", 443)
