"""Disks that take fewer extended attributes than others, or none, and sets that no record can carry: nothing is lost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.planner.xattrs import FLAWS, UNSUPPORTED, Look, Shown
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.open_files import LocalOpenFile, LocalTempFile
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge
from tests.support.tagging import devices, needs_xattrs, problems, put, shown

pytestmark = pytest.mark.slow

ON = True


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return needs_xattrs(tmp_path)


@pytest.fixture
def roomy() -> Iterator[Path]:
    """A disk that takes large attributes, as tmpfs does and ext4 does not."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield needs_xattrs(Path(directory))


async def test_what_a_small_disk_refuses_is_named_passed_on_and_holds_up_nothing(home: Path, roomy: Path) -> None:
    try:
        os.setxattr(home, "user.probe", b"x" * 10_000)
    except OSError:
        pass
    else:
        pytest.skip("this disk takes large extended attributes")
    async with devices(roomy, ON, ON, other=home) as (a, b, first, second):
        a.write("file", b"content")
        (a.root / "d").mkdir()
        for name in ("file", "d"):
            put(a, name, large=b"x" * 10_000, small=b"fits")
        a.write("other", b"other")
        await converge(first, second)
        assert b.tree() == a.tree() and shown(b, "file") == shown(b, "d") == {"small": b"fits"}
        named = await problems(second)
        assert named["file"] == named["d"] == FLAWS[Look.REFUSED] and "disk" not in named
        assert (await second.explain((b"file",))).reasons == (FLAWS[Look.REFUSED],)
        b.write("file", b"edited on the small disk")
        put(b, "file", small=b"changed")
        (b.root / "d" / "inside").write_bytes(b"1")
        await converge(first, second)
        assert shown(a, "file") == {"large": b"x" * 10_000, "small": b"changed"}
        (b.root / "d" / "inside").unlink()  # a flagged directory holds back no deletion
        await converge(first, second)
        assert not (a.root / "d" / "inside").exists() and shown(a, "d")["large"]
        for name in ("file", "d"):
            put(a, name, large=b"small now")
        await converge(first, second)
        assert shown(b, "file") == {"large": b"small now", "small": b"changed"} and await problems(second) == {}


async def test_more_than_a_record_can_carry_stays_where_it_is_and_is_named(home: Path, roomy: Path) -> None:
    async with devices(roomy, ON, ON, other=home) as (a, b, first, second):
        a.write("file", b"content")
        put(a, "file", tag=b"agreed")
        await converge(first, second)
        put(a, "file", huge=b"x" * 20_000)
        a.write("file", b"edited, too")
        await converge(first, second)
        assert b.tree() == a.tree() and shown(b, "file") == {"tag": b"agreed"}
        assert await problems(first) == {"file": FLAWS[Look.TOO_LARGE]}
        put(b, "file", tag=b"changed there")
        await converge(first, second)
        assert shown(a, "file") == {"tag": b"agreed", "huge": b"x" * 20_000}, "what is the user's alone is not touched"
        put(a, "file", huge=None)
        await converge(first, second)
        assert shown(a, "file") == shown(b, "file") == {"tag": b"changed there"} and await problems(first) == {}


class Keepless(LocalFilesystem):
    """A disk without extended attributes, as FAT is."""

    def xattrs(self, path: tuple[bytes, ...]) -> Shown:
        return Look.UNSUPPORTED

    def set_xattrs(self, path: tuple[bytes, ...], wanted: object) -> Shown:
        return Look.UNSUPPORTED

    def open_file(self, path: tuple[bytes, ...]) -> LocalOpenFile:
        return _KeeplessFile(self._open_for_reading(path))

    def open_temp(self, path: tuple[bytes, ...], create: bool) -> LocalTempFile:
        return _KeeplessTemp(self._open_temp_descriptor(path, create))


class _KeeplessFile(LocalOpenFile):
    def xattrs(self) -> Shown:
        return Look.UNSUPPORTED


class _KeeplessTemp(LocalTempFile):
    def set_xattrs(self, wanted: object) -> Shown:
        return Look.UNSUPPORTED


async def test_a_disk_that_keeps_none_says_so_once_and_passes_them_on(home: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=True), Device(home / "b", 2, xattrs=True)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store, make_filesystem=Keepless) as second:
            for name in ("one", "two"):
                a.write(name, b"content")
                put(a, name, tag=name.encode())
            (a.root / "d").mkdir()
            put(a, "d", tag=b"d")
            await converge(first, second)
            assert b.tree() == a.tree() and await problems(second) == {"extended attributes": UNSUPPORTED}
            b.write("one", b"edited")
            (b.root / "two").chmod(0o700)
            (b.root / "d").chmod(0o700)
            await converge(first, second)
            assert a.tree() == b.tree()
            assert [shown(a, name)["tag"] for name in ("one", "two", "d")] == [b"one", b"two", b"d"]
