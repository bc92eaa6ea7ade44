"""Laws of a running peer, two of them and a relay in one process: mock clock, network in memory, real disks."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel

from p2psync.errors import AccessRefused, NobodyReachable, P2psyncError, TimedOut, UserError
from p2psync.node.commands import perform
from tests.support.running_peers import Listening, World, fails, in_sync, paired


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_two_devices_pair_and_sync(world: World, autojump_clock: trio.abc.Clock) -> None:
    (world.tree("a") / "letter").write_text("dear both")
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        console = await paired(world, a, b, url)
        assert (await console.first("paired"))["device"] == b.device.device_id
        await in_sync(a, b)
        assert (world.tree("b") / "letter").read_text() == "dear both"
        said = Listening()
        await perform(a, {"command": "status"}, said)
        folder = said.said[0]["folders"][0]
        (other,) = folder["peers"]
        assert (other["device"], other["role"], other["reached"]) == (b.device.device_id, "writer", "store only")
        assert folder["stores"][0]["connected"] and folder["stores"][0]["in_sync"]


async def test_devices_come_back_by_themselves_when_the_relay_does(
    world: World, autojump_clock: trio.abc.Clock
) -> None:
    async with world.device("a") as a, world.device("b") as b:
        async with world.relay() as url:
            await paired(world, a, b, url)
            await in_sync(a, b)
        (world.tree("a") / "while away").write_text("x")
        await trio.sleep(300)
        said = Listening()
        await perform(a, {"command": "status"}, said)
        store = said.said[0]["folders"][0]["stores"][0]
        assert not store["connected"] and "nobody listens" in store["error"]
        port = int(url.split(":")[2].split("/")[0])
        async with world.relay(port=port):
            await in_sync(a, b)
            assert (world.tree("b") / "while away").exists()


async def test_a_cut_link_is_made_again(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        for number in range(5):
            world.network.cut_all()
            (world.tree("a") / f"file {number}").write_text("x")
            await in_sync(a, b)
        assert len(list(world.tree("b").glob("file *"))) == 5


async def test_a_restarted_device_goes_on_where_it_was(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("b") as b:
        async with world.device("a") as a:
            await paired(world, a, b, url)
        (world.tree("a") / "late").write_text("x")
        async with world.device("a") as a:
            await in_sync(a, b)
        assert (world.tree("b") / "late").exists()


async def test_a_joiner_that_restarts_before_its_admission_is_admitted_at_its_next_start(
    world: World, autojump_clock: trio.abc.Clock
) -> None:
    async with world.relay() as url, world.device("a") as a:
        console = Listening()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(perform, a, world.share_request("a", url), console)
            code = (await console.first("code"))["code"]
            async with world.device("b") as b, trio.open_nursery() as joining:
                joining.start_soon(perform, b, world.join_request("b", code, url), Listening())
                while not b.registry.pairings(0):
                    await trio.lowlevel.checkpoint()
                joining.cancel_scope.cancel()
            async with world.device("b") as b:
                await console.first("paired")
                await in_sync(a, b)
                assert [folder.path for folder in await b.registered()] == [world.directory / "b"]


async def test_nobody_reachable_is_said_in_time(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.device("a") as a:
        async with world.relay() as url:
            await perform(a, world.share_request("a", url, code=False), Listening())
        started = trio.current_time()
        assert isinstance(await fails(a, {"command": "sync"}, Listening()), NobodyReachable)
        assert trio.current_time() - started < 40
        assert isinstance(await fails(a, {"command": "sync", "timeout": 2}, Listening()), TimedOut)
        shared = await fails(a, world.share_request("c", url), Listening())
        assert isinstance(shared, NobodyReachable) and not (world.tree("c") / ".p2psync").exists()


async def test_a_relay_by_invitation_asks_for_the_token(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay(open_to_all=False) as url, world.device("a") as a:
        refused = await fails(a, world.share_request("a", url, code=False), Listening(answer=None))
        assert isinstance(refused, AccessRefused) and "invite" in str(refused)
        console = Listening(answer=(world.directory / "relay" / "invite").read_text().strip())
        await perform(a, world.share_request("a", url, code=False), console)
        assert console.asked == [{"ask": "invite", "relay": url}]


async def test_an_admin_may_decline_a_device(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        console = Listening(answer="no")
        errors: list[P2psyncError] = []

        async def share() -> None:
            errors.append(await fails(a, world.share_request("a", url, yes=False), console))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(share)
            code = (await console.first("code"))["code"]
            errors.append(await fails(b, world.join_request("b", code, url), Listening()))
        assert all(isinstance(error, AccessRefused) for error in errors) and len(errors) == 2
        assert console.asked[0]["ask"] == "admit" and not await b.registered()


async def test_folders_never_overlap(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a:
        await perform(a, world.share_request("a", url, code=False), Listening())
        inside = world.tree("a") / "inside"
        inside.mkdir()
        for path in (inside, world.directory):
            request = {"command": "share", "path": str(path), "relay": url, "code": False}
            error = await fails(a, request, Listening())
            assert isinstance(error, UserError) and "overlaps" in str(error)


async def test_a_device_cannot_join_what_it_has(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a:
        console = Listening()
        errors: list[P2psyncError] = []

        async def share() -> None:
            errors.append(await fails(a, world.share_request("a", url), console))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(share)
            code = (await console.first("code"))["code"]
            error = await fails(a, world.join_request("b", code, url), Listening())
            assert isinstance(error, UserError) and "already has" in str(error)
        assert errors


async def test_a_folder_never_lands_inside_another_one(world: World, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await perform(b, world.share_request("b", url, code=False), Listening())
        console = Listening()
        errors: list[P2psyncError] = []

        async def share() -> None:
            errors.append(await fails(a, world.share_request("a", url), console))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(share)
            code = (await console.first("code"))["code"]
            error = await fails(b, world.join_request("b/inside", code, url), Listening())
            assert isinstance(error, UserError) and "overlaps" in str(error)
        assert errors and not a.running((await a.registered())[0].folder).replica.members()[1:]
