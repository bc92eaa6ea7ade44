"""Laws of devices that find each other on a LAN, whatever their clocks say and whoever else calls there."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2psync.vault.beacon import ANNOUNCEMENT_BYTES
from tests.support.linked_peers import Ether, LinkedWorld, linked, status
from tests.support.links import SeededRandomness
from tests.support.running_peers import in_sync, paired


@pytest.fixture
def world(tmp_path: Path) -> LinkedWorld:
    return LinkedWorld(tmp_path)


async def test_devices_on_a_lan_find_each_other_without_a_relay(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.ether = Ether()
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
    (world.tree("a") / "at home").write_text("x")
    async with world.device("a") as a, world.device("b") as b:
        await linked(a, b)
        await in_sync(a, b)
        assert (world.tree("b") / "at home").exists()
        (other,) = (await status(a))["folders"][0]["peers"]
        assert other["reached"] in ("lan", "direct")


@pytest.mark.parametrize("years", [-1, 1])
async def test_devices_on_a_lan_find_each_other_though_their_clocks_are_a_year_apart(
    world: LinkedWorld, autojump_clock: trio.abc.Clock, years: int
) -> None:
    world.ether = Ether()
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
    world.wrong["b"] = years * 365 * 86_400
    for blind in ("a", "b"):  # each must find the other: the other's own finding is put out of action
        async with world.device("a") as a, world.device("b") as b:
            finder, other = (b, a) if blind == "a" else (a, b)
            other.links.whereabouts.heard = lambda *_: None  # type: ignore[method-assign]
            await linked(a, b)
            await in_sync(a, b)
            (link,) = finder.links.sessions.links()
            assert link.dialler == finder.device.identity_key


@pytest.mark.parametrize("years", [-20, -1, 1, 20])
async def test_a_statement_of_a_device_with_a_wrong_clock_is_believed(
    world: LinkedWorld, autojump_clock: trio.abc.Clock, years: int
) -> None:
    world.wrong["b"] = years * 365 * 86_400.0
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        await trio.sleep(30)
        for one, other in ((a, b), (b, a)):
            assert one.links.whereabouts.present(other.device.identity_key)


async def test_a_clock_put_right_does_not_make_a_device_unbelievable(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """It restarts within the life of its old statement, a year earlier than it said then, at another address."""
    world.wrong["b"] = 365 * 86_400.0
    async with world.relay() as url, world.device("a") as a:
        async with world.device("b") as b:
            await paired(world, a, b, url)
            await in_sync(a, b)
        world.wrong["b"] = 0
        world.addresses["b"] = "10.0.9.2"
        async with world.device("b") as b:
            await trio.sleep(30)
            told = a.links.whereabouts.addresses(b.device.identity_key)
            assert "10.0.9.2" in {address.host for address in told}


async def test_a_flood_of_false_announcements_costs_few_dials(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Property 42: 10^4 announcements, noise and true ones played again from elsewhere."""
    world.ether = Ether()
    async with world.relay() as url:
        async with world.device("a") as a, world.device("b") as b:
            await paired(world, a, b, url)
            await in_sync(a, b)
            await trio.sleep(5)
    true = {data for data, _ in world.ether.heard}
    async with world.device("a") as a:
        world.dialled = 0
        random = SeededRandomness(3)
        for number in range(10_000):
            data = random.bytes(ANNOUNCEMENT_BYTES) if number % 2 else sorted(true)[number // 2 % len(true)]
            world.ether.call(data, f"10.66.{number // 250}.{number % 250 + 1}")
            await trio.sleep(0.001)
        await trio.sleep(10)
        (keeper,) = a.links.keepers()
        assert keeper.error is not None and keeper.session is None
        # Four addresses a round, a round every two seconds; and the relay, which is gone.
        assert 0 < world.dialled <= 4 * 20 / 2 + 20
        assert len(a.links.whereabouts.addresses(keeper.identity)) <= 4
