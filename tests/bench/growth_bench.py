"""Benchmark: how cost grows with devices, with one file's size and with one file's past. `python -m tests.bench.growth_bench`.

Real replicas, catalogs and entries in one process, with a store in memory between them and no network: what is left out is
said at each of the three. Every line ends with the log-log slope: 1.0 grows as the number does. CPU seconds are this
process's. What grows with the number of files `scale_bench` measures with a real device.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from p2psync.catalog.rows import Fingerprint
from p2psync.index.versions import Kind
from p2psync.replica.changes import LocalChange
from p2psync.replica.publisher import commit
from p2psync.replica.replica import Replica
from p2psync.replica.scanner import look, prepare
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.bench.fitting import slope
from tests.support.devices import Device, idle, until

Figures = dict[str, float]
MIB = 1 << 20
COMMON = "common.txt"
CHUNK_BYTES = 1 * MIB
"""The average of files of 64 MiB and more (`chunking/chunker.py`)."""
_JOIN_SECONDS = 3600


async def in_sync(replica: Replica) -> None:
    await replica.rescan()
    with trio.fail_after(_JOIN_SECONDS):
        await replica.in_sync()


async def joined(home: Path, number: int, admin: Replica, store: MemoryStore) -> tuple[Device, float]:
    """A further device that has everything, and the CPU seconds it took to get it."""
    device = Device(home / f"d{number}", number)
    await device.admitted_by(admin)
    await in_sync(admin)  # its admission is in the store
    before = time.process_time()
    async with device.running(store) as replica:
        await in_sync(replica)
        return device, time.process_time() - before


def entry_bytes(replica: Replica) -> int:
    """Of the last entry of this device's own feed, as it travels."""
    feeds, own = replica._context.catalog.feeds, replica._context.own_feed
    data = feeds.entry(own, feeds.state(own).seq)
    assert data is not None
    return len(data)


def entries(replica: Replica) -> int:
    return sum(state.seq for state in replica._context.catalog.feeds.states())


async def timed(work: Callable[[], Awaitable[object]], times: int) -> float:
    """CPU milliseconds each."""
    before = time.process_time()
    for _ in range(times):
        await work()
    return 1000 * (time.process_time() - before) / times


async def devices(home: Path, count: int) -> Figures:
    """So many devices, each of which edits one common file once and adds a file of its own. One after the other: what they
    would say to each other all at once, and their links, are left out."""
    store = MemoryStore(clock=SystemClock())
    first = Device(home / "d1", 1)
    first.found()
    first.write(COMMON, b"begun")
    async with first.running(store) as admin:
        await in_sync(admin)
        for number in range(2, count + 1):
            device, _ = await joined(home, number, admin, store)
            async with device.running(store) as replica:
                await in_sync(replica)
                device.write(COMMON, b"edited by %d" % number)
                device.write(f"own-{number}.txt", b"mine %d" % number)
                await in_sync(replica)
        await in_sync(admin)
        plain = entry_bytes(admin)
        first.write(COMMON, b"edited by all of them")
        await in_sync(admin)
        vector = admin._context.catalog.versions.frontier((COMMON.encode(),))[0].vector
        _, seconds = await joined(home, count + 1, admin, store)
        found = {
            "feeds in the vector of a file all have edited": float(len(vector)),
            "entry with an admission (lists all heads), bytes": float(plain),
            "entry with one edit of that file, bytes": float(entry_bytes(admin)),
            "entries in all": float(entries(admin)),
            "joining, CPU s": seconds,
            "joining, CPU ms per entry": 1000 * seconds / entries(admin),
            "status, CPU ms": await timed(admin.status, 20),
        }
    before = time.process_time()
    async with first.running(store) as admin:
        await admin.status()
        return found | {"opening the folder, CPU ms": 1000 * (time.process_time() - before)}


