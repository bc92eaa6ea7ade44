"""Laws of devices that link directly: two peers, a relay for pairing and presence only, all in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2psync.errors import LinkLost, UserError
from p2psync.node.commands import perform
from p2psync.node.home import Home
from p2psync.node.link_options import LinkOptions
from p2psync.node.links import DeviceLinks
from p2psync.node.peer import Peer, open_peer
from p2psync.node.surroundings import Surroundings
from p2psync.session.peer_link import open_peer_link
from tests.support.linked_peers import CONTENT, LinkedWorld, linked, packs, status, wait_for_way
from tests.support.links import SeededRandomness
from tests.support.running_peers import Listening, fails, in_sync, paired
from tests.support.vectors import make_device


@pytest.fixture
def world(tmp_path: Path) -> LinkedWorld:
    return LinkedWorld(tmp_path)


async def test_two_devices_sync_directly_and_the_relay_gets_no_content(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_bytes(CONTENT)
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        assert (world.tree("b") / "letter").read_bytes() == CONTENT
        (world.tree("b") / "answer").write_text("over there")
        await in_sync(b, a)
        assert (world.tree("a") / "answer").read_text() == "over there"
        assert packs(world) == []
        (other,) = (await status(a))["folders"][0]["peers"]
        assert other["reached"] == "direct" and other["in_sync"] and other["reason"] is None
        assert other["sent_bytes"] > 500_000 > 20_000 > other["received_bytes"] and other["name"]
        assert a.links.connected() == b.links.connected() == 1


async def test_status_says_since_when_and_how_fast_a_device_is_linked(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_bytes(CONTENT)
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        began = world.clock.now()
        await paired(world, a, b, url)
        await in_sync(a, b)
        (other,) = (await status(a))["folders"][0]["peers"]
        assert int(began) <= other["since"] <= world.clock.now()
        assert other["send_rate"] > 50_000 > other["receive_rate"] > 0
        await trio.sleep(100)
        (quiet,) = (await status(a))["folders"][0]["peers"]
        assert quiet["since"] == other["since"] and quiet["send_rate"] < 1_000


async def test_status_says_in_a_sentence_why_a_device_is_not_linked(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    async def reason(peer: Peer) -> tuple[str, str]:
        (other,) = (await status(peer))["folders"][0]["peers"]
        return other["reached"], other["reason"]

    world.listen = None
    async with world.relay() as url, world.device("a") as a:
        async with world.device("b") as b:
            await paired(world, a, b, url)
            await trio.sleep(30)
            assert await reason(a) == ("unreachable", "it runs, but tells no address at which it can be dialled")
        world.listen = ("", 0)
        world.network.unreachable |= {"10.0.0.1", "10.0.0.2"}
        async with world.device("b"):
            await trio.sleep(60)
            reached, sentence = await reason(a)
            assert reached == "unreachable" and "10.0.0.2" in sentence
    async with world.device("a") as a:
        await trio.sleep(1000)
        reached, sentence = await reason(a)
        assert reached == "unreachable" and "has not been heard of since this device started" in sentence


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


async def test_a_store_carries_what_a_device_without_direct_links_needs(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_bytes(CONTENT)
    async with world.relay() as url:
        async with world.device("a") as a, world.device("b") as b:
            await paired(world, a, b, url)
            await in_sync(a, b)
        world.links = frozenset({"store"})
        (world.tree("a") / "more").write_bytes(CONTENT[:300_000] + CONTENT[::-1])
        async with world.device("a") as a, world.device("b") as b:
            await in_sync(a, b)
            assert (world.tree("b") / "more").read_bytes() == CONTENT[:300_000] + CONTENT[::-1]
            (other,) = (await status(a))["folders"][0]["peers"]
            assert other["reached"] == "store only" and "--links" in other["reason"]
            assert a.links.connected() == 0 and a.links.listening == ()


async def test_a_name_given_to_a_device_reaches_the_others(world: LinkedWorld, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        await perform(a, {"command": "rename", "name": "the desk"}, Listening())
        await trio.sleep(5)
        (other,) = (await status(b))["folders"][0]["peers"]
        assert other["name"] == "the desk"
        await trio.sleep(1)
        assert b.registry.device_names() == {a.device.identity_key: "the desk"}
        for wrong in ("", "x" * 500, "two\nlines"):
            assert isinstance(await fails(a, {"command": "rename", "name": wrong}, Listening()), UserError)
    async with world.device("b") as b:
        (other,) = (await status(b))["folders"][0]["peers"]
        assert other["name"] == "the desk" and other["reached"] == "unreachable", "it is off, and still has its name"


async def test_a_stranger_who_dials_gets_nothing(world: LinkedWorld, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b, world.device("c") as c:
        await paired(world, a, b, url)
        await linked(a, b)
        address = a.links.told[0]
        with pytest.raises(LinkLost):
            async with open_peer_link(
                await world.network.connect(address.host, address.port), device=c.device,
                expected=a.device.identity_key, certificate=a.device.certificate, randomness=SeededRandomness(4),
            ):  # fmt: skip
                pass
        assert a.links.connected() == 1


async def test_a_taken_port_ends_the_start_unless_any_will_do(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    await world.network.listen("", 22400)
    surroundings = Surroundings(network=world.network, clock=world.clock, workers=world.workers, interfaces=list)
    home = Home(world.directory / "home-x")
    with pytest.RaisesGroup(UserError, flatten_subgroups=True):
        async with open_peer(home, surroundings, LinkOptions(listen=("", 22400))):
            pass
    async with open_peer(home, surroundings, LinkOptions(listen=("", 22400), yielding=True)) as peer:
        assert peer.links.port not in (None, 22400)


async def test_all_listeners_of_a_device_have_one_port() -> None:
    async with trio.open_nursery() as nursery:
        device = make_device("listener")
        links = DeviceLinks(
            device, Surroundings(), LinkOptions(listen=("", 0)), nursery, lambda link: None, lambda identity: None
        )
        await links.start()
        assert len({address.port for address in links.listening}) == 1
        nursery.cancel_scope.cancel()


async def test_devices_that_cannot_dial_meet_at_the_relay_until_they_can(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.links = frozenset({"direct", "splice"})
    world.network.unreachable |= {"10.0.0.1", "10.0.0.2"}
    (world.tree("a") / "letter").write_bytes(CONTENT)
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        assert (world.tree("b") / "letter").read_bytes() == CONTENT and packs(world) == []
        for peer in (a, b):
            await wait_for_way(peer, "spliced")
        world.network.unreachable.clear()
        for peer in (a, b):
            await wait_for_way(peer, "direct")
        (world.tree("b") / "two").write_text("x")
        await in_sync(b, a)
        world.network.unreachable |= {"10.0.0.1", "10.0.0.2"}
        world.network.cut_all()
        for peer in (a, b):
            await wait_for_way(peer, "spliced")
        (world.tree("a") / "three").write_text("x")
        await in_sync(a, b)
        assert (world.tree("b") / "three").exists() and (world.tree("a") / "two").exists() and packs(world) == []


@pytest.mark.parametrize("higher_dials", [False, True])
async def test_a_direct_link_takes_the_place_of_a_splice_whoever_dials(
    world: LinkedWorld, autojump_clock: trio.abc.Clock, higher_dials: bool
) -> None:
    world.links = frozenset({"direct", "splice"})
    world.network.unreachable |= {"10.0.0.1", "10.0.0.2"}
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await wait_for_way(a, "spliced")
        lower_is_a = a.device.identity_key < b.device.identity_key
        world.network.unreachable.remove("10.0.0.1" if lower_is_a is higher_dials else "10.0.0.2")
        await wait_for_way(a, "direct")
        await wait_for_way(b, "direct")
        await trio.sleep(100)
        assert (await status(a))["folders"][0]["peers"][0]["reached"] == "direct"


async def test_an_address_given_by_hand_is_all_it_takes(world: LinkedWorld, autojump_clock: trio.abc.Clock) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        await paired(world, a, b, url)
        await in_sync(a, b)
        await perform(b, {"command": "rename", "name": "the desk"}, Listening())
        await trio.sleep(5)
    (world.tree("a") / "late").write_text("x")
    async with world.device("b") as b:
        port = b.links.port
        async with world.device("a") as a:
            await trio.sleep(120)
            assert a.links.connected() == 0, "neither relay nor LAN"
            said = Listening()
            for name in ("the desk", b.device.device_id, b.device.device_id[:7].lower()):
                request = {"command": "address", "device": name, "addresses": [f"desk.example:{port}"]}
                await perform(a, request, said)
            assert said.said[-1] == {
                "device": b.device.device_id, "name": "the desk", "addresses": [f"desk.example:{port}"],
            }  # fmt: skip
            await linked(a, b)
            await in_sync(a, b)
            assert (world.tree("b") / "late").exists()
            for wrong in ("nobody", "3RC", "", "a device"):
                assert isinstance(await fails(a, {"command": "address", "device": wrong}, Listening()), UserError)
        async with world.device("a") as a:
            await linked(a, b)
            await perform(a, {"command": "address", "device": "the desk", "clear": True}, Listening())
        async with world.device("a") as a:
            await trio.sleep(120)
            assert a.links.connected() == 0
