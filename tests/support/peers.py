"""Devices linked directly: real TCP on 127.0.0.1, mutual TLS, no store between them; links that a test can cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2psync.errors import LinkLost
from p2psync.net.network import TcpNetwork, bound_port
from p2psync.replica.replica import Replica
from p2psync.session.peer_link import PeerLink, accept_peer_link, open_peer_link
from tests.support.devices import Device, SeededRandomness

DIRECT = frozenset({"direct"})

Wrap = Callable[[trio.abc.Stream], trio.abc.Stream]


class CountedStream(trio.abc.Stream):
    """Counts what passes, and breaks both ways once `limit` bytes were received."""

    def __init__(self, inner: trio.abc.Stream, limit: int | None = None) -> None:
        self._inner, self._limit = inner, limit
        self.received = self.sent = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._limit is not None and self.received >= self._limit:
            await self.cut()
            raise trio.BrokenResourceError("cut")
        most = max_bytes if self._limit is None else min(max_bytes or self._limit, self._limit - self.received)
        data = await self._inner.receive_some(most)
        self.received += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += len(data)
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def cut(self) -> None:
        await trio.aclose_forcefully(self._inner)


def devices(home: Path) -> tuple[Device, Device, Device]:
    return Device(home / "a", 1), Device(home / "b", 2), Device(home / "c", 3)


async def tcp_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """(dialler's end, listener's end) of one connection on 127.0.0.1."""
    network = TcpNetwork()
    (listener,) = await network.listen("127.0.0.1", 0)
    near = await network.connect("127.0.0.1", bound_port(listener))
    far = await listener.accept()
    await listener.aclose()
    return near, far


@asynccontextmanager
async def device_links(
    dialler: Device, listener: Device, wrap: Wrap = lambda stream: stream, others: tuple[Device, ...] = (),
    kind: str = "direct",
) -> AsyncIterator[tuple[PeerLink, PeerLink]]:  # fmt: skip
    """A link between two devices; `others` are further members the listener would let in."""
    near, far = await tcp_pair()
    members = {each.keys.identity_key: each.keys.certificate for each in (dialler, *others)}
    randomness = SeededRandomness(dialler.seed * 1000 + listener.seed)
    async with trio.open_nursery() as nursery:
        found: dict[str, PeerLink] = {}
        accepted, done = trio.Event(), trio.Event()

        async def accept() -> None:
            async with accept_peer_link(
                far, device=listener.keys, members=members, randomness=randomness, kind=kind
            ) as link:
                found["far"] = link
                accepted.set()
                await done.wait()

        nursery.start_soon(accept)
        async with open_peer_link(
            wrap(near), device=dialler.keys, expected=listener.keys.identity_key,
            certificate=listener.keys.certificate, randomness=randomness, kind=kind,
        ) as link:  # fmt: skip
            await accepted.wait()
            yield link, found["far"]
        done.set()


async def serve_until_lost(replica: Replica, name: str, link: PeerLink) -> None:
    try:
        await replica.serve_peer(name, link)
    except LinkLost:
        return


@asynccontextmanager
async def linked(
    a: Device, first: Replica, b: Device, second: Replica, wrap: Wrap = lambda stream: stream
) -> AsyncIterator[tuple[PeerLink, PeerLink]]:
    """Both replicas serving each other for the length of the block."""
    async with device_links(a, b, wrap) as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(serve_until_lost, first, b.home.name, near)
        nursery.start_soon(serve_until_lost, second, a.home.name, far)
        yield near, far
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_linked(home: Path) -> AsyncIterator[tuple[Device, Device, Replica, Replica]]:
    a, b = Device(home / "a", 1), Device(home / "b", 2)
    a.found()
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        async with b.running(None, links=DIRECT) as second, linked(a, first, b, second):
            yield a, b, first, second
