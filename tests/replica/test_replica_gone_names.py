"""A name that is gone is told as deleted only after a pause of its own, in which the new name may be seen."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.index.versions import Kind
from p2psync.net.workers import InlineWorkers
from p2psync.replica import watching
from p2psync.replica.context import Context
from p2psync.replica.scanner import Looked, Named, look
from p2psync.replica.watching import SETTLE_SECONDS
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge
from tests.support.power import still_watcher


@pytest.mark.parametrize("seen_gone", [True, False])
async def test_a_directory_renamed_just_before_another_pause_ends_is_still_told_as_a_rename(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, seen_gone: bool
) -> None:
    """Whether it was looked for between its going from the old place and its coming to the new one, or not at all yet."""
    device = Device(tmp_path, 1, workers=InlineWorkers())
    device.found()
    device.write("deleted", b"1")
    device.write("old/file", b"2")
    async with device.running(None, watcher=still_watcher) as replica:
        await replica.rescan()
        notice = replica._watching._notice
        (device.root / "deleted").unlink()
        notice({(): {b"deleted"}})
        await trio.sleep(SETTLE_SECONDS * 0.9)
        (device.root / "old").rename(tmp_path / "under way")
        notice({(): {b"old"}} if seen_gone else {})
        await trio.sleep(SETTLE_SECONDS * 0.2)
        (tmp_path / "under way").rename(device.root / "new")
        notice({(): {b"old", b"new"}})
        await trio.sleep(SETTLE_SECONDS * 3)
        rows = replica._context.catalog._db.query(
            "SELECT p.dir, p.name, kind, seq FROM past JOIN past_path p ON p.id = past.path"
        )
        told = {row[:3]: row[3] for row in rows}
        assert (b"", b"deleted", Kind.DELETED) in told
        assert told[b"old", b"file", Kind.DELETED] == told[b"new", b"file", Kind.FILE], "in one entry"


async def two_that_agree(home: Path, name: str) -> tuple[MemoryStore, Device, Device]:
    """Two devices that hold one file, at rest, and their store. No watcher tells of anything on them."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, workers=InlineWorkers()), Device(home / "b", 2, workers=InlineWorkers())
    a.found()
    a.write(name, b"old")
    async with a.running(store, watcher=still_watcher) as first:
        await b.admitted_by(first)
        async with b.running(store, watcher=still_watcher) as second:
            await converge(first, second)
    return store, a, b


@pytest.mark.parametrize("edited", [True, False])
async def test_what_went_with_a_directory_is_told_although_the_directory_stands_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, edited: bool
) -> None:
    """Something new in it came from another device while its deletion settled."""
    store, a, b = await two_that_agree(tmp_path, "d/e/old")
    shutil.rmtree(b.root / "d")
    a.write("d/new", b"new")
    if edited:
        a.write("d/e/old", b"edited elsewhere")
    async with a.running(store, watcher=still_watcher) as first:
        await first.in_sync()
        async with b.running(store, watcher=still_watcher) as second:
            with trio.fail_after(60):
                await second.in_sync()
                await first.in_sync()
            assert a.tree() == b.tree()
            assert set(a.tree()) == ({"d", "d/new", "d/e", "d/e/old"} if edited else {"d", "d/new"})


async def test_a_change_below_a_directory_that_is_gone_comes_without_any_scan(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Where it would be placed nothing can be listed: what stands above tells that it is gone."""
    store, a, b = await two_that_agree(tmp_path, "d/e/file")
    async with a.running(store, watcher=still_watcher) as first, b.running(store, watcher=still_watcher) as second:
        await second.in_sync()
        shutil.rmtree(b.root / "d")
        a.write("d/e/file", b"edited elsewhere")
        with trio.fail_after(60):
            await first.rescan()
            await first.in_sync()
            await second.in_sync()
            await first.in_sync()
        assert a.tree() == b.tree() and a.tree()["d/e/file"][1] == b"edited elsewhere"


async def test_what_stands_above_many_that_are_gone_is_looked_at_once(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, 1, workers=InlineWorkers())
    device.found()
    for number in range(200):
        device.write(f"d/{number}/file", b"")
    async with device.running(None, watcher=still_watcher) as replica:
        await replica.rescan()
        shutil.rmtree(device.root / "d")
        looked: list[tuple[bytes, ...]] = []

        def counted(context: Context, directories: Sequence[tuple[bytes, ...]], named: Named) -> Looked:
            looked.extend(directories)
            return look(context, directories, named)

        monkeypatch.setattr(watching, "look", counted)
        replica._context.rescan({(b"d", b"%d" % number) for number in range(200)})
        await trio.sleep(SETTLE_SECONDS * 3)
        assert looked.count(()) == looked.count((b"d",)) == 1
        assert not replica._context.catalog.placed.below((b"d",))
