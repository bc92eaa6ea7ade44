"""Rows: operations that follow one another in one directory go down to it once, and never further than that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from p2psync.replica.filesystem import Filesystem, Path
from p2psync.replica.local_filesystem import LocalFilesystem
from tests.support.local_disk import write_temp

D = (b"d",)
TAKING: dict[str, Callable[[Filesystem], object]] = {
    "to temp": lambda disk: disk.move_to_temp(D),
    "move": lambda disk: disk.move(D, (b"elsewhere",)),
    "swap": lambda disk: disk.swap(D, (b"other",)),
    "exchange": lambda disk: (disk.make_temp_symlink(D, b"x"), disk.exchange(D)),
}


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every directory that was gone down to, in order."""
    seen: list[Path] = []
    original = LocalFilesystem._open_directory

    def counted(disk: LocalFilesystem, path: Path, flags: int) -> int:
        seen.append(path)
        return original(disk, path, flags)

    monkeypatch.setattr(LocalFilesystem, "_open_directory", counted)
    return seen


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_row_goes_down_once_for_neighbours_and_keeps_nothing_open(disk: Filesystem, ways: list[Path]) -> None:
    for directory in (b"d", b"e"):
        disk.make_directory((directory,), 0o755)
        for name in (b"1", b"2", b"3"):
            write_temp(disk, (directory, name), name)
    before = descriptors()
    ways.clear()
    with disk.in_a_row():
        for directory in (b"d", b"e"):
            for name in (b"1", b"2", b"3"):
                disk.place_new((directory, name))
                disk.set_mode((directory, name), 0o600)
    assert ways == [(b"d",), (b"e",)]
    assert descriptors() == before


@pytest.mark.parametrize("take_away", TAKING.values(), ids=TAKING.keys())
def test_a_directory_that_was_taken_away_is_not_written_to_under_its_old_name(
    disk: Filesystem, root: FilePath, take_away: Callable[[Filesystem], object]
) -> None:
    (root / "other").mkdir()
    disk.make_directory(D, 0o755)
    for name in (b"1", b"2"):
        write_temp(disk, (*D, name), name)
    with disk.in_a_row():
        disk.place_new((*D, b"1"))
        take_away(disk)
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            disk.place_new((*D, b"2"))


def test_a_row_goes_through_no_symlink(disk: Filesystem, root: FilePath) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with disk.in_a_row():
        assert disk.stat((b"link",)) is not None
        with pytest.raises(NotADirectoryError):
            disk.make_directory((b"link", b"new"), 0o755)
    assert not list(outside.iterdir())


def test_a_row_that_fails_closes_what_it_had_open(disk: Filesystem) -> None:
    disk.make_directory(D, 0o755)
    before = descriptors()
    with pytest.raises(FileNotFoundError), disk.in_a_row():
        disk.place_new((*D, b"no temp"))
    assert descriptors() == before


def test_a_move_between_directories_in_a_row_finds_both(disk: Filesystem, root: FilePath) -> None:
    for directory in (b"d", b"e"):
        disk.make_directory((directory,), 0o755)
    for name in (b"1", b"2"):
        (root / "d" / os.fsdecode(name)).write_bytes(name)
    with disk.in_a_row():
        assert disk.stat((*D, b"1")) is not None
        disk.move((*D, b"1"), (b"e", b"moved"))
        disk.swap((*D, b"2"), (b"e", b"moved"))
    assert (root / "e" / "moved").read_bytes() == b"2" and (root / "d" / "2").read_bytes() == b"1"