async def large_file(home: Path, gibibytes: int) -> Figures:
    """One file by its chunk list alone, of random ids, since the reading of it grows as its bytes do: what it takes to write
    down a first version, and another one that differs in one chunk."""
    dice, device = random.Random(gibibytes), Device(home / "large", 1)
    device.found()
    count = gibibytes * 1024 * MIB // CHUNK_BYTES
    rows = b"".join(dice.randbytes(32) + CHUNK_BYTES.to_bytes(4, "big") for _ in range(count))
    seen = Fingerprint(1, 2, gibibytes << 30, 10**18, 10**18)
    store = MemoryStore(clock=SystemClock())
    async with device.running(store) as replica:
        await in_sync(replica)
    async with device.running(None) as replica:
        context = replica._context
        forget_peak()
        resident = memory("VmRSS")
        parameters = (CHUNK_BYTES // 4, CHUNK_BYTES, CHUNK_BYTES * 4)

        def change() -> LocalChange:
            base = context.catalog.placed.get((b"large",))
            return LocalChange(
                path=(b"large",), kind=Kind.FILE, base=base, fingerprint=seen, mode=0o644, parameters=parameters, rows=rows,
            )  # fmt: skip

        found: Figures = {"chunks": float(count), "chunk list, KiB": len(rows) / 1024}
        for name in ("first version", "one chunk changed"):
            before, size = time.process_time(), catalog_bytes(device)
            await context.workers.run(commit, context, [(change(),)])
            found[f"{name}, CPU s"] = time.process_time() - before
            found[f"{name}, catalog KiB more"] = (catalog_bytes(device) - size) / 1024
            rows = rows[: 36 * (count // 2)] + dice.randbytes(32) + rows[36 * (count // 2) + 32 :]
        return found | {"memory beyond what was there, MiB": memory("VmHWM") - resident}


async def long_past(home: Path, changes: int) -> Figures:
    """One file changed so many times, each change an entry of its own, and a device that joins after that. The scanner is
    driven by hand: no watcher, and nobody listens meanwhile."""
    store, device = MemoryStore(clock=SystemClock()), Device(home / "d1", 1)
    device.found()
    device.write("file", b"begun")
    async with device.running(store) as replica:
        await in_sync(replica)
    async with device.running(None) as replica:
        context = replica._context
        await until(replica, idle)
        size, before = catalog_bytes(device), time.process_time()

        def change_all() -> None:
            for number in range(changes):
                device.write("file", b"changed %d times" % number)
                commit(context, prepare(context, look(context, [()]).candidates, lambda: False).units)

        await context.workers.run(change_all)
        found = {"a change, CPU ms": 1000 * (time.process_time() - before) / changes}
    found["catalog, bytes per change"] = (catalog_bytes(device) - size) / changes
    async with device.running(store) as replica:
        await in_sync(replica)
        _, seconds = await joined(home, 2, replica, store)
        listed = await timed(lambda: replica.past.history((b"file",), 100), 10)
        return found | {
            "joining, CPU s": seconds, "joining, CPU ms per change": 1000 * seconds / changes,
            "history of the file (100 shown), CPU ms": listed, "status, CPU ms": await timed(replica.status, 20),
        }  # fmt: skip


def catalog_bytes(device: Device) -> int:
    return sum(
        path.stat().st_size for path in device.catalog.parent.glob("catalog.db*") if not path.name.endswith("-shm")
    )


def forget_peak() -> None:
    """VmHWM begins anew."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:"))


KINDS: dict[str, tuple[Callable[[Path, int], Awaitable[Figures]], tuple[int, ...]]] = {
    "devices": (devices, (3, 10, 30, 100)),
    "large": (large_file, (1, 10, 100)),
    "past": (long_past, (100, 1000, 5000)),
}
"""What grows: devices in a folder, GiB of one file, changes of one file."""


def show(title: str, sizes: tuple[int, ...], found: list[Figures]) -> None:
    table = Table(title=title)
    table.add_column("")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    table.add_column("exponent", justify="right")
    for name in found[0]:
        values = [each[name] for each in found]
        exponent = slope(sizes, values)
        table.add_row(name, *(f"{value:,.4g}" for value in values), "" if exponent is None else f"{exponent:.2f}")
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {','.join(KINDS)}")
    parser.add_argument("--data", type=Path, required=True, help="where to work")
    chosen = parser.parse_args()
    for kind in chosen.kinds.split(","):
        measure, sizes = KINDS[kind]
        found = []
        for size in sizes:
            home = chosen.data / f"growth-{kind}-{size}-{os.getpid()}"
            try:
                found.append(trio.run(measure, home, size))
            finally:
                shutil.rmtree(home, ignore_errors=True)
        show(kind, sizes, found)


if __name__ == "__main__":
    main()
