"""Laws of links opened from both sides: two peers behind NATs in one process, and a relay that sees their ports."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import pytest
import trio

from p2psync.errors import LinkLost
from p2psync.net.network import place
from p2psync.node.home import Home
from p2psync.node.link_options import LinkOptions
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.session.peer_link import PeerLink
from tests.support.linked_peers import CONTENT, LinkedWorld, packs, status, wait_for_way
from tests.support.links import MemoryNetwork, MemoryStream, memory_pair
from tests.support.running_peers import in_sync, paired


class Nats:
    """Who dials whom right now. Two meet when each dials the very port the other one dials from."""

    def __init__(self) -> None:
        self.dialling: dict[tuple[tuple[str, int], tuple[str, int]], trio.Event] = {}
        self.met: dict[tuple[tuple[str, int], tuple[str, int]], MemoryStream] = {}
        self.ports = iter(range(4000, 9000))
        self.dials = 0
        self.random = False
        """Every destination sees another port."""


class NattedPort:
    def __init__(self, nats: Nats, network: MemoryNetwork, host: str) -> None:
        self._nats, self._network, self._host = nats, network, host
        self._port = next(nats.ports)

    def __enter__(self) -> NattedPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        return await self._network.seen_from(self._host, self._port).connect(host, port)

    async def punch(self, peer: tuple[str, int], seconds: float) -> trio.abc.Stream:
        nats = self._nats
        nats.dials += 1
        ours = self._host, next(nats.ports) if nats.random else self._port
        with trio.move_on_after(seconds):
            await trio.lowlevel.checkpoint()
            if (other := nats.dialling.pop((peer, ours), None)) is not None:
                nats.met[peer, ours], stream = memory_pair()
                self._network._parent.streams.append(stream)
                other.set()
                return stream
            here = nats.dialling[ours, peer] = trio.Event()
            try:
                await here.wait()
                return nats.met.pop((ours, peer))
            finally:
                nats.dialling.pop((ours, peer), None)
        raise LinkLost(f"no direct way to {place(*peer)}: nobody answered")


class NattedWorld(LinkedWorld):
    """Nobody can be dialled; a relay is reached by all."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.links = frozenset({"direct", "splice"})
        self.nats = Nats()
        self.network.unreachable |= set(self.addresses.values())
        self.behind_proxy = False

    @asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Peer]:
        host = self.addresses[name]

        def ports(family: socket.AddressFamily) -> NattedPort:
            if family is not socket.AF_INET:
                raise LinkLost("no such addresses here")
            return NattedPort(self.nats, self.network, host)

        surroundings = replace(self.surroundings(name), outside_ports=lambda url: None if self.behind_proxy else ports)
        options = LinkOptions(links=self.links, listen=("", 0))
        async with open_peer(Home(self.directory / f"home-{name}"), surroundings, options) as peer:
            await resume_pairings(peer)
            yield peer


@pytest.fixture
def world(tmp_path: Path) -> NattedWorld:
    return NattedWorld(tmp_path)


async def test_two_devices_behind_nats_open_a_direct_link_and_find_it_again(
    world: NattedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_bytes(CONTENT)
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        for _ in range(3):
            for peer in (a, b):
                await wait_for_way(peer, "direct")
            await trio.sleep(60)
            assert len(a.links.sessions.links()) == len(b.links.sessions.links()) == 1
            await in_sync(a, b)
            world.network.cut_all()
            await trio.sleep(1)
        assert (world.tree("b") / "letter").read_bytes() == CONTENT and packs(world) == []


async def test_behind_nats_that_cannot_be_passed_devices_stay_spliced_and_try_ever_less(
    world: NattedWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.nats.random = True
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        for peer in (a, b):
            await wait_for_way(peer, "spliced")
        before = a.links.sessions.links()
        await trio.sleep(3600)
        assert a.links.sessions.links() == before and before[0].error is None
        assert 2 * 5 < world.nats.dials < 2 * 14


async def test_links_direct_alone_arrange_themselves_over_the_relay_and_send_no_content_there(
    world: NattedWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.links = frozenset({"direct"})
    world.nats.random = True
    (world.tree("a") / "letter").write_bytes(CONTENT)
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await trio.sleep(120)
        assert a.links.connected() == b.links.connected() == 0 and world.nats.dials > 1
        assert not (world.tree("b") / "letter").exists() and packs(world) == []
        (other,) = (await status(a))["folders"][0]["peers"]
        assert other["reached"] == "unreachable" and other["reason"]
        world.nats.random = False
        await in_sync(a, b)
        assert (world.tree("b") / "letter").read_bytes() == CONTENT and packs(world) == []
        for peer in (a, b):
            await wait_for_way(peer, "direct")


async def test_one_that_wants_no_splice_and_one_that_does_arrange_a_direct_link_too(
    world: NattedWorld, autojump_clock: trio.abc.Clock
) -> None:
    async with world.relay() as url, world.device("a") as a:
        world.links = frozenset({"direct"})
        async with world.device("b") as b:
            await paired(world, a, b, url)
            for peer in (a, b):
                await wait_for_way(peer, "direct")


async def test_a_device_that_hides_behind_a_proxy_is_never_dialled(
    world: NattedWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.behind_proxy = True
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        for peer in (a, b):
            await wait_for_way(peer, "spliced")
        await trio.sleep(100)
        assert world.nats.dials == 0
        (link,) = b.links.sessions.links()
        assert isinstance(link, PeerLink) and link.error is None
