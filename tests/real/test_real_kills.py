"""Devices killed at random moments, hundreds of times: no byte lost, no copy made, nothing left lying about."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.devices import tree_of
from tests.support.folders import SharedFolder, shared_folder
from tests.support.mortal import is_changing
from tests.support.processes import clean_environment

pytestmark = pytest.mark.slow

LIVES = int(os.environ.get("KILL_TEST_LIVES", "50"))
"""Of each device in each of the parts below; thousands in a night: KILL_TEST_LIVES=5000."""
LONGEST_MS = 450
CHANGES = 10
NAMES = [f"file{number}" for number in range(6)] + [f"sub{number}/file" for number in range(4)]


@contextmanager
def mortal(folder: SharedFolder, device: str) -> Iterator[subprocess.Popen[str]]:
    with (folder.machine.directory / f"{device}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.support.mortal", str(folder.machine.home(device))],
            env=clean_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}, text=True, stderr=log,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    with process:
        assert heard(process) == {"ready": True}
        yield process
        assert process.stdin is not None
        process.stdin.close()


def heard(process: subprocess.Popen[str]) -> object:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


class Author:
    """A user of one device who writes only below a directory of his own, and remembers what must be there."""

    def __init__(self, root: Path, dice: random.Random) -> None:
        self._root, self._dice = root, dice
        self._root.mkdir()

    def work(self) -> None:
        """One change, finished before the next life begins or in the middle of it."""
        path = self._root / self._dice.choice(NAMES)
        match self._dice.choice(["write", "write", "write", "large", "append", "delete", "rename", "remove tree"]):
            case "write" | "large" as size:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(self._dice.randbytes(300_000 if size == "large" else self._dice.randrange(5_000)))
            case "append" if path.exists():
                with path.open("ab") as file:
                    file.write(self._dice.randbytes(1_000))
            case "delete":
                path.unlink(missing_ok=True)
            case "rename" if path.exists():
                target = self._root / self._dice.choice(NAMES)
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
            case "remove tree" if path.parent != self._root:
                shutil.rmtree(path.parent, ignore_errors=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_devices_killed_at_random_lose_nothing_and_make_no_copies(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with shared_folder(tmp_path) as folder:
        folder.share()
        folder.join()
        folder.sync()
        for process in folder.processes.values():
            process.end()
        authors = [Author(folder.root(name) / f"of {name}", dice) for name in "ab"]
        killed = caught = 0
        with mortal(folder, "a") as first, mortal(folder, "b") as second:
            for life in range(LIVES):
                when = " changing" if life % 3 == 0 else ""
                for author in [*authors] * CHANGES:
                    author.work()
                for process in (first, second):
                    assert process.stdin is not None
                    process.stdin.write(f"{dice.randrange(LONGEST_MS)}{when}\n")
                    process.stdin.flush()
                for author in authors:
                    author.work()
                for process in (first, second):
                    said = heard(process)
                    assert isinstance(said, dict) and said["killed"], folder.machine.log("a") + folder.machine.log("b")
                    killed += 1
                caught += sum(is_changing(folder.machine.home(name)) for name in "ab")
        written = {name: tree_of(folder.root(name) / f"of {name}") for name in "ab"}
        for name in "ab":
            folder.start(name)
        folder.sync()
        assert killed == 2 * LIVES
        assert caught >= LIVES // 10, "deaths must also come while the disk is being changed"
        for device in "ab":
            for author, expected in written.items():
                assert tree_of(folder.root(device) / f"of {author}") == expected, (device, author)
            names = [path.name for path in folder.root(device).rglob("*") if ".p2psync" not in path.parts]
            assert not [name for name in names if "sync-conflict" in name or name.startswith(".p2psync.")]
