"""A device that dies at any step of bringing a change to its disk: nothing torn, nothing doubled, nothing resurrected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.catalog.catalog import Catalog
from p2psync.net.workers import InlineWorkers
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.crashing import CrashingFilesystem, Killed
from tests.support.devices import Device, converge
from tests.support.power import still_watcher

pytestmark = pytest.mark.slow


def prepare(a: Device) -> None:
    a.write("edited", b"old " * 10_000)
    a.write("deleted", b"to go")
    a.write("moved/here", b"moving " * 5_000)
    a.write("kind", b"a file, later a directory")
    a.write("mode", b"executable later")
    (a.root / "link").symlink_to("old target")


def change(a: Device) -> None:
    """One change of every kind the materialiser knows."""
    a.write("edited", b"new " * 10_000)
    (a.root / "deleted").unlink()
    (a.root / "moved").rename(a.root / "elsewhere")
    (a.root / "kind").unlink()
    a.write("kind/inside", b"inside")
    a.write("kind/beside", b"beside")
    (a.root / "mode").chmod(0o755)
    (a.root / "link").unlink()
    (a.root / "link").symlink_to("new target")
    a.write("fresh/deep/file", os.urandom(200_000))


async def test_a_crash_at_any_step_is_finished_at_the_next_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    step, crashed, places = 0, True, set[str]()
    while crashed:
        directory = tmp_path / str(step)
        store = MemoryStore(clock=SystemClock())
        a, b = (Device(directory / name, seed, workers=InlineWorkers()) for seed, name in enumerate("ab", 1))
        a.found()
        prepare(a)
        async with a.running(store, watcher=still_watcher) as first:
            await b.admitted_by(first)
            async with b.running(store, watcher=still_watcher) as second:
                await converge(first, second, seconds=600)
            change(a)
            await converge(first, seconds=600)
            crashed = await run_until_it_dies(b, store, step // 2, bool(step % 2), places)
            async with b.running(store, watcher=still_watcher) as second:
                await converge(first, second, seconds=600)
        where = f"{'after' if step % 2 else 'before'} change {step // 2}"
        assert b.tree() == a.tree(), where
        assert a.tree()["edited"][1].startswith(b"new") and "deleted" not in a.tree(), where
        assert not any("sync-conflict" in name for name in a.tree()), where
        assert not list(b.root.rglob(".p2psync.*.tmp")), where
        assert displaced(b) - {MOVED} == DISPLACED, where
        step += 1
    assert step > 40
    assert places >= {f"write_temps: {call}" for call in ("open", "write", "pwrite", "ftruncate", "fchmod", "utime")}


DISPLACED = {b"old " * 10_000, b"to go", b"a file, later a directory", b"old target"}
"""What `change` takes away: each of it must be among the versions, once, with a row that leads to it."""
MOVED = b"moving " * 5_000
"""A rename that a crash made a new file and a deletion leaves this as well."""


def displaced(device: Device) -> set[bytes]:
    """The contents of the versions kept on a device's disk, whose rows and files must agree."""
    files = {path.name: path for path in (device.root / ".p2psync" / "versions").iterdir()}
    catalog = Catalog(device.catalog)
    try:
        rows = {kept.file: kept for kept in catalog.kept.oldest(100)}
    finally:
        catalog.close()
    assert rows.keys() == files.keys() and len(rows) == len({kept.path for kept in rows.values()})
    return {
        os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for name, path in files.items()
        if path.lstat().st_size == rows[name].size
    }


async def run_until_it_dies(b: Device, store: MemoryStore, at: int, after: bool, places: set[str]) -> bool:
    """Run a device whose disk dies at change `at`, which is added to `places`; False when it finished before."""
    disks: list[CrashingFilesystem] = []

    def make(root: Path) -> CrashingFilesystem:
        disks.append(CrashingFilesystem(root, at, after))
        return disks[-1]

    try:
        with trio.fail_after(600):
            async with b.running(store, make_filesystem=make, watcher=still_watcher) as replica:  # type: ignore[arg-type]
                await replica.rescan()
                await replica.in_sync()
    except BaseExceptionGroup as group:
        _, others = group.split(Killed)
        assert others is None
        places.add(disks[0].last)
        return True
    return not disks[0].survived
