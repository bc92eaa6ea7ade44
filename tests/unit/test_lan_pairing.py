"""Laws of pairing on a LAN, and of folders without a store: mock clock, LAN and network in memory (properties 37–42)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.errors import NobodyReachable, P2psyncError, TimedOut, UserError, WrongCode
from p2psync.net.addresses import Address
from p2psync.node.commands import perform
from p2psync.node.control import Json
from p2psync.node.lan_search import Found, lan_place, searching
from p2psync.node.peer import Peer
from p2psync.node.registry import SavedPairing
from p2psync.pairing.calls import LAN_NUMBERS, Reply, mailbox_id
from p2psync.wire.messages import Side
from tests.support.linked_peers import Ether, LinkedWorld, linked, status
from tests.support.links import SeededRandomness
from tests.support.running_peers import Listening, fails, in_sync


@pytest.fixture
def world(tmp_path: Path) -> LinkedWorld:
    made = LinkedWorld(tmp_path)
    made.ether = Ether()
    return made


def join_request(world: LinkedWorld, name: str, code: str, relay: str | None = None) -> Json:
    return {"command": "join", "code": code, "path": str(world.tree(name)), "exact": True, "relay": relay}


def other_words(code: str) -> str:
    """The same number with words that are not the code's."""
    wrong = "7-crossover-clockwork-aztec" if "aztec" not in code else "7-crossover-clockwork-atlas"
    return code.split("-")[0] + wrong[1:]


@asynccontextmanager
async def shared(
    world: LinkedWorld, admin: Peer, name: str = "a", relay: str | None = None
) -> AsyncIterator[tuple[str, Listening, list[P2psyncError]]]:
    """A code that waits; the errors the share ends with are gathered."""
    console, errors = Listening(), list[P2psyncError]()

    async def share() -> None:
        try:
            await perform(admin, world.share_request(name, relay), console)
        except P2psyncError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(share)
        yield str((await console.first("code"))["code"]), console, errors
        nursery.cancel_scope.deadline = trio.current_time() + 700


async def pair_on_lan(world: LinkedWorld, admin: Peer, joiner: Peer, name: str, role: str = "writer") -> None:
    """A fresh code of the admin's first folder, redeemed into directory `name`."""
    console = Listening()
    await perform(admin, {"command": "pair", "yes": True, "role": role, "wait": False}, console)
    await perform(joiner, join_request(world, name, console.said[0]["code"]), Listening())


