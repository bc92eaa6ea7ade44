"""What a renamed directory tells: itself at once, since its other half was seen; whatever may still move, only later."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2psync.index.versions import Kind
from p2psync.replica import watching
from p2psync.replica.replica import Replica
from tests.support.devices import Device, converge, idle, until
from tests.support.peers import DIRECT, two_linked


@pytest.fixture
def long_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 3600.0)


@asynccontextmanager
async def one_with_a_tree(home: Path) -> AsyncIterator[tuple[Path, Replica]]:
    device = Device(home, 1)
    device.found()
    for name in ("top/a", "top/d/b", "top/d/e/c"):
        device.write(name, b"\0content of " + name.encode())
    (device.root / "top/hollow").mkdir()
    async with device.running(None, links=DIRECT) as replica:
        await replica.rescan()
        await until(replica, idle)
        yield device.root, replica


def wanted(replica: Replica, name: str) -> Kind | None:
    found = replica._context.catalog.versions.wanted(tuple(name.encode().split(b"/")))
    return None if found is None else found.kind


async def test_a_renamed_directory_need_not_settle(tmp_path: Path, long_settling: None) -> None:
    async with one_with_a_tree(tmp_path) as (root, replica):
        (root / "top").rename(root / "moved")
        await replica.rescan()
        await until(replica, idle)
        assert {wanted(replica, name) for name in ("top", "top/d", "top/d/e", "top/hollow", "top/d/e/c")} == {
            Kind.DELETED
        }
        assert wanted(replica, "moved/d/e/c") is Kind.FILE


async def test_a_renamed_directory_waits_for_a_file_that_may_still_come(tmp_path: Path, long_settling: None) -> None:
    async with one_with_a_tree(tmp_path) as (root, replica):
        (root / "top").rename(root / "moved")
        (root / "moved/d/b").rename(tmp_path / "on its way")
        await replica.rescan()
        await replica.rescan()
        assert wanted(replica, "moved/a") is Kind.FILE
        assert wanted(replica, "top/d/b") is Kind.FILE
        assert wanted(replica, "top/d") is wanted(replica, "top") is Kind.DIRECTORY
        (tmp_path / "on its way").rename(root / "back again")
        await replica.rescan()
        (version,) = replica._context.catalog.versions.frontier((b"back again",))
        assert version.origin is not None and version.origin.path == (b"top", b"d", b"b")


async def test_a_directory_that_is_deleted_settles_first(tmp_path: Path, long_settling: None) -> None:
    async with one_with_a_tree(tmp_path) as (root, replica):
        (root / "top/hollow").rmdir()
        await replica.rescan()
        assert wanted(replica, "top/hollow") is Kind.DIRECTORY
        shutil.rmtree(root / "top")
        await replica.rescan()
        assert {wanted(replica, name) for name in ("top", "top/d")} == {Kind.DIRECTORY}
        assert wanted(replica, "top/a") is Kind.FILE


async def test_a_rename_told_in_many_groups_is_no_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PREPARE_FIRST", 3)
    monkeypatch.setattr(watching, "_PREPARE_FILES", 7)
    async with two_linked(tmp_path) as (a, b, first, second):
        for number in range(60):
            a.write(f"old/f{number}", b"\0%d" % number * 20_000)
        await converge(first, second)
        inodes = {path.name: path.stat().st_ino for path in (b.root / "old").iterdir()}
        (a.root / "old").rename(a.root / "new")
        await until(second, lambda status: status.need_files == 0 and set(b.tree()) == set(a.tree()))
        assert {path.name: path.stat().st_ino for path in (b.root / "new").iterdir()} == inodes
