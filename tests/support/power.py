"""A device on a simulated disk: what it does is photographed ahead of every change, and begun again from any photograph."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from p2psync.catalog.catalog import Catalog
from p2psync.crypto.hashing import content_hash
from p2psync.ids import FeedId
from p2psync.net.workers import InlineWorkers
from p2psync.replica.watcher import ManualWatcher, Skips, Watcher
from p2psync.seams import SystemClock, Workers
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge
from tests.support.simulated_disk import SimulatedDisk
from tests.support.simulated_nodes import NAMES, Change

DATABASE = ("", "-wal")


@asynccontextmanager
async def still_watcher(root: Path, workers: Workers, skips: Skips) -> AsyncIterator[Watcher]:
    """Says nothing: the tests ask for scans."""
    await trio.lowlevel.checkpoint()
    yield ManualWatcher()


@dataclass
class Photograph:
    """What would be left if power failed now: the catalog as committed, and disks that may come back."""

    where: str
    catalog: dict[str, bytes]
    disks: list[SimulatedDisk]


@dataclass
class Stage:
    """`b`'s disk is simulated and lags one workload of `a` behind; the store holds everything."""

    a: Device
    b: Device
    store: MemoryStore
    disk: SimulatedDisk = field(default_factory=SimulatedDisk)

    def catalog_files(self) -> dict[str, bytes]:
        paths = {suffix: self.b.catalog.with_name(self.b.catalog.name + suffix) for suffix in DATABASE}
        return {suffix: path.read_bytes() for suffix, path in paths.items() if path.exists()}

    def put_catalog(self, files: dict[str, bytes]) -> None:
        for suffix in (*DATABASE, "-shm"):
            self.b.catalog.with_name(self.b.catalog.name + suffix).unlink(missing_ok=True)
        for suffix, data in files.items():
            self.b.catalog.with_name(self.b.catalog.name + suffix).write_bytes(data)

    def run_length(self) -> int:
        """How many entries `b` has written so far."""
        catalog = Catalog(self.b.catalog)
        try:
            keys = self.b.keystore.load_folder(catalog.folder)
            return catalog.feeds.state(FeedId(keys.feed.public)).seq
        finally:
            catalog.close()

    def kept_files(self) -> set[str]:
        """The files of local versions that `b`'s catalog knows."""
        catalog = Catalog(self.b.catalog)
        try:
            return {row.file for row in catalog.kept.oldest(1000)}
        finally:
            catalog.close()

    def run_b(self, disk: SimulatedDisk) -> int:
        """Let `b` work until nothing is left to do; how long its own feed is then."""
        return run(self._run_b, disk)

    async def _run_b(self, disk: SimulatedDisk) -> int:
        store = await _copy_of(self.store)  # what this run publishes is no news for the next
        async with self.b.running(store, make_filesystem=lambda root: disk, watcher=still_watcher) as replica:  # type: ignore[arg-type]
            await converge(replica, seconds=600)
            context = replica._context
            return context.catalog.feeds.state(context.own_feed).seq


async def _copy_of(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore(clock=SystemClock())
    keys = [listed.key for listed in await store.list("", limit=1 << 30)]
    await copied.put([(key, await store.get(key)) for key in keys])
    return copied


def run(main: Callable[..., object], *arguments: object) -> object:  # type: ignore[type-arg]
    return trio.run(main, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


def make_stage(
    directory: Path, prepare: Callable[[Device], None], change: Callable[[Device], None], *, xattrs: bool = False
) -> Stage:
    """Both devices agree on what `prepare` makes; then `a` makes its change while `b` is off."""
    store = MemoryStore(clock=SystemClock())
    a, b = (Device(directory / name, seed, workers=InlineWorkers(), xattrs=xattrs) for seed, name in enumerate("ab", 1))
    stage = Stage(a, b, store)

    async def build() -> None:
        a.found()
        prepare(a)
        async with a.running(store, watcher=still_watcher) as first:  # type: ignore[arg-type]
            await b.admitted_by(first)
            stage.disk.load(b.root)
            await converge(first, seconds=600)
            async with b.running(store, make_filesystem=lambda root: stage.disk, watcher=still_watcher) as second:  # type: ignore[arg-type]
                await converge(second, seconds=600)
            change(a)
            await converge(first, seconds=600)

    run(build)
    stage.disk.make_all_durable()
    return stage


def survivors(pending: list[Change], dice: random.Random, extra: int = 2) -> Iterator[list[Change]]:
    """Which pending changes outlive the power cut: none, all, what a journal keeps, all but one, and at random."""
    yield []
    yield pending
    names = [change for change in pending if change.what == NAMES]
    bytes_only = [change for change in pending if change.what != NAMES]
    for count in range(len(names)):
        kept = {id(change) for change in (*names[: count + 1],)}
        yield [change for change in pending if id(change) in kept]
        yield [change for change in pending if id(change) in kept or change.what != NAMES]
    for lost in bytes_only:
        yield [change for change in pending if change is not lost]
    for _ in range(extra if len(pending) > 1 else 0):
        yield [change for change in pending if dice.random() < 0.5]


def photographs(stage: Stage, dice: random.Random) -> list[Photograph]:
    """Run `b` to its end; one photograph ahead of every change of its disk, and one of the end."""
    taken: list[Photograph] = []
    seen: set[bytes] = set()
    start = stage.catalog_files()

    def look(operation: str, path: tuple[bytes, ...]) -> None:
        catalog = stage.catalog_files()
        disks = []
        for kept in survivors(list(stage.disk.pending), dice):
            disk = stage.disk.after_power_cut(kept)
            name = content_hash(repr((sorted(catalog.items()), sorted(disk.nodes.items()))).encode())
            if name not in seen:
                seen.add(name)
                disks.append(disk)
        if disks:
            taken.append(Photograph(f"ahead of {operation} {path}", catalog, disks))

    stage.disk.before = look
    stage.run_b(stage.disk)
    look("the end", ())
    stage.disk.before = lambda operation, path: None
    stage.put_catalog(start)
    return taken