async def test_two_devices_pair_and_sync_with_no_relay_at_all(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_text("dear both")
    async with world.device("a") as a, world.device("b") as b:
        async with shared(world, a) as (code, console, errors):
            assert int(code.split("-")[0]) in LAN_NUMBERS
            await perform(b, join_request(world, "b", code), Listening())
            assert (await console.first("paired"))["device"] == b.device.device_id and not errors
        await in_sync(a, b)
        (world.tree("b") / "answer").write_text("over there")
        await in_sync(b, a)
        assert (world.tree("a") / "answer").exists() and (world.tree("b") / "letter").exists()
        (folder,) = (await status(a))["folders"]
        assert (folder["stores"], folder["upload_bytes"]) == ([], 0)
        assert folder["peers"][0]["in_sync"]


async def test_an_admin_that_is_not_the_founder_admits_while_the_founder_is_off(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    (world.tree("a") / "letter").write_text("dear all")
    async with world.device("b") as b:
        async with world.device("a") as a:
            await perform(a, world.share_request("a", None, code=False), Listening())
            await pair_on_lan(world, a, b, "b", "admin")
            await in_sync(a, b)
        async with world.device("c") as c:
            await pair_on_lan(world, b, c, "c")
            await in_sync(b, c)
            assert (world.tree("c") / "letter").read_text() == "dear all"


async def test_a_wrong_code_tells_both_and_is_dead_and_names_nobody(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Property 37."""
    async with world.device("a") as a, world.device("b") as b, shared(world, a) as (code, console, errors):
        assert isinstance(await fails(b, join_request(world, "b", other_words(code)), Listening()), WrongCode)
        await trio.sleep(10)
        assert [type(error) for error in errors] == [WrongCode]
        assert not console.asked and not await b.registered()
        late = await fails(b, join_request(world, "b", code), Listening())
        assert isinstance(late, NobodyReachable)


@pytest.mark.parametrize("burned_at", ["lan", "relay"])
async def test_one_wrong_guess_anywhere_burns_a_code_everywhere(
    world: LinkedWorld, burned_at: str, autojump_clock: trio.abc.Clock
) -> None:
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        ether, world.ether = world.ether, None  # c is not on the LAN
        async with world.device("c") as c:
            world.ether = ether
            async with shared(world, a, relay=url) as (code, _, errors):
                wrong, right = other_words(code), code
                near = (b, join_request(world, "b", wrong if burned_at == "lan" else right))
                far = (c, join_request(world, "c", right if burned_at == "lan" else wrong, url))
                started = trio.current_time()
                for peer, request in (near, far) if burned_at == "lan" else (far, near):
                    assert isinstance(await fails(peer, request, Listening()), UserError)
                assert (
                    trio.current_time() - started < 60
                )  # the second one is told, and does not wait for the code's end
                assert [type(error) for error in errors] == [WrongCode]
                assert not await b.registered() and not await c.registered()


async def test_a_code_works_on_the_lan_while_the_relay_is_down(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    async with world.device("a") as a, world.device("b") as b:
        async with world.relay() as url:
            await perform(a, world.share_request("a", url, code=False), Listening())
            async with shared(world, a, relay=url) as (code, console, _):
                await perform(b, join_request(world, "b", code), Listening())
                await console.first("paired")
        (world.tree("a") / "later").write_text("x")
        await linked(a, b)
        await in_sync(a, b)
        assert (world.tree("b") / "later").exists()


def saving(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Set as soon as a step of a pairing stands in the peer's registry."""
    saved, save = trio.Event(), peer.registry.save_pairing

    def save_and_tell(pairing: SavedPairing) -> None:
        save(pairing)
        saved.set()

    monkeypatch.setattr(peer.registry, "save_pairing", save_and_tell)
    return saved


async def test_a_joiner_killed_while_it_asks_is_admitted_at_its_next_start(
    world: LinkedWorld, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 40."""
    async with world.device("a") as a, shared(world, a) as (code, console, errors):
        async with world.device("b") as b, trio.open_nursery() as joining:
            saved = saving(b, monkeypatch)
            joining.start_soon(perform, b, join_request(world, "b", code), Listening())
            await saved.wait()
            joining.cancel_scope.cancel()
        async with world.device("b") as b:
            await console.first("paired")
            await in_sync(a, b)
            assert not errors and [folder.path for folder in await b.registered()] == [world.tree("b")]


async def test_an_admin_killed_after_its_offer_goes_on_with_what_was_agreed(
    world: LinkedWorld, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 40; the mailbox stands at another port then, and under the same name."""
    async with world.device("b") as b, trio.open_nursery() as nursery:
        async with world.device("a") as a, trio.open_nursery() as sharing:
            console = Listening()
            sharing.start_soon(perform, a, world.share_request("a", None), console)
            code = (await console.first("code"))["code"]
            saved = saving(a, monkeypatch)
            nursery.start_soon(perform, b, join_request(world, "b", code), Listening())
            await saved.wait()
            sharing.cancel_scope.cancel()
        async with world.device("a") as a:
            for _ in range(30):
                await trio.sleep(1)
            await in_sync(a, b)
            assert await b.registered() and not a.registry.pairings(0) and not b.registry.pairings(0)


async def test_ten_thousand_false_answers_cost_few_dials_and_no_guess(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Property 42."""
    assert world.ether is not None
    async with world.device("a") as a, world.device("b") as b, shared(world, a) as (code, _, errors):
        number, random = int(code.split("-")[0]), SeededRandomness(5)
        world.dialled = 0
        refused: list[P2psyncError] = []

        async def join() -> None:
            refused.append(await fails(b, join_request(world, "b", code), Listening()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            for each in range(10_000):
                false = Reply(number if each % 2 else 1, each % 60_000 + 1, random.bytes(16))
                world.ether.call(false.encode(), f"10.66.{each // 250}.{each % 250 + 1}")
                if not each % 10:
                    await trio.sleep(0.01)
        assert isinstance(refused[0], UserError) and "more than one device" in str(refused[0])
        assert world.dialled == 0 and not errors
        await perform(b, join_request(world, "b", code), Listening())  # the code was not touched


async def test_false_addresses_of_a_known_mailbox_cost_few_dials(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Property 42: four addresses a round, a round a second."""
    assert world.ether is not None
    async with world.device("b") as b:
        mailbox = mailbox_id(20_000, b"A" * 33)
        world.dialled = 0
        with trio.move_on_after(100):
            async with (
                lan_place(b.surroundings, 20_000, Found(mailbox, (Address("10.0.0.9", 1),))) as place,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(place.links)
                for each in range(10_000):
                    world.ether.call(Reply(20_000, each + 1, mailbox).encode(), "10.0.0.9")
                    await trio.sleep(0.001)
                await trio.sleep(10)
                nursery.cancel_scope.cancel()
        assert 0 < world.dialled <= 1 + 4 * 22


async def test_a_joiner_says_nothing_to_a_mailbox_that_borrows_the_name_of_another(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Whoever answers in somebody else's name is passed by: the guess goes to the mailbox that was found."""
    assert world.ether is not None
    async with world.device("a") as a, world.device("b") as b, world.device("c") as c, shared(world, a) as (code, _, _):
        number = int(code.split("-")[0])
        false = await b.codes.open(number)
        await false.put_mail(number, Side.ADMIN, 0, b"another admin's half of the exchange")
        async with searching(c.surroundings, number) as search:
            while len(search.found) < 2:
                await search.news.wait(search.news.count)
        (real,) = (each for each in search.found if each != mailbox_id(number, b"another admin's half of the exchange"))
        lies = Found(real, (Address("10.0.0.2", false.port),))
        async with lan_place(c.surroundings, number, lies) as place:
            assert mailbox_id(number, await (await place.links()).next_mail(number, Side.JOINER, 0)) == real


async def test_two_admins_with_one_number_cost_the_joiner_nothing(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Whose code is meant cannot be told from the number: nobody's guess is spent."""
    assert world.ether is not None
    async with world.device("a") as a, world.device("b") as b, shared(world, a) as (code, _, errors):
        number = int(code.split("-")[0])
        other = await b.codes.open(number)
        await other.put_mail(number, Side.ADMIN, 0, b"another admin's half of the exchange")
        async with world.device("c") as c:
            refused = await fails(c, join_request(world, "c", code), Listening())
            assert isinstance(refused, UserError) and "more than one device" in str(refused)
            await other.finish()
            await perform(c, join_request(world, "c", code), Listening())
            assert not errors


async def test_a_number_that_is_shown_on_the_lan_is_not_given_out_again(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Two relays give out number 1 both; their devices on one LAN take different ones all the same."""
    async with world.relay() as url, world.device("a") as a, world.device("b") as b:
        shown = await b.codes.open(1)
        await shown.put_mail(1, Side.ADMIN, 0, b"x")
        async with shared(world, a, relay=url) as (code, _, _):
            assert code.split("-")[0] == "2"
            await perform(b, join_request(world, "b", code), Listening())


async def test_strangers_who_sit_on_the_mailbox_do_not_keep_the_joiner_out(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    """Property 41: streams that say nothing, and a flood of them."""
    async with world.device("a") as a, world.device("b") as b, shared(world, a) as (code, console, _):
        (port,) = (mailbox.port for mailbox in a.codes._open)
        streams = [await world.network.connect("10.0.0.1", port) for _ in range(300)]
        started = trio.current_time()
        await perform(b, join_request(world, "b", code), Listening())
        assert trio.current_time() - started < 10
        await console.first("paired")
        await trio.sleep(11)
        for stream in streams:
            with pytest.raises(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
                raise trio.BrokenResourceError


async def test_without_a_relay_and_off_the_lan_nothing_is_shared(
    world: LinkedWorld, autojump_clock: trio.abc.Clock
) -> None:
    world.ether = None
    async with world.device("a") as a:
        refused = await fails(a, world.share_request("a", None), Listening())
        assert isinstance(refused, UserError) and "--relay" in str(refused) and not await a.registered()
        joined = await fails(a, join_request(world, "b", "7-crossover-clockwork-aztec"), Listening())
        assert isinstance(joined, UserError) and "--relay" in str(joined)


async def test_a_folder_without_a_store_gets_one_later(world: LinkedWorld, autojump_clock: trio.abc.Clock) -> None:
    world.links = frozenset({"direct", "store"})
    (world.tree("a") / "big").write_bytes(SeededRandomness(1).bytes(200_000))
    async with world.device("a") as a:
        await perform(a, world.share_request("a", None, code=False), Listening())
        assert isinstance(await fails(a, {"command": "sync", "timeout": 5}, Listening()), TimedOut)
        (folder,) = (await status(a))["folders"]
        assert (folder["upload_bytes"], folder["stores"]) == (0, [])
        async with world.relay() as url:
            await perform(a, world.share_request("a", url, code=False), Listening())
            await in_sync(a)
            (store,) = (await status(a))["folders"][0]["stores"]
            assert store["in_sync"] and any(world.directory.glob("relay/namespaces/*/packs/*"))
