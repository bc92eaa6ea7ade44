"""What a folder's size adds to the cost of anything: nothing to that of one change, a bounded share to that of a scan.

Counted in SQLite's own steps, statements and opened files, which do not depend on how busy the machine is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from p2psync.replica import missing, watching
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import Replica
from p2psync.replica.scanner import LARGE
from tests.support.devices import Device, idle, until
from tests.support.opening import counted_openings
from tests.support.peers import DIRECT

STEP = 50
"""SQLite calls back after so many of its instructions; a row that is looked at takes some ten."""
IN_DIRECTORY = 20


@dataclass
class Work:
    steps: int = 0
    statements: Counter[str] = field(default_factory=Counter)
    opened: int = 0


@contextmanager
def counted(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    work = Work()
    connection = replica._context.catalog._db._connection

    def step() -> None:
        work.steps += STEP

    connection.set_progress_handler(step, STEP)
    connection.set_trace_callback(lambda sql: work.statements.update([sql.split(None, 1)[0].upper()]))
    with counted_openings(monkeypatch) as opened:
        try:
            yield work
        finally:
            work.opened = opened.files
            connection.set_progress_handler(None, 0)
            connection.set_trace_callback(None)


def fill(device: Device, files: int) -> None:
    for number in range(files):
        device.write(f"d{number // IN_DIRECTORY}/f{number}", b"\0file %d" % number)


async def settled(replica: Replica) -> None:
    await replica.rescan()
    await until(replica, idle)


async def steps_of_everything(home: Path, files: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """SQLite's instructions for one of each, in a folder of so many files."""
    device = Device(home, 1)
    device.found()
    fill(device, files)

    async def status(replica: Replica) -> None:
        await replica.status()

    async def history(replica: Replica) -> None:
        await replica.past.history((b"d0", b"f1"), 10)

    async def edit(replica: Replica) -> None:
        device.write("d0/f0", b"\0edited")
        replica._context.rescan({(b"d0",)})
        await published(replica, (b"d0", b"f0"))

    async def delete(replica: Replica) -> None:
        (device.root / "d0/f2").unlink()
        replica._context.rescan({(b"d0",)})
        await published(replica, (b"d0", b"f2"))

    found = {}
    async with device.running(None, links=DIRECT) as replica:
        await settled(replica)
        operations: list[Callable[[Replica], Awaitable[None]]] = [status, history, edit, delete]
        for operation in operations:
            with counted(replica, monkeypatch) as work:
                await operation(replica)
            found[operation.__name__] = work.steps
    return found


async def published(replica: Replica, path: tuple[bytes, ...]) -> None:
    """Until something is published at the path that was not when this began."""
    versions = replica._context.catalog.versions
    before = versions.wanted(path)
    with trio.fail_after(30):
        while versions.wanted(path) == before:
            await replica.changed.wait(replica.changed.count)


@pytest.mark.slow
async def test_what_one_change_takes_does_not_grow_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = await steps_of_everything(tmp_path / "small", 100, monkeypatch)
    large = await steps_of_everything(tmp_path / "large", 3000, monkeypatch)
    assert not {name: (small[name], steps) for name, steps in large.items() if steps > 1.5 * small[name] + 20 * STEP}


FIRST_SCAN = 2.0
"""Statements per new file; 1.0 were counted, and 10.6 when each row was one statement and each path was asked for."""


async def test_a_first_scan_and_a_restart_take_no_more_than_their_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = 1000
    device = Device(tmp_path, 1)
    device.found()
    async with device.running(None, links=DIRECT) as replica:
        await settled(replica)
        with counted(replica, monkeypatch) as work:
            fill(device, files)
            await settled(replica)
        assert work.statements.total() / files < FIRST_SCAN
        assert files <= work.opened < 1.3 * files
        with counted(replica, monkeypatch) as work:
            await settled(replica)
        assert work.opened <= 2  # the marker
        assert work.statements.total() < 8 * files / IN_DIRECTORY


async def test_a_directory_that_is_renamed_during_a_long_scan_is_never_a_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(watching, "_LOOK_DIRECTORIES", 1)
    files = 400
    device = Device(tmp_path, 1)
    device.found()
    fill(device, files)
    async with device.running(None, links=DIRECT) as replica:
        (device.root / "top").mkdir()
        for directory in list(device.root.glob("d*")):
            directory.rename(device.root / "top" / directory.name)
        await settled(replica)
        with counted(replica, monkeypatch) as work:
            (device.root / "top").rename(device.root / "moved")
            await settled(replica)
        assert work.opened < 10
        versions = replica._context.catalog.versions
        for number in range(files):
            (version,) = versions.frontier((b"moved", b"d%d" % (number // IN_DIRECTORY), b"f%d" % number))
            assert version.origin is not None


async def test_what_is_deleted_is_told_in_pages_whatever_is_deeper_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "_PAGE", 30)
    sizes: list[int] = []
    really = missing.deletions

    def deletions(context: Any, page: Any) -> Any:
        sizes.append(len(page))
        return really(context, page)

    monkeypatch.setattr(watching, "deletions", deletions)
    device = Device(tmp_path, 1)
    device.found()
    device.write("keep", b"this")
    for number in range(100):
        device.write(f"top/d{number % 7}/e/f{number}", b"\0file %d" % number)
    async with device.running(None, links=DIRECT) as replica:
        await settled(replica)
        (device.root / "top").rename(tmp_path / "gone")
        await settled(replica)
        gone = [row for row in replica._context.catalog.placed.page(None) if not row.live]
        assert len(gone) == 100 + 7 + 7 + 1
        told = sorted(gone, key=lambda row: (row.dot.seq, row.dot.index))
        seen: set[tuple[bytes, ...]] = set()
        for row in told:
            assert row.path[:-1] not in seen  # its directory comes after it
            seen.add(row.path)
    assert max(sizes) == 30 and sum(sizes) == len(gone)


async def test_in_a_large_directory_only_what_changed_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, 1)
    device.found()
    for number in range(2 * LARGE):
        device.write(f"flat/f{number}", b"\0file %d" % number)
    async with device.running(None, links=DIRECT) as replica:
        await settled(replica)
        listed: list[object] = []
        really = LocalFilesystem.list_directory

        def list_directory(self: LocalFilesystem, path: Any) -> Any:
            listed.append(path)
            return really(self, path)

        monkeypatch.setattr(LocalFilesystem, "list_directory", list_directory)
        device.write("flat/f0", b"\0edited")
        (device.root / "flat/f1").unlink()
        (device.root / "flat/f2").rename(device.root / "flat/moved")
        device.write("flat/new", b"\0new")
        device.write("flat/below/deep", b"\0deep")
        gone = [b"f1", b"f2"]
        there = [b"moved", b"new", b"below"]
        placed = replica._context.catalog.placed
        with trio.fail_after(30):
            while True:
                seen = replica.changed.count
                held = placed.in_directory((b"flat",))
                if not any(name in held for name in gone) and all(name in held for name in there):
                    break
                await replica.changed.wait(seen)
        await until(replica, idle)
        assert (b"flat",) not in listed
        (version,) = replica._context.catalog.versions.frontier((b"flat", b"moved"))
        assert version.origin is not None
        assert placed.get((b"flat", b"below", b"deep")) is not None
        edited = placed.get((b"flat", b"f0"))
        assert edited is not None and edited.fingerprint.size == len(b"\0edited")
