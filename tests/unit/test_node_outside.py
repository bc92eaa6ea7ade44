"""What a device tells of itself beyond its own interfaces: what its user announces, and a port of the router."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2psync.cli.options import link_options
from p2psync.errors import LinkLost, UsageError
from p2psync.net.addresses import Address, Announced
from p2psync.net.upnp import Mapping
from p2psync.node.home import Home
from p2psync.node.link_options import LinkOptions
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.node.port_mapping import RENEW_SECONDS, RETRY_SECONDS
from tests.support.linked_peers import LinkedWorld, linked, status
from tests.support.running_peers import paired

PORT = 41_234


class Router:
    """Maps ports while it is on."""

    def __init__(self) -> None:
        self.on = True
        self.asked: list[float] = []
        self.held: list[Mapping] = []

    async def map_port(self, port: int) -> Mapping:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        if not self.on:
            raise LinkLost("no router with UPnP answers")
        mapping = Mapping(Address("192.0.2.9", port), Address("10.0.0.1", port), None)
        self.held = [mapping]
        return mapping

    async def unmap_port(self, mapping: Mapping) -> None:
        await trio.lowlevel.checkpoint()
        self.held.remove(mapping)


class OutsideWorld(LinkedWorld):
    """Devices at home addresses that nobody reaches; `a` listens on PORT with `options`, behind a router."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.network.unreachable |= {"10.0.0.1", "10.0.0.2"}
        self.options = LinkOptions(links=self.links, listen=("", PORT))
        self.router = Router()

    @asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Peer]:
        outside = replace(self.surroundings(name), map_port=self.router.map_port, unmap_port=self.router.unmap_port)
        options = self.options if name == "a" else LinkOptions(links=self.links, listen=("", 0))
        async with open_peer(Home(self.directory / f"home-{name}"), outside, options) as peer:
            await resume_pairings(peer)
            yield peer


@pytest.fixture
def world(tmp_path: Path) -> OutsideWorld:
    return OutsideWorld(tmp_path)


async def test_an_announced_address_is_dialled(world: OutsideWorld, autojump_clock: trio.abc.Clock) -> None:
    world.options = replace(world.options, announced=(Announced("192.0.2.9", PORT),))
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await linked(a, b)
        assert b.links.whereabouts.addresses(a.device.identity_key)[0] == Address("192.0.2.9", PORT)


async def test_an_announced_port_is_one_of_the_address_the_relay_sees(
    world: OutsideWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.options = replace(world.options, announced=(Announced(None, 443),))
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await trio.sleep(10)
        assert b.links.whereabouts.addresses(a.device.identity_key)[0] == Address("10.0.0.1", 443)


async def test_a_port_of_the_router_is_told_renewed_and_given_back(
    world: OutsideWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.options = replace(world.options, map_port=True)
    async with world.relay() as url, world.device("b") as b:
        async with world.device("a") as a:
            await paired(world, a, b, url)
            await linked(a, b)
            assert (await status(a))["port_mapping"] == {"address": f"192.0.2.9:{PORT}", "error": None}
            await trio.sleep(1.5 * RENEW_SECONDS)
            assert len(world.router.asked) == 2
            world.router.on = False
            await trio.sleep(RENEW_SECONDS)
            found = (await status(a))["port_mapping"]
            assert found == {"address": None, "error": "no router with UPnP answers"}
            assert Address("192.0.2.9", PORT) not in b.links.whereabouts.addresses(a.device.identity_key)
            world.router.on = True
            await trio.sleep(1.5 * RETRY_SECONDS)
            assert world.router.held
        assert world.router.held == []


async def test_the_router_is_not_asked_where_that_is_of_no_use(
    world: OutsideWorld, autojump_clock: trio.abc.Clock
) -> None:
    for options in (
        LinkOptions(links=world.links, listen=None, map_port=True),
        LinkOptions(links=frozenset({"splice", "store"}), listen=("", PORT), map_port=True),
        LinkOptions(links=world.links, listen=("", PORT)),
    ):
        world.options = options
        async with world.device("a"):
            await trio.sleep(900)
    world.options = LinkOptions(links=world.links, listen=("", PORT), map_port=True)
    for public in ("198.50.100.7", "127.0.0.1"):
        world.addresses["a"] = public
        async with world.device("a") as a:
            await trio.sleep(900)
            assert "private" in (await status(a))["port_mapping"]["error"]
    assert world.router.asked == []


def test_what_the_options_mean_together() -> None:
    assert link_options("direct", None, False).map_port
    for options in (("direct", None, True), ("direct", "none", False), ("direct", None, False, [], True)):
        assert not link_options(*options).map_port
    assert link_options("direct", None, False, [":443"]).announced == (Announced(None, 443),)
    with pytest.raises(UsageError):
        link_options("direct", "none", False, [":443"])
