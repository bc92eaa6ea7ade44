"""Benchmark: joining a folder with a long past beside joining one that was made just now. `python -m tests.bench.past_bench`.

Real replicas, catalogs, packs and snapshots in one process, with a store in memory between them and no network. The folder
with a past has lived through `--changes` changes of its `--files` files, `--at-once` of them at a time, and sums its feed up
whenever that is due. It is joined when the next snapshot is about to be due, the worst moment, and right after it. The fresh
folder holds the same files. Seconds and CPU seconds are those of the joining device until everything is on its disk.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import time
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from p2psync.replica import upkeep
from p2psync.replica.compaction import is_due
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device
from tests.support.power import still_watcher

_SECONDS = 3600
_SIZE = 200
"""Bytes of each file; no two contents are the same."""


class Folder:
    """One device with a folder and a store, and those that join it."""

    def __init__(self, home: Path, files: int, seed: int) -> None:
        self.home, self.dice, self.files = home, random.Random(seed), files
        self.store = MemoryStore(clock=SystemClock())
        self.device = Device(home / "first", 1)
        self.device.found()
        self.snapshots, self._joined = 0, 1

    def write(self, numbers: list[int]) -> None:
        for number in numbers:
            self.device.write(f"{number % 100}/{number}", self.dice.randbytes(_SIZE))

    async def change(self, replica: Replica, numbers: list[int]) -> bool:
        """Rewrite these files; whether a snapshot became due by it."""
        self.write(numbers)
        await replica.rescan()
        with trio.fail_after(_SECONDS):
            await replica.in_sync()
        return is_due(replica._context)

    async def live(self, replica: Replica, changes: int, at_once: int) -> None:
        """At least so many changes, until a snapshot is due that is not written."""
        done, due = 0, False
        while done < changes or not due:
            if due:
                self.snapshots += await upkeep.sum_up(replica._context)
            due = await self.change(replica, self.dice.sample(range(self.files), at_once))
            done += at_once

    async def join(self, replica: Replica) -> tuple[float, float]:
        """(seconds, CPU seconds) until a further device has everything."""
        self._joined += 1
        newcomer = Device(self.home / f"joined {self._joined}", self._joined)
        await newcomer.admitted_by(replica)
        with trio.fail_after(_SECONDS):
            await replica.in_sync()
        seconds, cpu = time.monotonic(), time.process_time()
        async with newcomer.running(self.store, watcher=still_watcher) as joined:
            with trio.fail_after(_SECONDS):
                await joined.in_sync()
            found = time.monotonic() - seconds, time.process_time() - cpu
        assert newcomer.tree() == self.device.tree()
        return found

    def figures(self, replica: Replica) -> str:
        entries = sum(1 for key in self.store._objects if key.startswith("e/"))
        catalog = sum(path.stat().st_size for path in self.device.catalog.parent.glob("catalog.db"))
        return f"{entries:,} entries, {self.snapshots} snapshots, catalog {catalog >> 20} MiB"


async def measure(home: Path, files: int, changes: int, at_once: int, reps: int) -> None:
    table = Table(title=f"{files:,} files, {changes:,} changes, {at_once} at a time; {reps} joins each")
    for column in ("", "seconds", "CPU seconds", "of fresh", "the folder"):
        table.add_column(column)
    fresh, lived = Folder(home / "fresh", files, 1), Folder(home / "lived", files, 2)
    async with (
        fresh.device.running(fresh.store, watcher=still_watcher) as new,
        lived.device.running(lived.store, watcher=still_watcher) as old,
    ):
        await fresh.change(new, list(range(files)))
        await lived.change(old, list(range(files)))
        begun = time.monotonic()
        await lived.live(old, changes, at_once)
        print(f"lived in {time.monotonic() - begun:.0f} s")
        base = [await fresh.join(new) for _ in range(reps)]
        worst = [await lived.join(old) for _ in range(reps)]
        rows = [("fresh", base, fresh, new), ("with a past, about to sum up", worst, lived, old)]
        for name, found, folder, replica in rows:
            show(table, name, found, base, folder.figures(replica))
        lived.snapshots += await upkeep.sum_up(old._context)
        best = [await lived.join(old) for _ in range(reps)]
        show(table, "with a past, summed up", best, base, lived.figures(old))
    Console(width=140).print(table)


def show(table: Table, name: str, found: list[tuple[float, float]], base: list[tuple[float, float]], said: str) -> None:
    seconds, cpu = (sorted(each)[len(found) // 2] for each in zip(*found, strict=True))
    of_seconds, of_cpu = (sorted(each)[len(base) // 2] for each in zip(*base, strict=True))
    ratios = f"{seconds / of_seconds:.2f} ({cpu / of_cpu:.2f})"
    table.add_row(name, f"{seconds:.2f}", f"{cpu:.2f}", ratios, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--at-once", type=int, default=1000, help="files changed before each scan")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--data", type=Path, required=True, help="where to work")
    chosen = parser.parse_args()
    home = chosen.data / f"past-{os.getpid()}"
    upkeep.LOOK_SECONDS = math.inf  # it is summed up here, when the moment has come
    try:
        trio.run(measure, home, chosen.files, chosen.changes, chosen.at_once, chosen.reps)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
