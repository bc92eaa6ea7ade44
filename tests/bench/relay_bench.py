"""Benchmark: device → relay → device on this machine, as a table. `python -m tests.bench.relay_bench [--scale 0.1]`.

Real processes of the real commands over TCP and TLS. Wall seconds are from the moment the source tree is complete (the
folder is shared and both devices run) to both trees being equal; CPU seconds and peak memory are per process. The
machines are noisy: compare ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.support.folders import SharedFolder, peak_megabytes, shared_folder
from tests.support.processes import Process

MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Result:
    name: str
    seconds: float
    note: str
    cpu: dict[str, float]
    peak: dict[str, int]


def cpu_seconds(process: Process) -> float:
    return cpu_of(process.pid)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    children = [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(cpu_of(int(child)) for child in children)


def measured(name: str, base: Path, work: Callable[[SharedFolder], tuple[float, str]]) -> Result:
    with tempfile.TemporaryDirectory(dir=base) as directory, shared_folder(Path(directory)) as folder:
        folder.root("a"), folder.root("b")
        folder.share()
        folder.join()
        folder.sync()
        processes = {**folder.processes, "relay": folder.machine.relay_process}
        before = {role: cpu_seconds(process) for role, process in processes.items()}
        seconds, note = work(folder)
        cpu = {role: cpu_seconds(process) - before[role] for role, process in processes.items()}
        return Result(name, seconds, note, cpu, {role: peak_megabytes(process) for role, process in processes.items()})


def bring(folder: SharedFolder, fill: Callable[[Path], int]) -> tuple[float, str]:
    """Fill a directory beside the tree, move it in at once, wait until the other side has all of it."""
    staged = folder.root("a").parent / "staged"
    staged.mkdir()
    size = fill(staged)
    wanted = sum(len(files) for _, _, files in os.walk(staged))
    started = time.perf_counter()
    staged.rename(folder.root("a") / "new")
    target = folder.root("b") / "new"
    while True:
        names = [name for _, _, files in os.walk(target) for name in files]
        if len(names) == wanted and not any(name.startswith(".p2psync.") for name in names):
            break
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    folder.sync()
    return seconds, f"{size / MIB / seconds:.0f} MiB/s, {wanted / seconds:.0f} files/s"


def big(scale: float) -> Callable[[Path], int]:
    def fill(root: Path) -> int:
        size = int(1024 * scale) * MIB
        with (root / "big.bin").open("wb") as file:
            for _ in range(size // (4 * MIB)):
                file.write(os.urandom(4 * MIB))
        return size

    return fill


def small(scale: float) -> Callable[[Path], int]:
    def fill(root: Path) -> int:
        count = int(10_000 * scale)
        for number in range(count):
            directory = root / f"{number // 100:03}"
            directory.mkdir(exist_ok=True)
            (directory / f"{number:05}").write_bytes(os.urandom(2048).hex().encode())
        return count * 4096

    return fill


def latency(folder: SharedFolder, rounds: int) -> tuple[float, str]:
    """Median seconds from write() on one device to the complete file on the other."""
    times = []
    for number in range(rounds):
        target = folder.root("b") / f"note{number}"
        started = time.perf_counter()
        (folder.root("a") / f"note{number}").write_bytes(b"one small edit " * 100)
        while not target.exists():
            time.sleep(0.001)
        times.append(time.perf_counter() - started)
    times.sort()
    p95 = times[int(len(times) * 0.95) - 1]
    return statistics.median(times), f"median of {rounds}; p95 {p95 * 1000:.0f} ms"


def show(results: list[Result]) -> None:
    table = Table(
        title=f"device → relay → device, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    for column in ("workload", "seconds", "rate", "CPU s  a / relay / b", "peak MB  a / relay / b"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for result in results:
        roles = ("a", "relay", "b")
        table.add_row(
            result.name, f"{result.seconds:.3f}", result.note,
            " / ".join(f"{result.cpu[role]:.2f}" for role in roles),
            " / ".join(str(result.peak[role]) for role in roles),
        )  # fmt: skip
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument(
        "--directory", type=Path, default=None, help="where to work (a tmpfs shows the code, not the disk)"
    )
    chosen = parser.parse_args()
    results = [
        measured("1 GiB, one file", chosen.directory, lambda folder: bring(folder, big(chosen.scale))),
        measured("10,000 × 4 KiB", chosen.directory, lambda folder: bring(folder, small(chosen.scale))),
        measured("one small edit", chosen.directory, lambda folder: latency(folder, 30)),
    ]
    show(results)


if __name__ == "__main__":
    main()
