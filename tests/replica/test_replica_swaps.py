"""Directories that somebody swaps for symlinks while changes are applied: nothing outside the root is ever touched."""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from p2psync.replica.linux import renameat2
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge

pytestmark = pytest.mark.slow
ROUNDS = 12
RENAME_EXCHANGE = 2


@contextmanager
def swapped_again_and_again(root: Path, name: str, other: str) -> Iterator[list[int]]:
    """A thread exchanges `name` and `other` as fast as it can; yields how often. Afterwards they are as before."""
    directory, ended, count = os.open(root, os.O_RDONLY | os.O_DIRECTORY), threading.Event(), [0]

    def swap() -> None:
        dice = random.Random(1)
        while not ended.is_set() or count[0] % 2:
            renameat2(directory, name.encode(), directory, other.encode(), RENAME_EXCHANGE)
            count[0] += 1
            ended.wait(dice.random() / 500)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()
        os.close(directory)


def everything(directory: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


def change_something(a: Device, new: str, dice: random.Random) -> None:
    """A user's changes below `d`, who holds on to the directory he opened and so never goes through a symlink."""
    if (a.root / "d").is_symlink():
        (a.root / "d").unlink()
    (a.root / "d").mkdir(exist_ok=True)
    opened = os.open(a.root / "d", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    directory = Path(f"/proc/self/fd/{opened}")
    try:
        (directory / "sub").mkdir(exist_ok=True)
        (directory / f"file{dice.randrange(6)}").unlink(missing_ok=True)
        (directory / f"file{dice.randrange(6)}").write_bytes(os.urandom(300))
        (directory / new).write_bytes(os.urandom(5000))
        (directory / new).chmod(0o600)
    finally:
        os.close(opened)


async def test_changes_applied_below_a_swapped_directory_stay_inside_the_root(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    outside = tmp_path / "outside"
    for name in ("sub/file0", "file1", "precious"):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_bytes(b"nobody's business")
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            for number in range(6):
                a.write(f"d/sub/file{number}", b"first" * 200)
                a.write(f"d/file{number}", b"first" * 200)
            await converge(first, second)
            (b.root / "link").symlink_to(outside)
            before, dice = everything(outside), random.Random(2)
            with swapped_again_and_again(b.root, "d", "link") as swaps:
                for count in range(ROUNDS):
                    change_something(a, f"new{count}", dice)
                    await first.rescan()
                    await second.rescan()
                assert swaps[0] > 10 * ROUNDS
            with trio.fail_after(30):
                while a.tree() != b.tree():  # what the last swaps left behind may be published after one device's turn
                    await converge(first, second)
    assert everything(outside) == before
