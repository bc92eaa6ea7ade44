"""The local filesystem opens nothing but plain files, and nothing leads out of the root (properties 26 and 49)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from p2psync.replica import linux, local_filesystem
from p2psync.replica.descent import LIST, open_by_components
from p2psync.replica.filesystem import Filesystem, NewTemp, NotRegularFile, Path, temp_name
from p2psync.replica.local_filesystem import LocalFilesystem
from tests.support.local_disk import FILE

# Property 26: nothing outside the root, whatever is turned into a symlink.

OPERATIONS: dict[str, Callable[[Filesystem, Path], object]] = {
    "list": lambda disk, path: disk.list_directory(path[:-1]),
    "read_link": lambda disk, path: disk.read_link(path),
    "open": lambda disk, path: disk.open_file(path).__enter__(),
    "create temp": lambda disk, path: disk.open_temp(path, create=True).__enter__(),
    "reopen temp": lambda disk, path: disk.open_temp(path, create=False).__enter__(),
    "remove temp": lambda disk, path: disk.remove_temp(path),
    "temp symlink": lambda disk, path: disk.make_temp_symlink(path, b"x"),
    "place": lambda disk, path: disk.place_new(path),
    "exchange": lambda disk, path: disk.exchange(path),
    "move in": lambda disk, path: disk.move((b"mine",), path),
    "move out": lambda disk, path: disk.move(path, (b"moved",)),
    "to temp": lambda disk, path: disk.move_to_temp(path),
    "mkdir": lambda disk, path: disk.make_directory((*path[:-1], b"new"), 0o755),
    "rmdir": lambda disk, path: disk.remove_directory((*path[:-1], b"empty")),
    "mode": lambda disk, path: disk.set_mode(path, 0o600),
    "mtime": lambda disk, path: disk.set_mtime(path, 1),
    "sync": lambda disk, path: disk.sync([path]),
}


def state(directory: FilePath) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for path in [directory, *sorted(directory.iterdir())]:
        seen = path.lstat()
        found.append((path.name, seen.st_mode, seen.st_mtime_ns, seen.st_ino, seen.st_ctime_ns))
    return found


@pytest.mark.parametrize("way", ["openat2", "components"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_no_operation_goes_through_a_symlink(
    disk: Filesystem,
    root: FilePath,
    monkeypatch: pytest.MonkeyPatch,
    operation: Callable[[Filesystem, Path], object],
    depth: int,
    way: str,
) -> None:
    if way == "components":
        monkeypatch.setattr(local_filesystem, "open_directory", open_by_components)
    outside = root.parent / "outside"
    inner = outside if depth == 1 else outside / "sub"
    inner.mkdir(parents=True)
    (inner / "empty").mkdir()
    (inner / "file").write_bytes(b"secret")
    (inner / os.fsdecode(temp_name(b"file"))).write_bytes(b"secret")
    (root / "mine").touch()
    (root / "link").symlink_to(outside)
    before = state(inner)
    path = (b"link", b"file") if depth == 1 else (b"link", b"sub", b"file")
    with pytest.raises((NotADirectoryError, FileNotFoundError)):
        operation(disk, path)
    assert disk.read_whole([path], 100) == {}
    assert disk.write_temps([NewTemp((*path[:-1], b"new"), b"mine", 0o644, 1)]) == {}
    assert state(inner) == before


@pytest.mark.slow
def test_a_directory_swapped_for_a_symlink_again_and_again_never_leads_out(root: FilePath) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "real").mkdir()
    (root / "swap").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        directory = os.open(root, LIST)
        while not stop.is_set():
            linux.renameat2(directory, b"real", directory, b"swap", linux.RENAME_EXCHANGE)
        os.close(directory)

    swapper = threading.Thread(target=swap)
    swapper.start()
    refused = 0
    with LocalFilesystem(root) as disk:
        for number in range(5000):
            try:
                with disk.open_temp((b"swap", b"%d" % number), create=True):
                    continue
            except NotADirectoryError:
                refused += 1
    stop.set()
    swapper.join()
    assert list(outside.iterdir()) == []
    assert 0 < refused < 5000


# Property 49: nothing hangs, and only plain files are read or written.


def test_only_plain_files_are_opened(disk: Filesystem, root: FilePath) -> None:
    os.mkfifo(root / "fifo")
    (root / "directory").mkdir()
    (root / "target").touch()
    (root / "link").symlink_to("target")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root, LIST)
        listener.bind(f"/proc/self/fd/{here}/socket")
        for name in (b"fifo", b"directory", b"link", b"socket"):
            with pytest.raises(NotRegularFile), disk.open_file((name,)):
                pass
            assert disk.read_whole([(name,)], 100) == {}
        os.close(here)


@pytest.mark.parametrize("plant", ["fifo", "link", "directory", "twin"])
def test_a_planted_temp_is_not_written(disk: Filesystem, root: FilePath, plant: str) -> None:
    temp = root / os.fsdecode(temp_name(b"file"))
    victim = root.parent / "victim"
    victim.write_bytes(b"precious")
    if plant == "fifo":
        os.mkfifo(temp)
    elif plant == "link":
        temp.symlink_to(victim)
    elif plant == "directory":
        temp.mkdir()
    else:
        temp.hardlink_to(victim)
    with pytest.raises(NotRegularFile), disk.open_temp(FILE, create=False):
        pass
    with pytest.raises(FileExistsError), disk.open_temp(FILE, create=True):
        pass
    assert victim.read_bytes() == b"precious"
