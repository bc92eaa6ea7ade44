"""Files that are not plain bytes under a plain name: sparse ones, hard links, special files, names some disks refuse."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from p2psync.index.paths import fold_key
from p2psync.replica.filesystem import NewTemp, Stat
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import Replica
from p2psync.replica.scanner import look
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.replica.test_replica_two_devices import two_devices
from tests.support.devices import Device, converge, until

pytestmark = pytest.mark.slow

MIB = 1 << 20


class Later(SystemClock):
    """An hour ahead, so that everything on the disk looks settled."""

    def now(self) -> float:
        return super().now() + 3600


def room(path: Path) -> int:
    """Bytes of the disk a file takes."""
    return path.stat().st_blocks * 512


async def test_sparse_files_stay_sparse(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1, clock=Later()), Device(tmp_path / "b", 2)
    a.found()
    chance = random.Random(1)
    with (a.root / "image").open("wb") as file:
        for place in (0, 20 * MIB + 5, 21 * MIB, 65 * MIB - 3):
            file.seek(place)
            file.write(chance.randbytes(5000))
        file.truncate(70 * MIB)
    (a.root / "empty").touch()
    os.truncate(a.root / "empty", 3 * MIB)
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert a.tree() == b.tree()
            assert room(b.root / "image") < MIB
            assert room(b.root / "empty") < 64 * 1024
            with (a.root / "image").open("r+b") as file:
                file.seek(40 * MIB)
                file.write(b"later")
            await converge(first, second)
            assert a.tree() == b.tree()
            assert room(b.root / "image") < 2 * MIB


async def test_each_name_of_a_hard_link_is_a_file_of_its_own(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("one", b"1" * 100_000)
        os.link(a.root / "one", a.root / "two")
        await converge(first, second)
        assert a.tree() == b.tree()
        assert {(b.root / name).stat().st_nlink for name in ("one", "two")} == {1}
        with (a.root / "one").open("ab") as file:
            file.write(b"more")
        await converge(first, second)
        assert b.tree()["one"] == b.tree()["two"] == a.tree()["one"]
        (a.root / "one").unlink()
        await converge(first, second)
        assert a.tree() == b.tree() and list(b.tree()) == ["two"]


async def test_nothing_is_written_through_a_hard_link_out_of_the_folder(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("f", b"old" * 50_000)
        await converge(first, second)
        outside = tmp_path / "outside"
        os.link(b.root / "f", outside)
        a.write("f", b"new" * 50_000)
        (a.root / "f").chmod(0o600)
        await converge(first, second)
        assert a.tree() == b.tree()
        assert outside.read_bytes() == b"old" * 50_000


async def test_special_files_are_named_and_left_alone_and_the_rest_syncs(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("was plain", b"1")
        await converge(first, second)
        os.mkfifo(a.root / "pipe")
        (a.root / "was plain").unlink()
        os.mkfifo(a.root / "was plain")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(a.root / "socket"))
            a.write("plain", b"2")
            await converge(first, second)
            assert sorted(b.tree()) == ["plain", "was plain"]
            assert b.tree()["was plain"][1] == b"1"
            named = dict((await first.status()).problems)
            assert named.keys() == {"pipe", "socket", "was plain"}
            assert all("special file" in reason for reason in named.values())


async def test_a_special_file_in_the_way_is_never_replaced(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        os.mkfifo(b.root / "pipe")
        await converge(first, second)
        a.write("pipe", b"now a file")
        a.write("rest", b"1")
        await until(second, lambda status: (b.root / "rest").exists() and len(status.problems) == 1)
        assert (b.root / "pipe").is_fifo()
        assert "pipe" in dict((await second.status()).problems)
        (b.root / "pipe").unlink()
        await converge(first, second)
        assert a.tree() == b.tree()


# Names.


class FoldingFilesystem(LocalFilesystem):
    """As a disk that keeps the case of names and finds them in any: each name means the entry that folds alike."""

    @contextmanager
    def _parent(self, path: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
        with super()._parent(path) as (parent, name):
            yield parent, _meant(parent, name)

    def _open_directory(self, path: tuple[bytes, ...], flags: int) -> int:
        here = super()._open_directory((), flags)
        for name in path:
            try:
                below = os.open(_meant(here, name), flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here


def _meant(directory: int, name: bytes) -> bytes:
    return next((each for each in map(os.fsencode, _listed(directory)) if fold_key(each) == fold_key(name)), name)


def _listed(directory: int) -> list[str]:
    return os.listdir(f"/proc/self/fd/{directory}")  # the descriptor itself may be for passing through only


class FussyFilesystem(LocalFilesystem):
    """As a disk that knows no colon in a name (NTFS, FAT)."""

    @contextmanager
    def _parent(self, path: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
        if b":" in path[-1]:
            raise OSError(errno.EINVAL, "Invalid argument")
        with super()._parent(path) as (parent, name):
            yield parent, name

    def write_temps(self, files: Sequence[NewTemp]) -> dict[tuple[bytes, ...], Stat]:
        return super().write_temps([new for new in files if b":" not in new.path[-1]])


@asynccontextmanager
async def beside_a_disk(
    home: Path, disk: type[LocalFilesystem]
) -> AsyncIterator[tuple[Device, Device, Replica, Replica]]:
    """An ordinary device, and one whose disk is special."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1), Device(home / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store, make_filesystem=disk) as second:
            yield a, b, first, second


