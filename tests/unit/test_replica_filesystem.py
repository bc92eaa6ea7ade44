"""The local filesystem: its contract, and that nothing leads out of the root."""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import BugError, FolderStopped, StorageError
from p2psync.replica import linux, local_filesystem, open_files, renaming
from p2psync.replica.descent import LIST, open_by_components
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

FILE = (b"file",)


def refuse_flags(*_arguments: object) -> None:
    raise OSError(errno.EINVAL, "this filesystem has no such flag")


def refuse_all(*_arguments: object) -> None:
    raise OSError(errno.EIO, "input/output error")


def refuse_holes(*_arguments: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "this filesystem has no holes")


def refuse_links(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EPERM, "this filesystem has no hard links")


@pytest.fixture
def root(tmp_path: FilePath) -> FilePath:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def disk(root: FilePath) -> Iterator[Filesystem]:
    with LocalFilesystem(root) as filesystem:
        yield filesystem


@pytest.fixture(params=["renameat2", "hard links", "bare renames"])
def renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with each way of renaming; the poorer ones by refusing what the richer ones call."""
    if request.param != "renameat2":
        monkeypatch.setattr(linux, "renameat2", refuse_flags)
    if request.param == "bare renames":
        monkeypatch.setattr(renaming.os, "link", refuse_links)
    return str(request.param)


def write_temp(disk: Filesystem, path: Path, data: bytes) -> None:
    with disk.open_temp(path, create=True) as temp:
        temp.write(data, 0)


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


# Names.


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
