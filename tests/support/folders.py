"""A shared folder on real processes: a relay, devices that joined, and waiting until their trees are equal."""

from __future__ import annotations

import json
import os
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.devices import tree_of
from tests.support.processes import Machine, Process

WAIT_SECONDS = 240.0


class SharedFolder:
    """Devices `a`, `b`, … of one machine share one folder; each has its tree in a directory of its own name."""

    def __init__(self, machine: Machine, *options: str) -> None:
        self.machine = machine
        self.url = machine.relay("--open", "--json", *options)
        local = machine.relay_process.first_json(lambda said: "local_url" in said)["local_url"]
        self.port = int(local.split("/")[2].rsplit(":", 1)[1])
        self.processes: dict[str, Process] = {}

    def root(self, device: str) -> Path:
        root = self.machine.directory / device
        root.mkdir(exist_ok=True)
        return root

    def share(self, device: str = "a") -> None:
        """Share the tree of a device; its first code is kept for the first who joins."""
        started = self.machine.device(device, "share", str(self.root(device)), *self.options)
        self.processes[device] = started
        self.code = started.first_json(lambda said: "code" in said)["code"]

    def join(self, device: str = "b") -> None:
        arguments = ("join", str(self.root(device)), *self.options)
        started = self.machine.device(device, *arguments, P2PSYNC_CODE=self.code)
        self.processes[device] = started
        started.first_json(lambda said: "folder" in said)

    def start(self, device: str) -> None:
        """Run a device again that was stopped or killed."""
        self.processes[device] = self.machine.device(device, "serve", *self.options)

    @property
    def options(self) -> tuple[str, ...]:
        """Everything goes through the relay: what is tested here is the way over stored ciphertext."""
        return "--relay", self.url, "--links", "store", "--json"

    def sync(self, *devices: str, seconds: float = WAIT_SECONDS) -> None:
        """Until every device says it is in sync and all trees are equal."""
        end = time.monotonic() + seconds
        names = devices or tuple(self.processes)
        while True:
            for device in names:
                done = self.machine.run(device, "sync", "--timeout", "100", "--json")
                assert done.returncode == 0 or time.monotonic() < end, (device, done.stdout, done.stderr)
            trees = [tree_of(self.root(device)) for device in names]
            if all(tree == trees[0] for tree in trees):
                return
            assert time.monotonic() < end, _difference(trees)

    def status(self, device: str) -> dict[str, object]:
        folder: dict[str, object] = self.machine.status(device)["folders"][0]
        return folder

    def packs(self) -> list[Path]:
        """The pack files the relay holds."""
        return sorted((self.machine.directory / "relay" / "namespaces").glob("*/packs/*/*"))

    def restart_relay(self) -> None:
        self.machine.relay("--open", "--json", port=self.port)


@contextmanager
def shared_folder(directory: Path, *options: str) -> Iterator[SharedFolder]:
    """`options` are the relay's."""
    machine = Machine(directory)
    try:
        yield SharedFolder(machine, *options)
    finally:
        machine.stop()


def peak_megabytes(process: Process) -> int:
    """The largest resident size a process ever had."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("the kernel does not tell VmHWM")


def copy_library(target: Path, *names: str) -> int:
    """Copy pieces of the Python standard library (all of it when none is named); returns the number of files."""
    library = Path(sysconfig.get_paths()["stdlib"])
    count = 0
    for directory, folders, files in os.walk(library):
        relative = Path(directory).relative_to(library)
        folders[:] = [name for name in folders if name not in ("__pycache__", "site-packages")]
        if names and relative.parts and relative.parts[0] not in names:
            continue
        (target / relative).mkdir(parents=True, exist_ok=True)
        for name in files if relative.parts or not names else []:
            (target / relative / name).write_bytes((Path(directory) / name).read_bytes())
            count += 1
    return count


def _difference(trees: list[dict[str, tuple[str, bytes, int]]]) -> str:
    first, second = trees[0], trees[1]
    names = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    return json.dumps(names[:20])
