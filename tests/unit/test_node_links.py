"""Laws of devices that link directly: two peers, a relay for pairing and presence only, all in one process."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.node.commands import perform
from p2psync.node.control import Json
from p2psync.node.home import Home
from p2psync.node.links import LinkOptions
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.node.surroundings import Surroundings
from tests.support.links import SeededRandomness
from tests.unit.test_node_peer import Listening, World, in_sync, paired

DIRECT = frozenset({"direct"})
ALL = frozenset({"direct", "splice", "store"})


class LinkedWorld(World):
    """Devices that listen; `homes` are the addresses of their interfaces, which a test may change."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.addresses = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
        self.links = DIRECT

    @asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Peer]:
        self._seed += 1
        surroundings = Surroundings(
            network=self.network, relay_network=self.network, clock=self.clock, workers=self.workers,
            randomness=SeededRandomness(self._seed),
            interfaces=lambda: [ipaddress.ip_interface(f"{self.addresses[name]}/24")],
        )  # fmt: skip
        options = LinkOptions(links=self.links, listen=("", 0))
        async with open_peer(Home(self.directory / f"home-{name}"), surroundings, options) as peer:
            await resume_pairings(peer)
            yield peer


@pytest.fixture
def world(tmp_path: Path) -> LinkedWorld:
    return LinkedWorld(tmp_path)


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


async def test_two_devices_sync_directly_and_the_relay_gets_no_content(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_bytes(bytes(range(256)) * 2000)
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        assert (world.tree("b") / "letter").read_bytes() == bytes(range(256)) * 2000
        (world.tree("b") / "answer").write_text("over there")
        await in_sync(b, a)
        assert (world.tree("a") / "answer").read_text() == "over there"
        assert packs(world) == []
        (other,) = (await status(a))["folders"][0]["peers"]
        assert other["reached"] == "direct" and other["in_sync"] and other["reason"] is None
        assert other["sent_bytes"] > 500_000 > 20_000 > other["received_bytes"] and other["name"]
        assert a.links.connected() == b.links.connected() == 1


async def test_a_restarted_device_is_linked_again(world: LinkedWorld, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("b") as b:
        async with world.device("a") as a:
            await paired(world, a, b, url)
            await in_sync(a, b)
        (world.tree("a") / "late").write_text("x")
        async with world.device("a") as a:
            await linked(a, b)
            await in_sync(a, b)
        assert (world.tree("b") / "late").exists()


async def test_direct_links_go_on_and_come_back_while_the_relay_is_gone(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    async with world.device("a") as a, world.device("b") as b:
        async with world.relay() as url:
            await paired(world, a, b, url)
            await in_sync(a, b)
        (world.tree("a") / "one").write_text("x")
        await in_sync(a, b)
        world.network.cut_all()
        await linked(a, b)
        (world.tree("b") / "two").write_text("x")
        await in_sync(b, a)
        assert (world.tree("b") / "one").exists() and (world.tree("a") / "two").exists()


async def test_a_device_whose_address_changes_is_found_at_the_new_one(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        world.addresses |= {"a": "10.0.9.1", "b": "10.0.9.2"}
        world.network.unreachable |= {"10.0.0.1", "10.0.0.2"}
        await trio.sleep(15)
        world.network.cut_all()
        await linked(a, b)
        (world.tree("a") / "moved").write_text("x")
        await in_sync(a, b)




async def test_two_devices_that_dial_each_other_keep_one_session(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        for _ in range(10):
            world.network.cut_all()
            await trio.sleep(1)
            await linked(a, b)
            await trio.sleep(10)
            (left,), (right,) = a.links.sessions.links(), b.links.sessions.links()
            assert left.dialler == right.dialler and left.error is None and right.error is None
