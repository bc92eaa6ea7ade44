"""Placing, exchanging and moving names: nothing of the user's is overwritten, whatever the system's renames can do."""

from __future__ import annotations

import errno
import os
from pathlib import Path as FilePath

import pytest

from p2psync.errors import StorageError
from p2psync.replica import linux, renaming
from p2psync.replica.filesystem import Filesystem, temp_name
from tests.support.local_disk import FILE, write_temp


def refuse_flags(*_arguments: object) -> None:
    raise OSError(errno.EINVAL, "this filesystem has no such flag")


def refuse_all(*_arguments: object) -> None:
    raise OSError(errno.EIO, "input/output error")


def refuse_links(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EPERM, "this filesystem has no hard links")


@pytest.fixture(params=["renameat2", "hard links", "bare renames"])
def renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with each way of renaming; the poorer ones by refusing what the richer ones call."""
    if request.param != "renameat2":
        monkeypatch.setattr(linux, "renameat2", refuse_flags)
    if request.param == "bare renames":
        monkeypatch.setattr(renaming.os, "link", refuse_links)
    return str(request.param)


def test_placing_never_overwrites(disk: Filesystem, root: FilePath, renames: str) -> None:
    (root / "file").write_bytes(b"the user's")
    write_temp(disk, FILE, b"ours")
    with pytest.raises(FileExistsError):
        disk.place_new(FILE)
    assert (root / "file").read_bytes() == b"the user's"
    (root / "file").unlink()
    disk.place_new(FILE)
    assert (root / "file").read_bytes() == b"ours"
    assert disk.temp_stat(FILE) is None


@pytest.mark.parametrize("kind", ["file", "symlink", "directory"])
def test_an_exchange_keeps_what_was_displaced_and_goes_back(
    disk: Filesystem, root: FilePath, renames: str, kind: str
) -> None:
    if kind == "file":
        (root / "file").write_bytes(b"the user's")
    elif kind == "symlink":
        (root / "file").symlink_to("nowhere")
    else:
        (root / "file").mkdir()
        (root / "file" / "inside").touch()
    before = disk.stat(FILE)
    assert before is not None
    write_temp(disk, FILE, b"ours")
    displaced = disk.exchange(FILE)
    assert (displaced.kind, displaced.inode) == (before.kind, before.inode)
    assert (root / "file").read_bytes() == b"ours"
    disk.exchange_back(FILE)
    restored = disk.stat(FILE)
    assert restored is not None and restored.inode == before.inode
    assert sorted(name for name, _ in disk.list_directory(())) == sorted([b"file", temp_name(b"file")])


def test_an_exchange_that_fails_midway_leaves_both_as_they_were(
    disk: Filesystem, root: FilePath, renames: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").write_bytes(b"the user's")
    write_temp(disk, FILE, b"ours")
    before = disk.list_directory(())
    rename = os.rename

    def refuse(source: bytes, target: bytes, **directories: int) -> None:
        if source == temp_name(b"file"):
            raise OSError(errno.EIO, "input/output error")
        rename(source, target, **directories)

    monkeypatch.setattr(renaming.os, "rename", refuse)
    if renames == "renameat2":
        monkeypatch.setattr(linux, "renameat2", refuse_all)
    with pytest.raises(StorageError):
        disk.exchange(FILE)
    after = disk.list_directory(())
    assert [(name, seen.inode) for name, seen in after] == [(name, seen.inode) for name, seen in before]


def test_an_exchange_needs_both_names(disk: Filesystem, root: FilePath, renames: str) -> None:
    write_temp(disk, FILE, b"ours")
    with pytest.raises(FileNotFoundError):
        disk.exchange(FILE)
    disk.remove_temp(FILE)
    (root / "file").write_bytes(b"the user's")
    with pytest.raises(FileNotFoundError):
        disk.exchange(FILE)
    assert (root / "file").read_bytes() == b"the user's"


def test_a_move_never_overwrites(disk: Filesystem, root: FilePath, renames: str) -> None:
    for name in ("a", "b"):
        (root / name).write_bytes(name.encode())
    (root / "tree").mkdir()
    (root / "empty").mkdir()
    with pytest.raises(FileExistsError):
        disk.move((b"a",), (b"b",))
    with pytest.raises(FileExistsError):
        disk.move((b"tree",), (b"empty",))
    disk.move((b"a",), (b"tree", b"c"))
    disk.move((b"tree",), (b"forest",))
    assert (root / "forest" / "c").read_bytes() == b"a"
    assert (root / "b").read_bytes() == b"b"


def test_a_careful_delete_can_be_taken_back(disk: Filesystem, root: FilePath, renames: str) -> None:
    (root / "file").write_bytes(b"the user's")
    before = disk.stat(FILE)
    taken = disk.move_to_temp(FILE)
    assert before is not None and taken.inode == before.inode and disk.stat(FILE) is None
    disk.place_new(FILE)
    assert (root / "file").read_bytes() == b"the user's"
    write_temp(disk, FILE, b"in the way")
    with pytest.raises(FileExistsError):
        disk.move_to_temp(FILE)
    assert (root / "file").read_bytes() == b"the user's"


def test_only_empty_directories_are_removed(disk: Filesystem, root: FilePath) -> None:
    disk.make_directory((b"d",), 0o700)
    (root / "d" / "file").touch()
    with pytest.raises(OSError, match="not empty"):
        disk.remove_directory((b"d",))
    (root / "d" / "file").unlink()
    disk.remove_directory((b"d",))
    assert disk.list_directory(()) == []


def test_the_root_itself_is_not_for_replacing(disk: Filesystem) -> None:
    for operation in (disk.move_to_temp, disk.place_new, disk.remove_directory):
        with pytest.raises(IsADirectoryError):
            operation(())
