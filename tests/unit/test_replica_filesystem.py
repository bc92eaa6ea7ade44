"""The local filesystem's contract: what it shows, its temps, its root, what is durable and what it says when it fails."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import BugError, FolderStopped, StorageError
from p2psync.replica import linux, local_filesystem, open_files
from p2psync.replica.filesystem import (
    Filesystem,
    Kind,
    NotRegularFile,
    Path,
    is_temp_name,
    not_durable,
    storage_error,
    temp_name,
    temp_path,
    translated,
)
from p2psync.replica.local_filesystem import LocalFilesystem
from tests.support.local_disk import FILE, write_temp


def refuse_holes(*_arguments: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "this filesystem has no holes")


# Looking.


def test_a_listing_is_sorted_complete_and_exact(disk: Filesystem, root: FilePath) -> None:
    (root / "b").write_bytes(b"12345")
    (root / "a").mkdir()
    (root / os.fsdecode(b"\xff")).symlink_to("b")
    os.mkfifo(root / "c")
    listed = disk.list_directory(())
    assert [name for name, _ in listed] == [b"a", b"b", b"c", b"\xff"]
    assert [entry.kind for _, entry in listed] == [Kind.DIRECTORY, Kind.FILE, Kind.OTHER, Kind.SYMLINK]
    truth = (root / "b").stat()
    assert listed[1][1].fingerprint == (
        truth.st_dev, truth.st_ino, 5, truth.st_mtime_ns, truth.st_ctime_ns
    )  # fmt: skip
    assert listed[1][1] == disk.stat((b"b",))
    assert disk.read_link((b"\xff",)) == b"b"


def test_many_are_looked_at_as_each_alone(disk: Filesystem, root: FilePath) -> None:
    (root / "d").mkdir()
    for name in ("file", "d/one", "d/two"):
        (root / name).write_text(name)
    (root / "link").symlink_to("d")
    paths = [
        (), FILE, (b"d",), (b"d", b"one"), (b"d", b"two"), (b"d", b"gone"), (b"link", b"one"), (b"gone", b"one"),
        (b"file", b"one"), (b"d", b"n" * 300),
    ]  # fmt: skip
    seen = disk.stats(paths[1:])
    assert set(paths[1:]) - seen.keys() == {(b"d", b"n" * 300)}  # only `stat` says why not
    assert all(disk.stat(path) == stat for path, stat in seen.items())
    with pytest.raises(BugError):
        disk.stats([(b"d", b"..")])


def test_what_is_not_there_is_none_or_not_found(disk: Filesystem, root: FilePath) -> None:
    (root / "file").touch()
    assert disk.stat((b"gone",)) is None
    assert disk.stat((b"file", b"below")) is None
    with pytest.raises(FileNotFoundError):
        disk.list_directory((b"gone",))
    with pytest.raises(NotADirectoryError):
        disk.list_directory(FILE)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/etc", b"a\0b"])
def test_what_is_no_name_never_reaches_the_disk(disk: Filesystem, name: bytes) -> None:
    for path in [(name,), (name, b"file"), (b"file", name)]:
        with pytest.raises(BugError):
            disk.stat(path)
        with pytest.raises(BugError):
            disk.make_directory(path, 0o755)


def test_paths_longer_than_the_system_takes_work(disk: Filesystem, root: FilePath) -> None:
    path: Path = ()
    for depth in range(25):
        path = (*path, b"%02d" % depth + b"n" * 200)
        disk.make_directory(path, 0o755)
    write_temp(disk, (*path, b"file"), b"deep")
    disk.place_new((*path, b"file"))
    with disk.open_file((*path, b"file")) as file:
        assert file.read(0, 10) == b"deep"
    shutil.rmtree(root / os.fsdecode(path[0]))


# Temps.


def test_a_temp_is_private_until_it_is_told_otherwise(disk: Filesystem) -> None:
    old = os.umask(0)
    try:
        with disk.open_temp(FILE, create=True) as temp:
            assert temp.stat().mode == 0o600
    finally:
        os.umask(old)


def test_bits_that_give_rights_away_are_never_set(disk: Filesystem, root: FilePath) -> None:
    with disk.open_temp(FILE, create=True) as temp:
        temp.set_meta(0o7755, 12345)
        assert temp.stat().mode == 0o755
        assert temp.stat().mtime_ns == 12345
    disk.place_new(FILE)
    disk.set_mode(FILE, 0o6711)
    disk.make_directory((b"d",), 0o7750)
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o711
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750


def test_a_symlink_has_no_mode_to_set_but_a_time(disk: Filesystem, root: FilePath) -> None:
    target = root.parent / "target"
    target.write_bytes(b"")
    before = target.stat()
    disk.make_temp_symlink(FILE, os.fsencode(target))
    disk.place_new(FILE)
    with pytest.raises(NotRegularFile):
        disk.set_mode(FILE, 0o777)
    disk.set_mtime(FILE, 77)
    placed = disk.stat(FILE)
    assert placed is not None and placed.kind is Kind.SYMLINK and placed.mtime_ns == 77
    assert target.stat() == before


@given(name=st.binary(min_size=1, max_size=255))
def test_every_temp_name_fits_and_is_known_as_one(name: bytes) -> None:
    assert len(temp_name(name)) <= 255
    assert is_temp_name(temp_name(name))
    assert temp_path((b"d", name)) == (b"d", temp_name(name))


def test_long_names_have_temps_of_their_own(disk: Filesystem) -> None:
    first, second = b"n" * 254 + b"1", b"n" * 254 + b"2"
    write_temp(disk, (first,), b"1")
    write_temp(disk, (second,), b"2")
    disk.place_new((first,))
    disk.place_new((second,))
    with disk.open_file((first,)) as file:
        assert file.read(0, 9) == b"1"


HOLE = 16 * 1024
BLOCKS = st.lists(
    st.tuples(
        st.integers(0, 5 * HOLE),
        st.sampled_from([bytes(HOLE), bytes(3 * HOLE), b"x" * HOLE, bytes(2 * HOLE) + b"y", bytes(100)]),
    ),
    max_size=8,
)


@given(first=BLOCKS, second=BLOCKS, holes=st.booleans(), aligned=st.booleans())
def test_holes_read_as_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, first: list, second: list, holes: bool, aligned: bool
) -> None:
    expected = bytearray()
    with pytest.MonkeyPatch.context() as patch, LocalFilesystem(tmp_path_factory.mktemp("holes")) as disk:
        if not holes:
            patch.setattr(linux, "punch_hole", refuse_holes)
        for create, blocks in ((True, first), (False, second)):
            with disk.open_temp(FILE, create=create) as temp:
                for place, data in blocks:
                    at = place // HOLE * HOLE if aligned else place
                    temp.write(data, at)
                    expected.extend(bytes(max(0, at + len(data) - len(expected))))
                    expected[at : at + len(data)] = data
                temp.truncate(len(expected))
                assert temp.read(0, 1 << 20) == expected


def test_zeros_take_no_room_wherever_and_in_whatever_order_they_come(disk: Filesystem, root: FilePath) -> None:
    with disk.open_temp(FILE, create=True) as temp:
        temp.write(b"x" * (3 << 20), 0)
        for number in random.Random(1).sample(range(16), 16):
            temp.write(bytes(2 << 20) + b"data" + bytes((1 << 20) - 4), number * (3 << 20))
        temp.truncate(48 << 20)
    assert (root / os.fsdecode(temp_name(b"file"))).stat().st_blocks * 512 < 16 * 64 * 1024


def test_zeros_of_one_worker_take_nothing_from_what_another_wrote_behind_them(disk: Filesystem) -> None:
    with disk.open_temp(FILE, create=True) as one, disk.open_temp(FILE, create=False) as other:
        other.write(b"x" * HOLE, 4 * HOLE)
        one.write(bytes(HOLE), 0)
        one.truncate(5 * HOLE)
        assert one.read(0, 1 << 20) == bytes(4 * HOLE) + b"x" * HOLE


def test_removing_a_temp_twice_is_fine(disk: Filesystem) -> None:
    write_temp(disk, FILE, b"")
    disk.remove_temp(FILE)
    disk.remove_temp(FILE)
    assert disk.temp_stat(FILE) is None


# The root.


def test_a_missing_or_replaced_root_stops_the_folder(disk: Filesystem, root: FilePath) -> None:
    opened = root.stat()
    assert disk.check_root() == (opened.st_dev, opened.st_ino)
    root.rename(root.parent / "away")
    with pytest.raises(FolderStopped):
        disk.check_root()
    root.mkdir()
    with pytest.raises(FolderStopped, match="another directory"):
        disk.check_root()
    root.rmdir()
    root.touch()
    with pytest.raises(FolderStopped):
        disk.check_root()
    for path in (root, root.parent / "nothing"):
        with pytest.raises(FolderStopped):
            LocalFilesystem(path)


# Durability.


@pytest.mark.parametrize("count", [1, 31, 32, 100])
def test_a_group_is_synced_with_few_calls(disk: Filesystem, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    calls: list[str] = []
    monkeypatch.setattr(local_filesystem.os, "fsync", lambda _descriptor: calls.append("fsync"))
    monkeypatch.setattr(linux, "syncfs", lambda _descriptor: calls.append("syncfs"))
    disk.make_directory((b"d",), 0o755)
    paths = [(b"d", b"%d" % number) for number in range(count)]
    for path in paths:
        write_temp(disk, path, b"x")
    disk.sync([temp_path(path) for path in paths])
    assert calls == (["fsync"] * (count + 1) if count < 32 else ["syncfs"])


def test_a_failed_sync_is_never_durable(disk: Filesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(local_filesystem.os, "fsync", fail)
    monkeypatch.setattr(linux, "syncfs", fail)
    for number in range(40):
        write_temp(disk, (b"%d" % number,), b"x")
    temps = [temp_path((b"%d" % number,)) for number in range(40)]
    for group in (temps[:1], temps):
        with pytest.raises(StorageError):
            disk.sync(group)
    with disk.open_temp((b"0",), create=False) as temp, pytest.raises(StorageError):
        temp.sync()


def test_symlinks_directories_and_the_root_can_be_synced(disk: Filesystem) -> None:
    disk.make_temp_symlink(FILE, b"x")
    disk.make_directory((b"d",), 0o755)
    disk.sync([temp_path(FILE), (b"d",), ()])
    with pytest.raises(FileNotFoundError):
        disk.sync([(b"gone",)])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_refusal_of_the_disk_says_what_to_do(disk: Filesystem, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with disk.open_temp(FILE, create=True) as temp:
        monkeypatch.setattr(open_files.os, "pwrite", refuse)
        with pytest.raises(StorageError, match=";"):
            temp.write(b"data", 0)
    assert isinstance(not_durable(OSError(errno.EPERM, "no")), StorageError)


def test_other_errors_pass_as_they_are() -> None:
    @translated
    def fail() -> None:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        fail()
    assert storage_error(OSError(errno.EACCES, "no")) is None


def test_free_room_is_what_the_system_says(disk: Filesystem, root: FilePath) -> None:
    assert abs(disk.free_bytes() - shutil.disk_usage(root).free) < 1 << 30


def test_no_operation_leaks_a_descriptor(disk: Filesystem, root: FilePath) -> None:
    (root / "d").mkdir()
    (root / "d" / "file").touch()
    os.mkfifo(root / "d" / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for path in ((b"d", b"file"), (b"d", b"fifo"), (b"gone", b"file"), (b"d", b"file", b"x")):
            for operation in (disk.stat, disk.temp_stat, disk.list_directory, disk.read_link, disk.remove_directory):
                try:
                    operation(path)
                except OSError:
                    continue
            disk.stats([path, path])
            for create in (None, False):
                try:
                    with disk.open_file(path) if create is None else disk.open_temp(path, create):
                        continue
                except (OSError, NotRegularFile):
                    continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_temp_that_went_with_its_directory_is_gone(disk: Filesystem, root: FilePath) -> None:
    disk.remove_temp((b"never", b"there"))
    assert not list(root.iterdir())
