"""Temps written many at a time: each is what one alone would be, and whatever is unusual is left as it stands."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import pytest

from p2psync.errors import BugError, StorageError
from p2psync.ids import ChunkId, Plaintext
from p2psync.replica import new_temps
from p2psync.replica.assembly import Assembly
from p2psync.replica.filesystem import Filesystem, NewTemp, Path, temp_name, temp_path
from p2psync.replica.intake import Intake
from p2psync.replica.local_filesystem import LocalFilesystem
from tests.support.local_disk import write_temp

MTIME = 1_700_000_000_123_456_789
CALLS = ["open", "write", "fchmod", "utime", "fstat"]


def new(*names: bytes, data: bytes = b"data", mode: int = 0o644) -> NewTemp:
    return NewTemp(names, data, mode, MTIME)


def temp_of(root: FilePath, path: Path) -> FilePath:
    return root / os.fsdecode(b"/".join(temp_path(path)))


def test_temps_written_together_are_as_each_alone(disk: Filesystem, root: FilePath) -> None:
    dice = random.Random(1)
    sizes = (0, 1, 4096, 16 * 1024 - 1, 16 * 1024, 100_000)
    files = [new(b"d", b"%d" % size, data=dice.randbytes(size), mode=0o640) for size in sizes]
    files += [
        new(b"e", b"n" * 255, mode=0o7755), new(b"e", b"locked", mode=0o444), new(b"root"),
        new(b"d", b"zeros", data=bytes(1 << 20)),
    ]  # fmt: skip
    for name in ("d", "e"):
        (root / name).mkdir()
    old = os.umask(0o077)
    try:
        written = disk.write_temps(files)
    finally:
        os.umask(old)
    assert written.keys() == {each.path for each in files}
    for each in files:
        assert temp_of(root, each.path).read_bytes() == each.data
        seen = disk.temp_stat(each.path)
        assert seen == written[each.path] and seen.mtime_ns == MTIME and seen.mode == each.mode & 0o777
    assert temp_of(root, (b"d", b"zeros")).stat().st_blocks * 512 < 64 * 1024, "zeros take no room"


def _plant_file(root: FilePath) -> None:
    with LocalFilesystem(root) as disk:
        write_temp(disk, (b"d", b"odd"), b"precious")


def _plant_link(root: FilePath) -> None:
    temp_of(root, (b"d", b"odd")).symlink_to(root.parent / "outside")


UNUSUAL: dict[str, tuple[Callable[[FilePath], object], Path]] = {
    "a temp is there": (_plant_file, (b"d", b"odd")),
    "a symlink at the temp's name": (_plant_link, (b"d", b"odd")),
    "a FIFO at the temp's name": (lambda root: os.mkfifo(temp_of(root, (b"d", b"odd"))), (b"d", b"odd")),
    "a directory at the temp's name": (lambda root: temp_of(root, (b"d", b"odd")).mkdir(), (b"d", b"odd")),
    "no directory": (lambda root: None, (b"gone", b"odd")),
    "a file for a directory": (lambda root: (root / "file").touch(), (b"file", b"odd")),
    "a symlink for a directory": (lambda root: (root / "link").symlink_to("../outside"), (b"link", b"odd")),
    "a symlink further up": (lambda root: (root / "link").symlink_to("../outside"), (b"link", b"below", b"odd")),
    "a directory with too long a name": (lambda root: None, (b"n" * 300, b"odd")),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_unusual_is_left_out_untouched_and_stops_no_other(disk: Filesystem, root: FilePath, case: str) -> None:
    plant, odd = UNUSUAL[case]
    outside = root.parent / "outside"
    (outside / "below").mkdir(parents=True)
    (root / "d").mkdir()
    plant(root)
    before = sorted((str(path), path.lstat()) for path in [*root.rglob("*"), *outside.rglob("*")])
    assert disk.write_temps([new(*odd)]) == {}
    now = sorted((str(path), path.lstat()) for path in [*root.rglob("*"), *outside.rglob("*")])
    assert [(path, stat.st_ino, stat.st_size, stat.st_ctime_ns) for path, stat in now] == [
        (path, stat.st_ino, stat.st_size, stat.st_ctime_ns) for path, stat in before
    ]
    others = [new(b"d", b"one"), new(*odd), new(b"d", b"two")]
    assert disk.write_temps(others).keys() == {(b"d", b"one"), (b"d", b"two")}
    with pytest.raises((OSError, BugError)), disk.open_temp(odd, create=True):
        pass  # the usual way says why


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_what_is_no_name_is_a_bug(disk: Filesystem, name: bytes) -> None:
    for path in [(name,), (name, b"file")]:
        with pytest.raises(BugError):
            disk.write_temps([NewTemp(path, b"", 0o644, 1)])


def test_a_disk_that_takes_names_for_one_is_written_the_careful_way(root: FilePath) -> None:
    with LocalFilesystem(root) as disk:
        disk.folds = True
        assert disk.write_temps([new(b"file")]) == {}
    assert not list(root.iterdir())


class Calls:
    """The operating system of `new_temps`, in which one call fails, the second time it is made, or writes little."""

    def __init__(self, failing: str = "", code: int = 0) -> None:
        self._failing, self._code, self._made = failing, code, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._fail(real) if name == self._failing else real

    def _fail(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            self._made += 1
            if self._code == 0:
                return os.write(arguments[0], bytes(arguments[1][:3]))
            if self._made == 2:
                raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **named)

        return run


@pytest.mark.parametrize("call", CALLS)
def test_a_temp_that_could_not_be_finished_is_left_out(
    disk: Filesystem, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(new_temps, "os", Calls(call, errno.EPERM))
    assert disk.write_temps([new(b"1"), new(b"2"), new(b"3")]).keys() == {(b"1",), (b"3",)}
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_refusal_of_the_disk_itself_says_what_to_do(
    disk: Filesystem, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(new_temps, "os", Calls(call, code))
    with pytest.raises(StorageError, match=";"):
        disk.write_temps([new(b"1"), new(b"2"), new(b"3")])
    assert disk.temp_stat((b"3",)) is None, "nothing is tried after it"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_that_writes_a_little_at_a_time_gets_all_of_it(
    disk: Filesystem, root: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_temps, "os", Calls("write"))
    assert disk.write_temps([new(b"f", data=b"0123456789")])[(b"f",)].size == 10
    assert (root / os.fsdecode(temp_name(b"f"))).read_bytes() == b"0123456789"


# The intake.


def test_small_chunks_are_handed_on_together_large_ones_at_once_and_all_before_an_error() -> None:
    handed: list[list[int]] = []

    def take(came: object) -> list[Assembly]:
        assert isinstance(came, list)
        handed.append([len(plain) for _, plain in came])
        return []

    intake = Intake(take)
    with pytest.raises(ValueError), intake:
        for number, size in enumerate((10, 20, 2 << 20, 3 << 20, 5, 6)):
            intake.add(ChunkId(bytes([number]) * 32), Plaintext(bytes(size)))
        raise ValueError
    assert handed == [[10, 20, 2 << 20], [3 << 20], [5, 6]]
    assert [chunk[0] for chunk in intake.got] == [0, 1, 2, 3, 4, 5]


def test_what_could_not_be_kept_does_not_count_and_is_not_tried_again() -> None:
    tried: list[int] = []

    def refuse(came: object) -> list[Assembly]:
        assert isinstance(came, list)
        tried.append(len(came))
        raise StorageError("full")

    intake = Intake(refuse)
    with pytest.raises(StorageError), intake:
        intake.add(ChunkId(bytes(32)), Plaintext(bytes(2 << 20)))
    assert (tried, intake.got) == ([1], [])
