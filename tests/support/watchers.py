"""Watchers over real directories, and word from them within seconds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath

import trio
from inotify_simple import INotify

from p2psync.net.workers import InlineWorkers, ThreadWorkers
from p2psync.replica.filesystem import Path
from p2psync.replica.inotify import InotifyWatcher, watch_tree
from p2psync.replica.watcher import Changes, Watcher


@asynccontextmanager
async def watching(root: FilePath) -> AsyncIterator[InotifyWatcher]:
    async with watch_tree(root, ThreadWorkers()) as watcher:
        assert isinstance(watcher, InotifyWatcher)
        yield watcher


async def next_changes(watcher: Watcher) -> Changes:
    with trio.fail_after(5):
        return await watcher.changes()


async def hears(watcher: Watcher, directory: Path) -> None:
    """Fails unless word of a change in `directory` comes."""
    with trio.fail_after(5):
        while directory not in (await watcher.changes()).directories:
            continue


class CountingWatcher(InotifyWatcher):
    """Counts how often it looks into the queue."""

    reads = 0

    def _read(self) -> None:
        self.reads += 1
        super()._read()


@asynccontextmanager
async def counting(root: FilePath, queue: INotify | None = None) -> AsyncIterator[CountingWatcher]:
    descriptor = os.open(root, os.O_RDONLY)
    with queue or INotify(nonblocking=True) as opened:
        watcher = CountingWatcher(descriptor, opened, InlineWorkers())
        await watcher.watch_everything()
        yield watcher
    os.close(descriptor)
