"""Dialling a device: its addresses race, so that bad ones hardly delay the good one, and vain tries become rare."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from p2psync.net.addresses import Address
from p2psync.node.devices import GREETING_SECONDS, STAGGER_SECONDS
from p2psync.node.peer import Peer
from p2psync.node.relays import BACKOFF_FIRST, BACKOFF_LAST, BACKOFF_SHORT
from p2psync.node.surroundings import Surroundings
from tests.support.linked_peers import CountingNetwork, LinkedWorld, linked
from tests.support.links import memory_pair
from tests.support.running_peers import in_sync, paired

HOLE, MUTE, REFUSED, GOOD = "10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"


class BadNetwork(CountingNetwork):
    """At some hosts nobody answers, or nobody says a word. Remembers who was dialled when."""

    def __init__(self, world: DiallingWorld, address: str) -> None:
        super().__init__(world, address)
        self._dials, self._mute = world.dials, world.mute

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self._dials.append((host, trio.current_time()))
        if host == HOLE:
            await trio.sleep_forever()
        if host == MUTE:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_pair()
            self._mute.append(theirs)
            return ours
        return await super().connect(host, port)


class DiallingWorld(LinkedWorld):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.network.unreachable.add(REFUSED)
        self.dials: list[tuple[str, float]] = []
        self.mute: list[trio.abc.Stream] = []

    def surroundings(self, name: str) -> Surroundings:
        return replace(super().surroundings(name), network=BadNetwork(self, self.addresses[name]))

    async def pair(self) -> None:
        async with self.relay() as url, self.device("a") as a, self.device("b") as b:
            await paired(self, a, b, url)
            await in_sync(a, b)


@pytest.fixture
def world(tmp_path: Path) -> DiallingWorld:
    return DiallingWorld(tmp_path)


async def say(a: Peer, b: Peer, *hosts: str) -> None:
    """Tell `a` by hand that `b` is at these hosts."""
    assert b.links.port is not None
    addresses = tuple(Address(host, b.links.port) for host in hosts)
    await a.set_addresses(b.device.identity_key, addresses)


@pytest.mark.parametrize(
    ("bad", "seconds"),
    [((HOLE, REFUSED), STAGGER_SECONDS), ((HOLE, REFUSED, MUTE), 2 * STAGGER_SECONDS + GREETING_SECONDS)],
    ids=["hanging", "mute"],
)
async def test_addresses_that_hang_or_say_nothing_hardly_delay_the_good_one(
    world: DiallingWorld, autojump_clock: trio.abc.Clock, bad: tuple[str, ...], seconds: float
) -> None:
    await world.pair()
    async with world.device("a") as a, world.device("b") as b:
        world.dials.clear()
        started = trio.current_time()
        await say(a, b, *bad, GOOD)
        await linked(a, b)
        assert [host for host, _ in world.dials] == [*bad, GOOD]
        assert trio.current_time() - started < seconds + 0.5
        await trio.sleep(90)
        assert len(a.links.sessions.links()) == len(b.links.sessions.links()) == 1
        for stream in world.mute:
            with trio.fail_after(1):
                while await stream.receive_some():  # what was not chosen is closed
                    pass


async def test_a_device_that_is_not_there_is_dialled_ever_more_rarely_and_found_when_it_is(
    world: DiallingWorld, autojump_clock: trio.abc.Clock
) -> None:
    await world.pair()
    async with world.device("a") as a:
        async with world.device("b") as b:
            await say(a, b, REFUSED)
        await trio.sleep(1800)
        times = [when for host, when in world.dials if host == REFUSED]
        waits = [after - before for before, after in pairwise(times)]
        assert max(waits[:60]) <= BACKOFF_SHORT + 0.1 and waits[0] <= BACKOFF_FIRST + 0.1
        assert all(BACKOFF_LAST / 2 <= wait <= BACKOFF_LAST + 0.1 for wait in waits[-20:])
        (keeper,) = a.links.keepers()
        assert keeper.error is not None
        assert len(set(waits)) > len(waits) / 2, "with jitter: devices do not dial in step"
        world.network.unreachable.clear()
        async with world.device("b") as b:
            await say(a, b, GOOD)
            with trio.fail_after(5):
                await linked(a, b)
