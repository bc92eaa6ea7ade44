"""Content that a snapshot left out although a version needs it which its author had not seen: who holds it keeps it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio.testing

from p2psync.catalog.settings import FolderSettings, save_settings
from p2psync.index.membership import Role
from p2psync.net.workers import InlineWorkers
from p2psync.planner.attendance import DAY
from p2psync.planner.retention import KeepRules
from p2psync.replica import chunk_lists, elsewhere, upkeep
from p2psync.replica.forgetting import forget_entries
from p2psync.replica.replica import Replica
from p2psync.replica.rescuing import rescue_chunks
from tests.support.clocks import MovedClock
from tests.support.devices import Device, converge
from tests.support.members import Members, pass_days, sum_up
from tests.support.power import still_watcher

pytestmark = pytest.mark.slow

SMALL, LARGE = b"left out", random.Random(1).randbytes(300_000)
"""What travels in an entry, and in packs."""


@pytest.fixture
async def members(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> Members:
    members = Members(tmp_path)
    await members.begin()
    return members


async def leave_out(members: Members, content: bytes) -> None:
    """The first device replaces `content` and sums up, while the second, away, gives it to another file."""
    a, b, _ = members.devices
    a.write("file", content)
    await members.meet(*members.devices)
    a.write("file", b"replaced")
    async with members.running(a, members.devices[2]) as replicas:
        await converge(*replicas, seconds=3600)
        await sum_up(replicas[0])
    b.write("copy", content)
    async with b.running(None, watcher=still_watcher) as replica:
        await replica.rescan()


async def join(members: Members, seed: int, admin: Device) -> Device:
    """A newcomer that finds nobody but the store, where it begins at snapshots."""
    newcomer = Device(members.home / f"newcomer {seed}", seed, MovedClock(), InlineWorkers())
    async with members.running(admin) as (replica,):
        await newcomer.admitted_by(replica)
        await replica.in_sync()
    await members.meet(newcomer)
    return newcomer


def told(replica: Replica) -> list[int]:
    """Packs that count, by age."""
    rows = replica._context.catalog._db.query("SELECT id FROM pack WHERE stale = 0 AND feed IS NOT NULL ORDER BY id")
    return [number for (number,) in rows]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["inline", "packed"])
async def test_content_left_out_that_a_version_needs_is_kept_by_who_has_it(
    members: Members, content: bytes, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(elsewhere, "LOOK_FROM", 1)
    await leave_out(members, content)
    await members.meet(*members.devices[1:])
    newcomer = await join(members, 9, members.devices[0])
    assert newcomer.tree() == members.devices[1].tree()
    assert newcomer.tree()["copy"][1] == content


async def test_a_chunk_list_left_out_is_kept_even_where_its_chunks_are_told_of_still(
    members: Members, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(elsewhere, "LOOK_FROM", 1)
    monkeypatch.setattr(chunk_lists, "CHUNK_LIST_INLINE", 2)
    members.devices[0].write("other", bytes(5 << 20))
    await members.meet(members.devices[0])
    await leave_out(members, bytes(4 << 20))
    await members.meet(*members.devices[1:])
    newcomer = await join(members, 9, members.devices[0])
    assert newcomer.tree() == members.devices[1].tree()
    assert newcomer.tree()["copy"][1] == bytes(4 << 20)


async def test_what_is_needed_of_a_pack_that_is_needed_no_more_goes_into_a_new_one(
    members: Members, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(elsewhere, "LOOK_FROM", 1)
    a, dice = members.devices[0], random.Random(3)
    for name in range(9):
        a.write(str(name), dice.randbytes(40_000))
    await members.meet(*members.devices)
    for rewritten in (range(3), range(7)):
        for name in rewritten:
            a.write(str(name), dice.randbytes(40_000))
        async with members.running(a) as (replica,):
            await converge(replica, seconds=3600)
            first = told(replica)[0]
            await sum_up(replica)
            kept = first in told(replica)
        assert kept == (len(rewritten) == 3), "six of nine are needed, then two"
    newcomer = await join(members, 9, a)
    assert newcomer.tree() == a.tree()


async def test_a_reader_uploads_nothing_since_nobody_would_believe_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    members = Members(tmp_path)
    await members.begin(third=Role.READER)
    monkeypatch.setattr(upkeep, "rescue_chunks", lambda context: 0)
    await leave_out(members, SMALL)
    async with members.running(*members.devices) as replicas:
        await converge(*replicas, seconds=3600)
        assert [rescue_chunks(replica._context) for replica in reversed(replicas)] == [0, 1, 1]


async def test_entries_that_alone_carry_what_a_version_needs_are_not_forgotten(
    members: Members, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(upkeep, "rescue_chunks", lambda context: 0)
    await leave_out(members, SMALL)
    async with members.running(*members.devices) as replicas:
        a, b, _ = replicas
        for replica in replicas:
            save_settings(replica._context.catalog, FolderSettings(keep=KeepRules(DAY)))
        await converge(*replicas, seconds=3600)
        await pass_days(3, *replicas)
        assert forget_entries(a._context) == 0
        assert rescue_chunks(b._context) == 1
        assert rescue_chunks(b._context) == 0, "it is on its way"
        b._context.wake_for_uploads()
        await converge(*replicas, seconds=3600)
        assert forget_entries(a._context) > 0
    newcomer = await join(members, 9, members.devices[0])
    assert newcomer.tree() == members.devices[0].tree()
