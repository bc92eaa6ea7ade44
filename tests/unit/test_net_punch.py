"""A local port that several connections share, and dialling that gives up; how it meets stands in tests/net."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2psync.errors import LinkLost
from p2psync.net.network import TcpNetwork, bound_port
from p2psync.net.punch import LocalPort
from p2psync.seams import SystemRandomness
from p2psync.session.greeting import observed_address
from tests.support.links import running_relay


async def test_a_relay_tells_the_outside_address_of_a_local_port(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        with LocalPort() as local:
            async with observed_address(running.url, connector=local, randomness=SystemRandomness()) as found:
                assert found == ("127.0.0.1", local.port)


async def test_several_connections_go_out_from_one_port() -> None:
    network = TcpNetwork()
    (one,), (two,) = await network.listen("127.0.0.1", 0), await network.listen("127.0.0.1", 0)
    async with one, two:
        with LocalPort() as local:
            for listener in (one, two):
                async with await local.connect("127.0.0.1", bound_port(listener)), await listener.accept() as seen:
                    assert isinstance(seen, trio.SocketStream)
                    assert seen.socket.getpeername()[1] == local.port


async def test_a_peer_that_listens_late_is_still_reached() -> None:
    with LocalPort() as local, LocalPort() as peer:
        async with trio.open_nursery() as nursery:
            found: list[trio.SocketStream] = []

            async def dial() -> None:
                found.append(await local.punch(("127.0.0.1", peer.port), 20))

            nursery.start_soon(dial)
            for _ in range(200):
                await trio.lowlevel.checkpoint()
            listener = trio.SocketListener(_listening(peer))
            async with listener, await listener.accept() as seen:
                await seen.send_all(b"here")
                while not found:
                    await trio.lowlevel.checkpoint()
                assert await found[0].receive_some() == b"here"
                await found[0].aclose()


def _listening(port: LocalPort) -> trio.socket.SocketType:
    opened = port.dialler()
    opened.listen(1)
    return opened


async def test_dialling_gives_up_in_time_and_says_where_it_dialled() -> None:
    with LocalPort() as local, LocalPort() as silent:
        with trio.fail_after(5):
            with pytest.raises(LinkLost, match=f"no direct way to 127.0.0.1:{silent.port}: "):
                await local.punch(("127.0.0.1", silent.port), 0.2)


async def test_a_port_connects_to_nobody_with_a_reason() -> None:
    with LocalPort() as local, LocalPort() as silent:
        with pytest.raises(LinkLost, match=f"127.0.0.1:{silent.port} from port {local.port}"):
            await local.connect("127.0.0.1", silent.port)
