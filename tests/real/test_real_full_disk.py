"""Real file systems that fill up or turn read-only under running devices: nothing old is harmed, and sync goes on unaided."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from p2psync.errors import StorageError
from p2psync.replica.filesystem import NewTemp
from p2psync.replica.local_filesystem import LocalFilesystem
from tests.support.devices import tree_of
from tests.support.folders import SharedFolder, shared_folder
from tests.support.processes import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root"),
]
MIB = 1 << 20


class SmallDisk:
    """A tmpfs at `path` whose size and mode the test changes under those who use it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def become(self, *options: str) -> None:
        subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "p2psync-test", str(path)], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def paired(stack: ExitStack, directory: Path, disk: str, size: int) -> tuple[SharedFolder, SmallDisk]:
    """Two devices in sync; the directory `disk` of this machine is a small file system."""
    made = stack.enter_context(small_disk(directory / disk, size))
    folder = stack.enter_context(shared_folder(directory))
    for number in range(8):
        (folder.root("a") / f"old{number}").write_bytes(os.urandom(MIB // 4))
    folder.share()
    folder.join()
    folder.sync()
    return folder, made


def troubles(folder: SharedFolder) -> str:
    status = folder.status("b")
    return f"{status['error']} {status['problems']}"


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_folder_s_disk_that_takes_nothing_keeps_the_old_and_goes_on_by_itself(
    tmp_path: Path, stack: ExitStack, kind: str
) -> None:
    folder, disk = paired(stack, tmp_path, "b", 4 * MIB)
    before = tree_of(folder.root("b"))
    if kind == "read-only":
        disk.become("ro")
    (folder.root("a") / "big").write_bytes(os.urandom(6 * MIB))
    (folder.root("a") / "old0").write_bytes(os.urandom(MIB // 2))
    (folder.root("a") / "old1").unlink()
    expected = "disk is full" if kind == "full" else "disk is read-only"
    wait_until(lambda: expected in troubles(folder), "the trouble is told", 60)
    now = tree_of(folder.root("b"))
    for name, entry in before.items():
        assert now.get(name, entry) in (entry, tree_of(folder.root("a")).get(name)), name
    assert "big" not in now
    disk.become("rw", f"size={40 * MIB}")
    folder.sync()
    assert expected not in troubles(folder)
    assert not list(folder.root("b").rglob(".p2psync.*.tmp"))


def test_a_home_that_is_full_stops_nothing_for_ever_and_loses_nothing(tmp_path: Path, stack: ExitStack) -> None:
    folder, _ = paired(stack, tmp_path, "home-b", 8 * MIB)
    filling = folder.machine.home("b") / "filling"
    with suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for number in range(200):
        (folder.root("a") / f"many{number}").write_bytes(os.urandom(3000))
    (folder.root("b") / "mine").write_bytes(b"written while nothing could be noted")
    folder.machine.run("a", "sync", "--timeout", "100")
    wait_until(lambda: "disk is full" in troubles(folder), "the trouble is told", 60)
    filling.unlink()
    folder.sync()
    assert (folder.root("a") / "mine").read_bytes() == b"written while nothing could be noted"


def test_small_files_that_do_not_fit_say_so_and_are_made_good_where_they_were_begun(
    tmp_path: Path, stack: ExitStack
) -> None:
    made = stack.enter_context(small_disk(tmp_path / "disk", MIB // 4))
    disk = stack.enter_context(LocalFilesystem(made.path))
    files = [NewTemp((b"%d" % number,), os.urandom(6000), 0o644, number) for number in range(100)]
    made.become("ro")
    with pytest.raises(StorageError, match="disk is read-only"):
        disk.write_temps(files)
    made.become("rw")
    with pytest.raises(StorageError, match="disk is full"):
        disk.write_temps(files)
    sizes = [stat.size if (stat := disk.temp_stat(each.path)) is not None else -1 for each in files]
    assert sizes[0] == 6000 and any(-1 < size < 6000 for size in sizes) and sizes[-1] == -1
    made.become("rw", f"size={4 * MIB}")
    begun = [each for each, size in zip(files, sizes, strict=True) if size >= 0]
    assert disk.write_temps(files).keys() == {each.path for each in files[len(begun) :]}
    for each in begun:
        with disk.open_temp(each.path, False) as temp:
            temp.write(each.data, 0)
            assert temp.read(0, 10_000) == each.data
