"""What nobody needs any more goes, and who was away for long loses nothing by it and brings nothing back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.catalog.settings import FolderSettings, save_settings
from p2psync.net.workers import InlineWorkers
from p2psync.planner.attendance import DAY
from p2psync.planner.retention import KeepRules
from p2psync.replica.forgetting import forget_entries, forget_in_store
from p2psync.replica.replica import Replica
from tests.support.clocks import MovedClock
from tests.support.devices import Device, converge
from tests.support.members import Members, pass_days, sum_up
from tests.support.reading import entries_of

pytestmark = pytest.mark.slow


def deletions_known(replica: Replica) -> set[bytes]:
    rows = replica._context.catalog._db.query("SELECT name FROM wanted WHERE kind = 3")
    return {name for (name,) in rows}


@pytest.fixture
async def members(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> Members:
    members = Members(tmp_path)
    await members.begin()
    members.change(0, stays="0", changed="0", deleted="0", edited="0", both="0", gone="0")
    members.change(2, theirs="2", dropped="2")
    await members.meet(*members.devices)
    return members


def names(device: Device) -> set[str]:
    return set(device.tree())


async def test_a_deletion_is_told_until_every_member_has_read_it_and_every_author_has_summed_up(
    members: Members, autojump_clock: trio.testing.MockClock
) -> None:
    a, b, c = members.devices
    members.change(1, deleted=None)
    async with members.running(a, b) as replicas:
        await converge(*replicas, seconds=3600)
        await sum_up(*replicas)
        await sum_up(*replicas)
        assert b"deleted" in deletions_known(replicas[0]), "the third device has not read it"
    async with members.running(a, b, c) as replicas:
        await converge(*replicas, seconds=3600)
        await pass_days(2, *replicas)
        await sum_up(replicas[1])
        assert b"deleted" not in deletions_known(replicas[1])
        assert b"deleted" not in deletions_known(replicas[0])
        assert b"deleted" not in deletions_known(replicas[2])
    assert names(a) == names(b) == names(c) == {
        "stays", "changed", "edited", "both", "gone", "theirs", "dropped"
    }  # fmt: skip


async def test_a_member_gone_for_long_comes_back_losing_nothing_and_bringing_nothing_back(
    members: Members, autojump_clock: trio.testing.MockClock
) -> None:
    a, b, c = members.devices
    async with members.running(a, b) as replicas:
        for replica in replicas:
            save_settings(replica._context.catalog, FolderSettings(keep=KeepRules(30 * DAY)))
        members.change(0, changed="1", both="1")
        members.change(1, deleted=None, gone=None, dropped=None, new="1")
        await converge(*replicas, seconds=3600)
        await sum_up(*replicas)
        await pass_days(95, *replicas)
        members.change(0, stays="0", later="1")
        await converge(*replicas, seconds=3600)
        await sum_up(*replicas)
        await pass_days(35, *replicas)
        assert await forget_in_store(replicas[0]._context, members.store) == 0, (
            "not before a year, whatever is set here"
        )
        await pass_days(335, *replicas)
        assert {b"deleted", b"gone"} & deletions_known(replicas[0]) == set(), "everybody who counts has read them"
        assert b"dropped" in deletions_known(replicas[0]), "its author has not summed up"
        assert 0 not in [forget_entries(replica._context) for replica in replicas]
        assert await forget_in_store(replicas[1]._context, members.store) == 0, "only an admin may"
        assert await forget_in_store(replicas[0]._context, members.store) > 0
        for feed, (first, _) in replicas[0]._context.catalog.snapshots.all_newest().items():
            assert min(entry.seq for entry in entries_of(members.store) if entry.feed == feed) == first
    members.change(2, edited="2", both="2", own="2", gone="2")
    async with members.running(a, b, c) as replicas:
        assert not replicas[2]._context.catalog.snapshots.passed_over()
        await converge(*replicas, seconds=3600)
        assert replicas[2]._context.catalog.snapshots.passed_over()
    assert a.tree() == b.tree() == c.tree()
    tree = c.tree()
    [copy] = [name for name in tree if name.startswith("both.sync-conflict-")]
    assert {name: content for name, (_, content, _) in tree.items()} == {
        "stays": b"0", "changed": b"1", "edited": b"2", "gone": b"2", "theirs": b"2", "own": b"2", "new": b"1",
        "later": b"1", "both": tree["both"][1], copy: tree[copy][1],
    }  # fmt: skip
    assert {tree["both"][1], tree[copy][1]} == {b"1", b"2"}
    newcomer = Device(members.home / "d", 9, MovedClock(), InlineWorkers())
    async with members.running(a) as (admin,):
        await newcomer.admitted_by(admin)
    await members.meet(a, newcomer)
    assert newcomer.tree() == tree