async def test_names_a_disk_refuses_are_named_and_the_rest_syncs(tmp_path: Path) -> None:
    async with beside_a_disk(tmp_path, FussyFilesystem) as (a, b, _, second):
        a.write("a:b", b"1" * 100_000)
        a.write("dir:x/inside", b"1")
        a.write("rest/f", b"1")
        await until(second, lambda status: "rest/f" in b.tree() and len(status.problems) == 3)
        assert sorted(b.tree()) == ["rest", "rest/f"]
        named = dict((await second.status()).problems)
        assert named.keys() == {"a:b", "dir:x", "dir:x/inside"}
        assert all("cannot be written: Invalid argument" in reason for reason in named.values())
        seen: list[int] = []
        for number in range(5):
            a.write(f"more {number}", b"1")
            await until(
                second, lambda status, name=f"more {number}": seen.append(len(status.problems)) or name in b.tree()
            )
        assert set(seen) == {3}, "what is refused is shown without a break"


async def test_names_a_disk_takes_for_one_never_meet_and_the_second_is_named(tmp_path: Path) -> None:
    async with beside_a_disk(tmp_path, FoldingFilesystem) as (a, b, first, second):
        a.write("File", b"capital" * 20_000)
        a.write("Dir/x", b"1")
        await converge(first, second)
        a.write("file", b"small" * 20_000)
        a.write("dir/y", b"2")
        a.write("rest", b"1")
        await until(second, lambda status: "rest" in b.tree() and len(status.problems) == 3)
        before = a.tree()
        assert sorted(b.tree()) == ["Dir", "Dir/x", "File", "rest"]
        assert b.tree()["File"][1] == b"capital" * 20_000
        named = dict((await second.status()).problems)
        assert named.keys() == {"file", "dir", "dir/y"}
        assert "takes it for File" in named["file"]
        await second.rescan()
        assert a.tree() == before
        (a.root / "File").unlink()
        (a.root / "Dir/x").unlink()
        (a.root / "Dir").rmdir()
        await converge(first, second)
        assert a.tree() == b.tree() and sorted(b.tree()) == ["dir", "dir/y", "file", "rest"]
        (b.root / "file").rename(b.root / "FILE")
        await converge(first, second)
        assert a.tree() == b.tree() and "FILE" in a.tree() and "file" not in a.tree()


async def test_namesakes_that_come_together_are_not_mixed(tmp_path: Path) -> None:
    """Their temps have one name, too."""
    async with beside_a_disk(tmp_path, FoldingFilesystem) as (a, b, _, second):
        names = [f"{stem}{number}" for number in range(6) for stem in ("File", "file", "FILE")]
        for name in names:
            a.write(name, name.encode() * 50_000)
        await until(second, lambda status: len(b.tree()) == 6 and len(status.problems) == 12)
        for name, (_, content, _) in b.tree().items():
            assert content == name.encode() * 50_000
        await second.rescan()
        assert sorted(a.tree()) == sorted(names)
        assert all(content == name.encode() * 50_000 for name, (_, content, _) in a.tree().items())


async def test_deleting_a_namesake_elsewhere_deletes_nothing_here(tmp_path: Path) -> None:
    async with beside_a_disk(tmp_path, FoldingFilesystem) as (a, b, first, second):
        a.write("File", b"1")
        await converge(first, second)
        a.write("file", b"2")
        await until(second, lambda status: status.need_files == 1)
        (a.root / "file").unlink()
        await converge(first, second)
        assert a.tree() == b.tree() and sorted(b.tree()) == ["File"]


async def test_names_nobody_may_sync_are_named_and_the_rest_syncs(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        for name in (".P2PSYNC", "nested/.p2psync", ".p2p\u200bsync"):
            a.write(f"{name}/f", b"1")
        for name in (".stfolder/x", ".syncthing.f.tmp", "\x1b[2J\n", "plain"):
            a.write(name, b"1")
        (a.root / os.fsdecode(b"no utf-8 \xff")).write_bytes(b"1")
        await converge(first, second)
        assert sorted(b.tree()) == ["\x1b[2J\n", "nested", "no utf-8 \udcff", "plain"]
        named = dict((await first.status()).problems)
        assert named.keys() == {".P2PSYNC", "nested/.p2psync", ".p2p\\u200bsync"}
        assert all("keeps for itself" in reason for reason in named.values())
        look(first._context, [(b".P2PSYNC",), (b"nested", b".p2psync")])
        assert dict((await first.status()).problems) == named, "what is in them is not named one by one"
