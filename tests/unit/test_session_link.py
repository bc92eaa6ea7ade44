"""One link under load, cancellation and loss: both ends real, the network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost, NotFound, PeerError
from p2psync.ids import PackName
from p2psync.limits import LINK_CREDIT
from p2psync.net.urls import RelayUrl
from p2psync.sealed.keys import pack_key
from p2psync.seams import SystemClock
from p2psync.session.budget import Budget
from p2psync.session.lanes import Window
from p2psync.session.link import DEAD_SECONDS, PROBE_SECONDS
from p2psync.session.outbox import Slices
from p2psync.session.relay_link import RelayLink, open_relay_link
from p2psync.session.remote import RemoteStore
from p2psync.wire.login import Right
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay
from tests.support.objects import make_chain, make_feed_key, make_pack

OWNER = SigningKey(b"w" * 32)
MIB = 1024 * 1024


@asynccontextmanager
async def linked(network: MemoryNetwork, url: RelayUrl) -> AsyncIterator[tuple[RelayLink, RemoteStore]]:
    async with open_relay_link(url, network=network, clock=SystemClock(), randomness=SeededRandomness(3)) as link:
        yield link, await link.login(await link.create_namespace(OWNER), OWNER, Right.OWN)


async def test_many_requests_at_once_all_get_their_own_answer(tmp_path: Path) -> None:
    network, packs = MemoryNetwork(), [make_pack(seed, 20_000 + seed) for seed in range(150)]
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (_, store):

        async def there_and_back(number: int) -> None:
            key, data = packs[number]
            await store.put([packs[number]])
            assert await store.get(key) == data
            assert await store.get(key, 7, 100) == data[7:107]
            with pytest.raises(NotFound):
                await store.get(pack_key(PackName(bytes([number]) * 32)))

        async with trio.open_nursery() as nursery:
            for number in range(len(packs)):
                nursery.start_soon(there_and_back, number)


async def test_bodies_larger_than_the_window_pass(tmp_path: Path) -> None:
    network, packs = MemoryNetwork(), [make_pack(seed, 3 * LINK_CREDIT) for seed in range(3)]
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (_, store):
        async with trio.open_nursery() as nursery:
            for pack in packs:
                nursery.start_soon(store.put, [pack])
        for key, data in packs:
            assert await store.get(key) == data


async def test_an_entry_does_not_wait_for_packs(tmp_path: Path) -> None:
    network, order = MemoryNetwork(), []
    (entry,) = make_chain(make_feed_key(), 1)
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (_, store):

        async def put(what: str, objects: list[tuple[object, object]]) -> None:
            await store.put(objects)  # type: ignore[arg-type]
            order.append(what)

        async with trio.open_nursery() as nursery:
            for seed in range(3):
                nursery.start_soon(put, "pack", [make_pack(seed, 8 * MIB)])
            for _ in range(40):
                await trio.lowlevel.checkpoint()
            nursery.start_soon(put, "entry", [(entry.key, entry.data)])
    assert order.index("entry") < 3


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20, 60, 150, 400])
async def test_a_request_given_up_anywhere_leaves_the_link_usable(tmp_path: Path, steps: int) -> None:
    network, (key, data) = MemoryNetwork(), make_pack(1, 6 * MIB)
    other = make_pack(2, 5 * MIB)
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (link, store):
        for work in (lambda: store.put([(key, data)]), lambda: store.get(other[0])):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_quietly, work)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            with trio.fail_after(20):
                await store.put([other])
                assert await store.get(other[0]) == other[1]
        assert link.error is None


async def _quietly(work: object) -> None:
    try:
        await work()  # type: ignore[operator]
    except NotFound:
        pass  # the other pack is not there before the first round


async def test_a_refused_put_leaves_the_link_usable(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (link, owner):
        reader = SigningKey(b"r" * 32)
        await link.grant(await link.create_namespace(OWNER), reader.public, Right.GET)  # type: ignore[arg-type]
        store = await link.login(await link.create_namespace(OWNER), reader, Right.GET)
        for seed in range(140):
            with pytest.raises(Exception, match="may only get"):
                await store.put([make_pack(seed, 300_000)])
        await owner.put([make_pack(1, 6 * MIB)])
        assert await store.get(make_pack(1, 6 * MIB)[0]) == make_pack(1, 6 * MIB)[1]


async def test_a_lost_link_is_told_to_everyone_who_waits(tmp_path: Path) -> None:
    network, told = MemoryNetwork(), []
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (link, store):

        async def wait_for_news() -> None:
            with pytest.raises(LinkLost):
                await store.watch((await store.watch(-1)).revision)
            told.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(70):
                nursery.start_soon(wait_for_news)
            await trio.testing.wait_all_tasks_blocked()
            network.cut_all()
            await link.closed()
        with pytest.raises(LinkLost):
            await store.heads()
    assert len(told) == 70


async def test_a_silent_relay_is_given_up(autojump_clock: object, tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (link, store):
        with trio.move_on_after(10 * DEAD_SECONDS):
            await link.closed()
        assert link.error is None, "pings keep an idle link alive"
        await store.heads()
        for stream in network.streams:  # bytes are taken and never come back
            stream._in.buffer, stream._in.changed = bytearray(), trio.lowlevel.ParkingLot()
            stream._in = type(stream._in)()
        started = trio.current_time()
        with trio.move_on_after(10 * DEAD_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_lost, store)
                await link.closed()
        assert isinstance(link.error, LinkLost)
        assert trio.current_time() - started <= 2 * DEAD_SECONDS


async def test_a_link_in_doubt_answers_at_once_or_is_lost(autojump_clock: object, tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running.url) as (link, store):
        for _ in range(3):
            link.probe()
            with trio.move_on_after(2 * PROBE_SECONDS):
                await link.closed()
            assert link.error is None
        await store.heads()
        for stream in network.streams:  # bytes are taken and never come back
            stream._in = type(stream._in)()
        started = trio.current_time()
        link.probe()
        link.probe()
        await link.closed()
        assert trio.current_time() - started <= PROBE_SECONDS + 1


async def _until_lost(store: RemoteStore) -> None:
    with pytest.raises(LinkLost):
        await store.heads()


async def test_a_connection_that_never_answers_is_a_lost_link(autojump_clock: object) -> None:
    network = MemoryNetwork()
    await network.listen("", 5)
    with pytest.raises(LinkLost, match="did not answer"):
        async with linked(network, RelayUrl("relay", 5, bytes(32))):
            pass


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3 * LINK_CREDIT)), max_size=60))
def test_credit_never_exceeds_the_window_and_never_dries_up(steps: list[tuple[int, int]]) -> None:
    window, granted, arrived, permitted = Window(), 0, 0, 0
    for kind, size in steps:
        if kind == 0:
            granted += window.permit(size)
            permitted += size
        else:
            count = min(size, window.outstanding)
            granted += window.arrived(count)
            arrived += count
        assert window.outstanding == granted - arrived <= LINK_CREDIT
        assert granted <= permitted
        # Whatever was permitted can still be sent: either credit is out, or everything was used.
        assert window.outstanding or arrived == permitted
    with pytest.raises(PeerError):
        window.arrived(window.outstanding + 1)


@given(st.lists(st.binary(max_size=50)), st.data())
def test_slices_cut_anywhere_give_the_same_bytes(buffers: list[bytes], data: st.DataObject) -> None:
    slices, found = Slices(buffers), b""
    while slices.left:
        found += b"".join(slices.take(data.draw(st.integers(1, slices.left))))
    assert found == b"".join(buffers)


async def test_a_budget_is_served_in_line_and_survives_cancellation() -> None:
    budget, order = Budget(10), []

    async def use(name: str, count: int, then: trio.Event) -> None:
        async with budget.hold(count):
            order.append(name)
            await then.wait()

    go = trio.Event()
    async with trio.open_nursery() as nursery:
        for name, count in (("a", 8), ("b", 9), ("c", 2)):
            nursery.start_soon(use, name, count, go)
            await trio.testing.wait_all_tasks_blocked()
        assert order == ["a"], "c must not overtake b"
        with trio.move_on_after(0):
            async with budget.hold(5):
                raise AssertionError("there is no room")
        go.set()
    assert order == ["a", "b", "c"] and budget.free == 10
