"""Laws of devices that link directly: two peers, a relay for pairing and presence only, all in one process."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2psync.errors import LinkLost, UserError
from p2psync.net.lan import OpenLan
from p2psync.node.commands import perform
from p2psync.node.control import Json
from p2psync.node.home import Home
from p2psync.node.links import DeviceLinks, LinkOptions
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.node.surroundings import Surroundings
from p2psync.seams import Clock
from p2psync.session.peer_link import open_peer_link
from p2psync.vault.beacon import ANNOUNCEMENT_BYTES
from tests.support.links import SeededRandomness
from tests.support.vectors import make_device
from tests.unit.test_node_peer import Listening, World, fails, in_sync, paired

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


async def wait_for_way(peer: Peer, way: str) -> None:
    with trio.fail_after(300):
        while True:
            (other,) = (await status(peer))["folders"][0]["peers"]
            if other["reached"] == way:
                return
            await trio.sleep(1)


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
