"""Peers that listen and dial each other in one process: their network, their LAN, and what they say of their links."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from p2psync.net.lan import OpenLan
from p2psync.node.commands import perform
from p2psync.node.control import Json
from p2psync.node.home import Home
from p2psync.node.link_options import LinkOptions
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.node.surroundings import Surroundings
from p2psync.seams import Clock
from tests.support.links import SeededRandomness
from tests.support.running_peers import Listening, World

DIRECT = frozenset({"direct"})
CONTENT = SeededRandomness(99).bytes(600_000)
"""Does not compress."""


class CountingNetwork:
    """The memory network as a device with this address sees it; counts what it dials."""

    def __init__(self, world: LinkedWorld, address: str) -> None:
        self._world, self._inner = world, world.network.seen_from(address)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self._world.dialled += 1
        return await self._inner.connect(host, port)

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        return await self._inner.listen(host, port)


class WrongClock:
    def __init__(self, right: Clock, ahead: float) -> None:
        self._right, self._ahead = right, ahead

    def now(self) -> float:
        return self._right.now() + self._ahead


class LinkedWorld(World):
    """Devices that listen; `homes` are the addresses of their interfaces, which a test may change."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.addresses = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
        self.links = DIRECT
        self.dialled = 0
        self.ether: Ether | None = None
        self.listen: tuple[str, int] | None = ("", 0)
        self.wrong: dict[str, float] = {}
        """Seconds that a device's clock is ahead."""

    def surroundings(self, name: str) -> Surroundings:
        self._seed += 1
        network = CountingNetwork(self, self.addresses[name])
        return Surroundings(
            network=network, relay_network=network, clock=WrongClock(self.clock, self.wrong.get(name, 0)),
            workers=self.workers,
            randomness=SeededRandomness(self._seed),
            interfaces=lambda: [ipaddress.ip_interface(f"{self.addresses[name]}/32")],
        )  # fmt: skip

    @asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Peer]:
        surroundings = self.surroundings(name)
        if self.ether is not None:
            surroundings = replace(surroundings, open_lan=self.ether.on(self.addresses[name]))
        options = LinkOptions(links=self.links, listen=self.listen, lan=self.ether is not None)
        async with open_peer(Home(self.directory / f"home-{name}"), surroundings, options) as peer:
            await resume_pairings(peer)
            yield peer


async def status(peer: Peer) -> Json:
    said = Listening()
    await perform(peer, {"command": "status"}, said)
    return said.said[0]


async def linked(*peers: Peer) -> None:
    """Wait until each has a session."""
    with trio.fail_after(120):
        for peer in peers:
            await peer.links.linked()


def packs(world: World) -> list[Path]:
    return [path for path in (world.directory / "relay").rglob("*") if path.is_file() and "packs" in path.parts]


class Ether:
    """A LAN in memory: whoever is on it hears what others call."""

    def __init__(self) -> None:
        self.listeners: list[tuple[str, trio.MemorySendChannel[tuple[bytes, str]]]] = []
        self.heard: list[tuple[bytes, str]] = []

    def on(self, host: str) -> OpenLan:
        @asynccontextmanager
        async def open_memory_lan() -> AsyncIterator[MemoryLan]:
            send, receive = trio.open_memory_channel[tuple[bytes, str]](math.inf)
            here = (host, send)
            self.listeners.append(here)
            try:
                yield MemoryLan(self, host, receive)
            finally:
                self.listeners.remove(here)

        return open_memory_lan

    def call(self, data: bytes, host: str) -> None:
        self.heard.append((data, host))
        for _, send in self.listeners:
            send.send_nowait((data, host))


class MemoryLan:
    def __init__(self, ether: Ether, host: str, receive: trio.MemoryReceiveChannel[tuple[bytes, str]]) -> None:
        self._ether, self._host, self._receive = ether, host, receive

    async def call(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._ether.call(data, self._host)

    async def hear(self) -> tuple[bytes, str]:
        return await self._receive.receive()


async def wait_for_way(peer: Peer, way: str) -> None:
    with trio.fail_after(300):
        while True:
            (other,) = (await status(peer))["folders"][0]["peers"]
            if other["reached"] == way:
                return
            await trio.sleep(1)
