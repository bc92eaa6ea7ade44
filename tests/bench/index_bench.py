"""Benchmark: p2psync beside Syncthing at indexing a folder, in one run. `python -m tests.bench.index_bench --help`.

Each runs alone, with nobody to send to. Cold: files appear in the empty folder of a running device, all at once; until all
are indexed. Restart: the process is started again on the unchanged folder; from its start until it is idle and knows that
nothing changed. The two take turns, and only ratios within one run mean something. CPU seconds are those of the process.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.relay_bench import cpu_of
from tests.bench.scale_bench import OPTIONS, Watched
from tests.bench.syncthing_node import SyncthingNode
from tests.support.processes import Machine

Figures = dict[str, tuple[float, float]]
"""What was done → seconds, CPU seconds."""


def fill(root: Path, files: int, size: int, seed: int) -> None:
    """A hundred files in each directory."""
    dice = random.Random(seed)
    for number in range(files):
        directory = root / f"d{number // 100:04}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number:06}.bin").write_bytes(dice.randbytes(size))


def timed(pid: Callable[[], int], action: Callable[[], None], *, fresh: bool) -> tuple[float, float]:
    """Seconds and CPU seconds of an action; `fresh`: it starts the process, all of whose time counts."""
    before = 0.0 if fresh else cpu_of(pid())
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    return seconds, cpu_of(pid()) - before


def p2psync(directory: Path, staged: Path, files: int, size: int) -> Figures:
    root = directory / "tree"
    root.mkdir(parents=True)
    machine = Machine(directory)
    try:
        process = machine.device("a", "share", str(root), "--no-code", *OPTIONS)
        process.first_json(lambda said: "folder" in said)
        device = Watched(machine, process)
        device.until_idle(0)

        def cold() -> None:
            staged.rename(root / "w")
            device.until_idle(files * size)

        def restart() -> None:
            nonlocal process, device
            process = machine.device("a", "serve", *OPTIONS)
            process.first_json(lambda said: "folders" in said)
            device = Watched(machine, process)
            device.until_idle(files * size)

        found = {"cold": timed(lambda: process.pid, cold, fresh=False)}
        assert process.end() == 0
        return found | {"restart": timed(lambda: process.pid, restart, fresh=True)}
    finally:
        machine.stop()


def syncthing(directory: Path, staged: Path, files: int, size: int) -> Figures:
    node = SyncthingNode(directory)
    node.start()
    try:
        node.until_idle(0)

        def cold() -> None:
            staged.rename(node.root / "w")
            node.scan()
            node.until_idle(files)

        def restart() -> None:
            node.start()
            node.until_idle(files)

        found = {"cold": timed(lambda: node.process.pid, cold, fresh=False)}
        node.stop()
        return found | {"restart": timed(lambda: node.process.pid, restart, fresh=True)}
    finally:
        node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes of each file")
    parser.add_argument("--rounds", type=int, default=3, help="how often each has its turn; medians are shown")
    parser.add_argument("--data", type=Path, required=True, help="where to work; a tmpfs shows the code, not the disk")
    chosen = parser.parse_args()
    systems = {"p2psync": p2psync} | ({"syncthing": syncthing} if shutil.which("syncthing") else {})
    found: dict[str, list[Figures]] = {name: [] for name in systems}
    for number in range(chosen.rounds):
        for name, run in systems.items():
            directory = chosen.data / f"index-{name}"
            staged = directory / "staged"
            try:
                fill(staged, chosen.files, chosen.size, number)
                found[name].append(run(directory / "run", staged, chosen.files, chosen.size))
            finally:
                shutil.rmtree(directory, ignore_errors=True)
    show(found, f"{chosen.files:,} × {chosen.size} bytes, {platform.machine()}, {os.cpu_count()} cores")


def show(found: dict[str, list[Figures]], title: str) -> None:
    table = Table(title=title)
    for column in ("", *found, "p2psync : syncthing, seconds (CPU)"):
        table.add_column(column, justify="right" if column else "left")
    for kind in ("cold", "restart"):
        medians = {
            name: [statistics.median(each[kind][at] for each in rounds) for at in (0, 1)]
            for name, rounds in found.items()
        }
        cells = [f"{seconds:.2f} s, {cpu:.2f} CPU s" for seconds, cpu in medians.values()]
        if "syncthing" in medians:
            ratios = [mine / theirs for mine, theirs in zip(medians["p2psync"], medians["syncthing"], strict=True)]
            cells.append(f"{ratios[0]:.2f} ({ratios[1]:.2f})")
        table.add_row(kind, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
