"""Benchmark: how the cost of one device grows with the number of files. `python -m tests.bench.scale_bench --help`.

A real device (`p2psync share`, then `serve`) keeps a tree of tiny files, for each size in turn; nothing of it is simulated.
What is printed at the end are log-log slopes: 1.0 grows as the folder does, 0 not at all. Seconds are noisy, CPU seconds
and bytes less so; figures come from /proc and from the catalog. Other counts (devices, one large file, a long feed) are
`growth_bench`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.fitting import slope
from tests.bench.relay_bench import cpu_seconds
from tests.support.processes import Machine, Process

MIB = 1 << 20
FILES_IN_DIRECTORY = 25
"""And as many directories in each directory above: a source tree has some ten files in a directory, a photo album hundreds."""
OPERATIONS = 20
"""Of each kind one after the other: CPU time is told in steps of 10 ms."""
PAUSE_SECONDS = 0.35
"""Between two changes: longer than a change is gathered and a missing path settles, so that each is seen alone."""
OPTIONS = (
    "--relay",
    "none",
    "--links",
    "direct",
    "--listen",
    "127.0.0.1:0",
    "--no-lan",
    "--gui-address",
    "none",
    "--json",
)


@dataclass
class Spent:
    """What a process spent on something."""

    seconds: float = 0.0
    cpu: float = 0.0
    read: int = 0
    written: int = 0


class Watched:
    """A running device, asked through its control socket."""

    def __init__(self, machine: Machine, process: Process) -> None:
        self._machine, self._process = machine, process

    def ask(self, **request: Any) -> dict[str, Any]:
        """The first thing a command says."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(600)
            connection.connect(str(self._machine.home("a") / "control.sock"))
            connection.sendall(json.dumps(request).encode() + b"\n")
            said = [json.loads(line) for line in connection.makefile()]
        assert "event" in said[0], said
        event: dict[str, Any] = said[0]["event"]
        return event

    def until_idle(self, size: int) -> None:
        """Until the folder holds `size` bytes and nothing is left to do; asking takes little of the device's time."""
        while True:
            began = time.perf_counter()
            folders = self.ask(command="status")["folders"]
            if folders and folders[0]["state"] == "idle" and folders[0]["local_bytes"] >= size:
                return
            time.sleep(max(0.05, 10 * (time.perf_counter() - began)))

    def now(self) -> Spent:
        io = dict(
            line.split(": ") for line in Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        )  # fmt: skip
        return Spent(time.perf_counter(), cpu_seconds(self._process), int(io["rchar"]), int(io["wchar"]))

    @contextmanager
    def spending(self, times: int = 1) -> Iterator[Spent]:
        """Fills in, at the end, what it took each of `times` times."""
        before, spent = self.now(), Spent()
        yield spent
        after = self.now()
        spent.seconds = (after.seconds - before.seconds) / times
        spent.cpu = (after.cpu - before.cpu) / times
        spent.read = (after.read - before.read) // times
        spent.written = (after.written - before.written) // times

    def memory(self, what: str) -> float:
        """MiB: VmRSS, or VmHWM, the most there ever was."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"the kernel does not tell {what}")


def place_of(number: int, flat: bool) -> Path:
    if flat:
        return Path("all") / f"file-{number:07}.txt"
    directory = number // FILES_IN_DIRECTORY
    above, top = directory // FILES_IN_DIRECTORY, directory // FILES_IN_DIRECTORY**2
    return Path(f"part-{top:03}") / f"set-{above:04}" / f"group-{directory:05}" / f"file-{number:07}.txt"


def fill(root: Path, files: int, size: int, flat: bool) -> None:
    dice, made = random.Random(files), set[Path]()
    for number in range(files):
        path = root / place_of(number, flat)
        if path.parent not in made:
            path.parent.mkdir(parents=True)
            made.update(path.parents)
        path.write_bytes(dice.randbytes(size))


def measured(base: Path, files: int, size: int, *, flat: bool, idle_seconds: float) -> dict[str, float]:
    """Everything about one number of files, and nothing left behind."""
    directory = base / f"scale-{files}"
    root = directory / "tree"
    root.mkdir(parents=True)
    machine = Machine(directory)
    try:
        fill(root, files, size, flat)
        return (
            {"files": float(files)}
            | first_scan(machine, root, files * size)
            | restarted(machine, root, files, size, flat=flat, idle_seconds=idle_seconds)
        )
    finally:
        machine.stop()
        shutil.rmtree(directory)


def first_scan(machine: Machine, root: Path, size: int) -> dict[str, float]:
    began = time.perf_counter()
    process = machine.device("a", "share", str(root), "--no-code", *OPTIONS)
    process.first_json(lambda said: "folder" in said)
    device = Watched(machine, process)
    device.until_idle(size)
    found = {
        "first scan, s": time.perf_counter() - began, "first scan, CPU s": device.now().cpu,
        "first scan, peak MiB": device.memory("VmHWM"),
    }  # fmt: skip
    assert process.end() == 0
    return found


def restarted(
    machine: Machine, root: Path, files: int, size: int, *, flat: bool, idle_seconds: float
) -> dict[str, float]:
    catalog = sum(path.stat().st_size for path in machine.home("a").rglob("*.db*"))
    began = time.perf_counter()
    process = machine.device("a", "serve", *OPTIONS)
    process.first_json(lambda said: "folders" in said)
    device = Watched(machine, process)
    device.until_idle(files * size)
    spent = device.now()
    found = {
        "catalog, B/file": catalog / files, "restart, s": time.perf_counter() - began, "restart, CPU s": spent.cpu,
        "restart, MiB read": spent.read / MIB, "restart, peak MiB": device.memory("VmHWM"),
    }  # fmt: skip
    time.sleep(25)  # what was freed goes back to the system every 20 seconds
    found["at rest, MiB"] = device.memory("VmRSS")
    with device.spending() as idle:
        time.sleep(idle_seconds)
    found["idle, CPU s/minute"] = 60 * idle.cpu / idle_seconds
    return found | operations(device, root, files, size, flat)


def operations(device: Watched, root: Path, files: int, size: int, flat: bool) -> dict[str, float]:
    """CPU milliseconds and KiB for one of each, in a folder of this size."""
    dice = random.Random(1)
    chosen = [place_of(number, flat) for number in dice.sample(range(files), 2 * OPERATIONS)]
    edited, renamed = chosen[:OPERATIONS], chosen[OPERATIONS:]

    def edit(path: Path) -> None:
        (root / path).write_bytes(dice.randbytes(size))

    def rename(path: Path) -> None:
        (root / path).rename(root / path.with_suffix(".moved"))

    def status(path: Path) -> None:
        assert device.ask(command="status")["folders"]

    def history(path: Path) -> None:
        assert device.ask(command="history", path=str(root / path))["version"]

    kinds: list[tuple[str, Callable[[Path], None], Sequence[Path], float]] = [
        ("an edit", edit, edited, PAUSE_SECONDS), ("a rename", rename, renamed, PAUSE_SECONDS),
        ("status", status, edited, 0.0), ("history of a file", history, edited, 0.0),
    ]  # fmt: skip
    found = {}
    for name, change, paths, pause in kinds:
        with device.spending(len(paths)) as spent:
            for path in paths:
                change(path)
                time.sleep(pause)
        found[f"{name}, CPU ms"] = 1000 * spent.cpu
        if pause:
            found[f"{name}, KiB written"] = spent.written / 1024
        else:
            found[f"{name}, ms"] = 1000 * spent.seconds
    return found


def show(rows: list[dict[str, float]], title: str) -> None:
    table = Table(title=title)
    table.add_column("")
    for row in rows:
        table.add_column(f"{int(row['files']):,}", justify="right")
    table.add_column("exponent", justify="right")
    for name in [name for name in rows[0] if name != "files"]:
        values = [row[name] for row in rows]
        exponent = slope([row["files"] for row in rows], values)
        table.add_row(name, *(f"{value:,.4g}" for value in values), "" if exponent is None else f"{exponent:.2f}")
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="10000,30000,100000", help="numbers of files, with commas between them")
    parser.add_argument("--size", type=int, default=100, help="bytes of each file; a tmpfs takes 4 KiB for it anyway")
    parser.add_argument("--data", type=Path, required=True, help="where to work; a million files take 7 GB of a tmpfs")
    parser.add_argument("--flat", action="store_true", help="all files in one directory instead of 25 in each")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to watch the device doing nothing")
    parser.add_argument(
        "--results", type=Path, default=None, help="a file to add each size's figures to, as JSON lines"
    )
    chosen = parser.parse_args()
    rows = []
    for files in sorted(int(number) for number in chosen.files.split(",")):
        rows.append(measured(chosen.data, files, chosen.size, flat=chosen.flat, idle_seconds=chosen.idle))
        if chosen.results is not None:
            with chosen.results.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    show(rows, f"one device, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
