"""The brake: what would take much away from this disk waits until somebody has looked; everything else goes on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.settings import FolderSettings, save_settings
from p2psync.errors import UserError
from p2psync.planner.brake import BrakeLimits
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge

pytestmark = pytest.mark.slow


async def until_held(replica: Replica) -> None:
    with trio.fail_after(20):
        changed = replica._context.changed
        while True:
            seen = changed.count
            if (await replica.status()).state == "held":
                return
            await changed.wait(seen)


@asynccontextmanager
async def two_in_step(home: Path, above: str, count: int) -> AsyncIterator[tuple[Device, Device, Replica, Replica]]:
    """Two devices with so many numbered files, below `above` if it ends in a slash, and a store."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1), Device(home / "b", 2)
    a.found()
    for number in range(count):
        a.write(f"{above}{number}", b"content %d" % number)
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            yield a, b, first, second


async def settled(replica: Replica, seconds: float = 0.3) -> None:
    """Long enough for anything to be applied that is not held."""
    await replica.rescan()
    await trio.sleep(seconds)


async def test_a_mass_delete_is_held_across_restarts_until_it_is_accepted(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    for number in range(60):
        a.write(f"d/{number}", b"content %d" % number)
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            full = b.tree()
            for number in range(30):
                (a.root / "d" / str(number)).unlink()
            await converge(first)
            await until_held(second)
            a.write("d/40", b"rewritten")
            a.write("new", b"by the same device: held as well")
            b.write("own", b"changes of this device go out")
            await converge(first)
            await settled(second)
            assert b.tree() == full | {"own": b.tree()["own"]}
            status = await second.status()
            assert [held.files for _, held in status.held] == [31]
            listed = await second.past.history((b"d", b"0"), 9)
            assert [(each.current, each.waiting) for each in listed] == [(True, True), (False, False)]
            assert status.held[0][0] == a.keys.identity_key
            with pytest.raises(UserError, match="folder accept"):
                await second.in_sync()
            await converge(first)
            assert "own" in a.tree()
        async with b.running(store) as second:
            await until_held(second)
            await settled(second)
            assert b.tree().keys() == full.keys() | {"own"}
            assert len(await second.accept_held()) == 1
            await converge(first, second)
            assert b.tree() == a.tree() and "d/0" not in b.tree() and "new" in b.tree()
            a.write("d/50", b"an ordinary edit after it is not held")
            await converge(first, second)
            assert b.tree() == a.tree()


async def test_undoing_what_is_held_leaves_everything_as_it_was_on_both(tmp_path: Path) -> None:
    async with two_in_step(tmp_path, "", 50) as (a, b, first, second):
        full, start = b.tree(), int(first._context.clock.now() * 1000)
        await trio.sleep(0.01)
        for number in range(50):
            (a.root / f"{number}").unlink()
            a.write(f"{number}.locked", os.urandom(40))
        await converge(first)
        await until_held(second)
        outcomes = [each async for each in second.past.undo({first._context.own_feed}, start)]
        assert len(outcomes) == 100 and not any(each.left for each in outcomes)
        await second.in_sync()
        assert b.tree() == full
        await until_held(first)  # there it would take the encrypted files away again
        undoing, feed = second._context.catalog.feeds.state(second._context.own_feed), second._context.own_feed
        while first._context.catalog.feeds.state(feed).seq < undoing.seq:
            # What comes after the acceptance would be judged anew.
            await first._context.feeds_grew.wait(first._context.feeds_grew.count)
        await first.accept_held()
        await converge(first, second)
        assert a.tree() == full


async def test_renames_small_folders_and_first_syncs_do_not_trip_it(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    for number in range(60):
        a.write(f"d/{number}", b"content %d" % number)
        b.write(f"d/{number}", b"content %d" % number if number % 2 else b"another")
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert a.tree() == b.tree() and len(a.tree()) == 1 + 60 + 30
            (a.root / "d").rename(a.root / "e")
            await converge(first, second)
            assert a.tree() == b.tree() and "d" not in b.tree()
            for path in list((a.root / "e").iterdir())[:19]:
                path.unlink()
            await converge(first, second)
            assert a.tree() == b.tree()
            (next((a.root / "e").iterdir())).write_bytes(b"the twentieth is no quarter")
            await converge(first, second)
            assert a.tree() == b.tree()


async def test_what_turns_out_to_be_a_rename_is_held_no_more(tmp_path: Path) -> None:
    """However its author told it: here the old names go first, and the new ones come in a later entry."""
    async with two_in_step(tmp_path, "d/", 60) as (a, b, first, second):
        (a.root / "d").rename(tmp_path / "elsewhere")
        await converge(first)
        await until_held(second)
        (tmp_path / "elsewhere").rename(a.root / "e")
        await converge(first)
        with trio.fail_after(20):
            await second.in_sync()  # what is held is no answer before the store was asked for news
        assert b.tree() == a.tree() and "e/0" in b.tree()


async def test_the_limits_are_this_folders_own(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    for number in range(30):
        a.write(f"{number}", b"content %d" % number)
    async with a.running(store) as first:
        await b.admitted_by(first)
        catalog = Catalog(b.catalog)
        save_settings(catalog, FolderSettings(brake=BrakeLimits(percent=0, files=3)))
        catalog.close()
        async with b.running(store) as second:
            await converge(first, second)
            for number in range(3):
                (a.root / f"{number}").unlink()
            await converge(first, second)
            (a.root / "3").unlink()  # the fourth within the hour
            await converge(first)
            await until_held(second)
            assert len(b.tree()) == 27


async def test_saving_a_few_files_again_and_again_is_no_mass_rewrite(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        catalog = Catalog(b.catalog)
        save_settings(catalog, FolderSettings(brake=BrakeLimits(percent=25, files=3)))
        catalog.close()
        async with b.running(store) as second:
            for number in range(22):
                a.write("note", b"saved %d" % number)
                a.write("other", b"saved as well %d" % number)
                await converge(first, second)
            assert a.tree() == b.tree()
