"""Laws of the relay keeper: bounded tries, quick recovery, no link without demand."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.errors import AccessRefused, LinkLost, NobodyReachable
from p2psync.ids import FolderId
from p2psync.net.urls import RelayUrl
from p2psync.node.relays import BACKOFF_FIRST, BACKOFF_LAST, BACKOFF_SHORT, SHORT_TRIES, RelayKeeper
from p2psync.seams import SystemClock
from p2psync.session.relay_link import RelayLink
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay

FOLDER = FolderId(b"f" * 16)
URL = RelayUrl("relay.example", 22443, bytes(32))


class CountingNetwork(MemoryNetwork):
    """Nobody listens; remembers when somebody tried."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: list[float] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.tries.append(trio.current_time())
        return await super().connect(host, port)


async def never(link: RelayLink) -> None:
    raise AssertionError("there is no link")


@asynccontextmanager
async def keeping(network: MemoryNetwork, url: RelayUrl = URL) -> AsyncIterator[RelayKeeper]:
    keeper = RelayKeeper(url, network=network, clock=SystemClock(), randomness=SeededRandomness(5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper
        nursery.cancel_scope.cancel()


async def test_nothing_is_connected_without_demand(autojump_clock: trio.abc.Clock) -> None:
    network = CountingNetwork()
    async with keeping(network):
        await trio.sleep(3600)
    assert network.tries == []


async def test_tries_back_off_with_jitter_up_to_a_minute(autojump_clock: trio.abc.Clock) -> None:
    network = CountingNetwork()
    async with keeping(network) as keeper:
        keeper.attach(FOLDER, never)
        await trio.sleep(4 * 3600)
        assert not keeper.connected and keeper.error is not None and "nobody listens" in keeper.error
    waits = [later - earlier for earlier, later in itertools.pairwise(network.tries)]
    assert BACKOFF_FIRST / 2 <= waits[0] <= BACKOFF_FIRST
    assert all(BACKOFF_SHORT / 2 <= wait <= BACKOFF_SHORT for wait in waits[8:SHORT_TRIES])
    assert sum(waits[:SHORT_TRIES]) > 300, "an outage of minutes is over within seconds"
    late = waits[SHORT_TRIES + 8 :]
    assert all(BACKOFF_LAST / 2 <= wait <= BACKOFF_LAST for wait in late)
    assert len({round(wait, 3) for wait in late}) > 20, "all devices must not come back at the same moment"


async def test_after_a_hurry_tries_come_quickly_again(autojump_clock: trio.abc.Clock) -> None:
    network = CountingNetwork()
    async with keeping(network) as keeper:
        keeper.attach(FOLDER, never)
        await trio.sleep(4 * 3600)
        before = len(network.tries)
        keeper.hurry()
        await trio.sleep(10)
        assert len(network.tries) >= before + 4


async def test_a_command_gives_up_within_seconds_and_says_why(autojump_clock: trio.abc.Clock) -> None:
    async with keeping(CountingNetwork()) as keeper:
        started = trio.current_time()
        with pytest.raises(NobodyReachable, match="nobody listens"):
            await keeper.link_within(20)
        assert trio.current_time() - started < 5


async def test_somebody_who_asks_does_not_wait_for_the_back_off(autojump_clock: trio.abc.Clock) -> None:
    network = CountingNetwork()
    async with keeping(network) as keeper:
        keeper.attach(FOLDER, never)
        await trio.sleep(1000)
        before = len(network.tries)
        keeper.hurry()
        await trio.sleep(0.1)
        assert len(network.tries) == before + 1


async def test_what_is_refused_is_tried_again_while_the_link_lives(autojump_clock: trio.abc.Clock) -> None:
    calls: list[float] = []

    async def refused(link: RelayLink) -> None:
        calls.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise LinkLost("gone") if len(calls) == 5 else AccessRefused("not on the list")

    keeper = RelayKeeper(URL, network=CountingNetwork(), clock=SystemClock(), randomness=SeededRandomness(5))
    keeper.attach(FOLDER, refused)
    attachment = keeper.attachment(FOLDER)
    assert attachment is not None
    await keeper._run_attachment(attachment, None)  # type: ignore[arg-type]
    assert len(calls) == 5 and calls[-1] - calls[0] > 3
    assert not attachment.active


async def test_a_detached_folder_is_used_by_nobody_any_more(tmp_path: Path) -> None:
    ended = False

    async def serve(link: RelayLink) -> None:
        nonlocal ended
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):  # as a worker thread that has to finish
                await trio.sleep(0.1)
            ended = True

    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, keeping(network, running.url) as keeper:
        keeper.attach(FOLDER, serve)
        await keeper.link_within(5)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await keeper.detach(FOLDER)
        assert ended and keeper.attachment(FOLDER) is None
        await keeper.detach(FOLDER)
