"""Directories that are watched only from now on are looked at, whoever made them: what came before has no event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from p2psync.replica.watcher import ManualWatcher, Skips, Watcher
from p2psync.seams import Workers
from tests.support.devices import Device, idle, until


async def test_what_came_into_a_nested_directory_that_is_known_but_newly_watched_is_published(tmp_path: Path) -> None:
    watcher = ManualWatcher()

    @asynccontextmanager
    async def by_hand(root: Path, workers: Workers, skips: Skips) -> AsyncIterator[Watcher]:
        yield watcher

    device = Device(tmp_path, 1)
    device.found()
    (device.root / "outer" / "inner").mkdir(parents=True)
    async with device.running(None, watcher=by_hand) as replica:
        await replica.rescan()
        await until(replica, idle)
        device.write("outer/inner/new", b"1")
        watcher.appear((b"outer",))
        watcher.appear((b"outer", b"inner"))
        await until(replica, lambda status: status.global_bytes == 1)
