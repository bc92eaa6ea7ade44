"""Everybody says something once a day; who has been silent for long is lapsed; no wrong clock says so of anybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.ids import IdentityKey
from p2psync.net.workers import InlineWorkers
from p2psync.planner.attendance import DAY
from p2psync.replica.attendance import LOOK_SECONDS, Silence
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.clocks import MovedClock
from tests.support.devices import Device, converge
from tests.support.power import still_watcher

pytestmark = pytest.mark.slow

YEAR = 365 * DAY


@dataclass
class Pair:
    store: MemoryStore
    a: Device
    b: Device

    @classmethod
    async def begin(cls, home: Path) -> Pair:
        pair = cls(
            MemoryStore(clock=SystemClock()),
            *(Device(home / name, seed, MovedClock(), InlineWorkers()) for name, seed in (("a", 1), ("b", 2))),
        )
        pair.a.found()
        async with pair.running(pair.a) as first:
            await pair.b.admitted_by(first)
            async with pair.running(pair.b) as second:
                await converge(first, second, seconds=600)
        return pair

    @asynccontextmanager
    async def running(self, device: Device) -> AsyncIterator[Replica]:
        async with device.running(self.store, watcher=still_watcher) as replica:
            yield replica


async def pass_days(device: Device, days: int) -> None:
    """Days on a device's clock, with a look every day: much shorter for the rest of the test."""
    assert isinstance(device.clock, MovedClock)
    for _ in range(days):
        device.clock.ahead += DAY - LOOK_SECONDS
        await trio.sleep(LOOK_SECONDS)


async def silence(replica: Replica, device: Device) -> Silence:
    return (await replica.status()).silences[IdentityKey(device.keys.identity_key)]


def length(replica: Replica) -> int:
    context = replica._context
    return context.catalog.feeds.state(context.own_feed).seq


async def test_everybody_says_something_once_a_day_and_nothing_else(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await Pair.begin(tmp_path)
    async with pair.running(pair.a) as first, pair.running(pair.b) as second:
        before = length(first), length(second)
        await trio.sleep(3 * DAY + 3 * LOOK_SECONDS)
        assert (length(first) - before[0], length(second) - before[1]) == (3, 3)
        await converge(first, second, seconds=600)
        heads = {state.feed: state.seq for state in first._context.catalog.feeds.states()}
        assert second._context.catalog.feeds.seen(first._context.own_feed)[second._context.own_feed] >= before[1] + 1
        assert heads == {state.feed: state.seq for state in second._context.catalog.feeds.states()}


async def test_who_was_silent_for_90_days_is_lapsed_until_heard_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await Pair.begin(tmp_path)
    async with pair.running(pair.a) as first:
        await pass_days(pair.a, 88)
        assert not (await silence(first, pair.b)).lapsed
        await pass_days(pair.a, 3)
        assert (await silence(first, pair.b)).lapsed
        async with pair.running(pair.b) as second:
            assert isinstance(pair.b.clock, MovedClock)
            pair.b.clock.ahead += 91 * DAY
            pair.b.write("news", b"b was away\n")
            await converge(first, second, seconds=600)
        back = await silence(first, pair.b)
        assert not back.lapsed and back.heard is not None and pair.a.clock.now() - back.heard < DAY


async def test_no_clock_set_wrong_makes_a_member_lapse_or_floods_the_folder(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await Pair.begin(tmp_path)
    async with pair.running(pair.a) as first:
        await trio.sleep(LOOK_SECONDS)
        before = length(first)
        assert isinstance(pair.a.clock, MovedClock)
        for jump in (5 * YEAR, -9 * YEAR, 20 * YEAR, -16 * YEAR):
            pair.a.clock.ahead += jump
            await trio.sleep(2 * LOOK_SECONDS)
            assert not (await silence(first, pair.b)).lapsed
        assert length(first) - before <= 4


async def test_a_device_that_was_off_for_a_year_takes_nobody_for_lapsed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await Pair.begin(tmp_path)
    for device in (pair.a, pair.b):
        assert isinstance(device.clock, MovedClock)
        device.clock.ahead += YEAR
    async with pair.running(pair.a) as first:
        await trio.sleep(2 * LOOK_SECONDS)
        assert not (await silence(first, pair.b)).lapsed


async def test_without_anybody_to_hear_nothing_is_counted_and_nothing_said(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await Pair.begin(tmp_path)
    async with pair.a.running(None, watcher=still_watcher) as alone:
        before = length(alone)
        await pass_days(pair.a, 95)
        assert length(alone) == before
        assert not (await silence(alone, pair.b)).lapsed
