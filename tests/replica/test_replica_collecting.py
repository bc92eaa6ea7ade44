"""Collecting local versions: by age when the clock can be trusted, by size, for room; what a row leads to stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from p2psync.catalog.settings import FolderSettings, save_settings
from p2psync.planner.retention import DAY, HOUR, KeepRules
from p2psync.replica import collecting
from p2psync.replica.collecting import Collecting
from p2psync.replica.context import Context
from p2psync.replica.keeping import VERSIONS
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge


class ShiftedClock:
    """The system's clock and a shift, in seconds."""

    def __init__(self) -> None:
        self.shift = 0.0

    def now(self) -> float:
        return SystemClock().now() + self.shift


@asynccontextmanager
async def with_versions(home: Path, count: int) -> AsyncIterator[tuple[Context, Path, ShiftedClock]]:
    """A device that keeps `count` versions of one file, one displaced every day."""
    store, clock = MemoryStore(clock=SystemClock()), ShiftedClock()
    a, b = Device(home / "a", 1), Device(home / "b", 2, clock=clock)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            for number in range(count + 1):
                a.write("note", b"%d " % number * 1000)
                await converge(first, second)
                clock.shift += DAY
            yield second._context, b.root / os.fsdecode(b"/".join(VERSIONS)), clock


async def test_versions_go_by_age_once_the_clock_was_steady_and_then_by_size(tmp_path: Path) -> None:
    async with with_versions(tmp_path, 3) as (context, directory, clock):
        collector = Collecting(context)
        clock.shift += 400 * DAY
        assert collector.collect() == 0 and len(list(directory.iterdir())) == 3
        collected = 0
        for _ in range(25):
            clock.shift += HOUR
            collected += collector.collect()
        assert collected == 3
        assert list(directory.iterdir()) == [] and context.catalog.kept.total() == (0, 0)


async def test_size_and_room_take_the_oldest_first_and_lack_of_room_is_told(tmp_path: Path) -> None:
    async with with_versions(tmp_path, 3) as (context, directory, _):
        collector = Collecting(context)
        save_settings(context.catalog, FolderSettings(keep=KeepRules(size=4500)))
        assert collector.collect() == 1
        assert sorted(path.read_bytes()[:1] for path in directory.iterdir()) == [b"1", b"2"]
        stray = directory / ("0" * 32)
        stray.write_bytes(b"of a catalog that is lost")
        context.clock.shift = 0.0  # type: ignore[attr-defined]
        collector.drop_strays()
        assert stray.exists()
        context.clock.shift += 2 * DAY  # type: ignore[attr-defined]
        (next(path for path in directory.iterdir() if path.read_bytes()[:1] == b"1")).unlink()
        collector.drop_strays()
        assert not stray.exists() and context.catalog.kept.total()[0] == 1
        room, collecting.ROOM_BYTES = collecting.ROOM_BYTES, 1 << 62
        try:
            assert collector.make_room() == 1 and "nearly full" in context.trouble["history"]
        finally:
            collecting.ROOM_BYTES = room
