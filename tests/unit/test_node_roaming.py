"""A device notices another network, and a sleep, and acts within seconds; noise makes it do nothing."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2psync.net.addresses import IpInterface
from p2psync.net.changes import Told, is_news
from p2psync.node.roaming import LOOK_SECONDS, SETTLE_SECONDS, Roaming


class World:
    """What a device sees of its machine, and what it did about it."""

    def __init__(self) -> None:
        self.addresses: list[IpInterface] = [ipaddress.ip_interface("10.0.0.1/24")]
        self.asleep = 0.0
        self.done: list[str] = []
        self.told: Told = lambda: None

    @asynccontextmanager
    async def watch(self, told: Told) -> AsyncIterator[None]:
        self.told = told
        yield

    @asynccontextmanager
    async def roaming(self) -> AsyncIterator[None]:
        roaming = Roaming(
            lambda: self.addresses, self.watch, look=lambda: None, retry=lambda: self.done.append("retry"),
            doubt=lambda: self.done.append("doubt"), passed=lambda: trio.current_time() + self.asleep,
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            nursery.start_soon(roaming.run)
            await trio.sleep(1)
            yield
            nursery.cancel_scope.cancel()


async def test_while_nothing_changes_nothing_is_done(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with world.roaming():
        await trio.sleep(3600)
    assert world.done == []


async def test_what_the_system_tells_is_acted_on_within_a_second_and_once(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with world.roaming():
        for _ in range(20):
            world.told()
        await trio.sleep(2 * SETTLE_SECONDS)
        assert world.done == ["retry"], "no link need be doubted while the addresses stay"
        world.addresses = [ipaddress.ip_interface("192.168.0.7/24")]
        world.told()
        await trio.sleep(2 * SETTLE_SECONDS)
        assert world.done == ["retry", "doubt", "retry"]


async def test_another_address_is_seen_though_nobody_tells(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with world.roaming():
        world.addresses = []
        await trio.sleep(LOOK_SECONDS)
        assert world.done == ["doubt", "retry"]


async def test_a_machine_that_slept_doubts_its_links(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with world.roaming():
        world.asleep += 3600
        await trio.sleep(LOOK_SECONDS)
        assert world.done == ["doubt", "retry"]
        await trio.sleep(3600)
        assert world.done == ["doubt", "retry"]


def _link_message(index: int, flags: int) -> bytes:
    body = struct.pack("=BxHiII", 0, 1, index, flags, 0xFFFFFFFF) + bytes(20)
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 0, 0) + body


def test_an_interface_that_stays_as_it_was_is_no_news() -> None:
    cables: dict[int, int] = {}
    up, down, scanning = 0x1 | 0x40 | 0x10000, 0x1, 0x1 | 0x40 | 0x10000 | 0x1000
    assert is_news(_link_message(2, up), cables)
    assert not is_news(_link_message(2, up), cables) and not is_news(_link_message(2, scanning), cables)
    assert is_news(_link_message(3, up), cables)
    assert is_news(_link_message(3, up) + _link_message(2, down), cables), "the second message of a datagram counts too"
    route = struct.pack("=IHHII", 16, 24, 0, 0, 0)
    assert is_news(route, cables)


@pytest.mark.parametrize("data", [b"", b"short", bytes(16), struct.pack("=IHHII", 400, 16, 0, 0, 0)])
def test_a_datagram_that_makes_no_sense_does_no_harm(data: bytes) -> None:
    is_news(data, {})
