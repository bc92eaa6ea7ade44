"""Two replicas and a blind store: the main job, on real directories."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2psync.ids import ChunkId, Plaintext
from p2psync.replica.assembly import Assembler, Assembly
from p2psync.replica.context import Context
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge

Pair = tuple[Device, Device, Replica, Replica]


@asynccontextmanager
async def two_devices(home: Path) -> AsyncIterator[Pair]:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1), Device(home / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            yield a, b, first, second


async def test_a_file_written_on_one_device_appears_on_the_other(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("dir/hello.txt", b"hello")
        await converge(first, second)
        assert b.tree() == a.tree()
        assert b.tree()["dir/hello.txt"][1] == b"hello"


async def test_everything_a_tree_can_hold_travels_both_ways(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("empty", b"")
        a.write("big.bin", os.urandom(3 << 20))
        a.write("run.sh", b"#!/bin/sh\n")
        (a.root / "run.sh").chmod(0o755)
        (a.root / "link").symlink_to("run.sh")
        (a.root / "hollow").mkdir()
        b.write("from b/ü 😀\nnewline", b"both ways")
        await converge(first, second)
        assert a.tree() == b.tree()
        assert len(a.tree()) == 7
        assert (a.root / "big.bin").stat().st_mtime_ns == (b.root / "big.bin").stat().st_mtime_ns


async def test_edits_renames_and_deletes_follow(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        for number in range(20):
            a.write(f"d/f{number}", b"x" * 1000 + str(number).encode())
        await converge(first, second)
        (a.root / "d" / "f0").write_bytes(b"edited")
        (b.root / "d" / "f1").unlink()
        await converge(first, second)
        (a.root / "d").rename(a.root / "e")
        await converge(first, second)
        assert a.tree() == b.tree()
        assert "e/f1" not in a.tree()
        assert a.tree()["e/f0"][1] == b"edited"
        assert not any(name.startswith("d") for name in a.tree())


async def test_concurrent_edits_keep_both_versions(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            a.write("note.md", b"base")
            await converge(first, second)
    a.write("note.md", b"from a")
    b.write("note.md", b"from b")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        assert a.tree() == b.tree()
        assert sorted(content for _, content, _ in a.tree().values()) == [b"from a", b"from b"]
        assert any(".sync-conflict-" in name and name.endswith(".md") for name in a.tree())


async def test_joining_a_folder_that_is_not_empty_loses_nothing_and_copies_only_what_differs(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    for device in (a, b):
        device.write("same", b"same on both")
        device.write("differs", device.home.name.encode())
    b.write("only b", b"b")
    a.found()
    async with a.running(store) as first:
        await first.in_sync()
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert a.tree() == b.tree()
            contents = sorted(content for _, content, _ in a.tree().values())
            assert contents == [b"a", b"b", b"b", b"same on both"]
            assert len(a.tree()) == 4


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
async def test_a_deletion_of_one_kind_makes_room_for_another(tmp_path: Path, kind: str) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("x", b"a file")
        await converge(first, second)
        (b.root / "x").unlink()
        if kind == "file":
            b.write("x", b"another")
        elif kind == "directory":
            b.write("x/inside", b"inside")
        else:
            (b.root / "x").symlink_to("nowhere")
        await converge(first, second)
        assert a.tree() == b.tree()
        (a.root / "y").write_bytes(b"still alive")
        await converge(first, second)
        assert a.tree() == b.tree()


async def test_joining_takes_the_folders_mode_and_time_over_for_content_that_is_there(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    for device, mode, time in ((a, 0o755, 1000), (b, 0o640, 2000)):
        device.write("d/script", b"#!/bin/sh\n")
        (device.root / "d").chmod(mode)
        (device.root / "d/script").chmod(mode)
        os.utime(device.root / "d/script", (time, time))
    a.found()
    async with a.running(store) as first:
        await first.in_sync()
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert b.tree() == a.tree()
            assert a.tree()["d/script"][2] == 0o755 and len(b.tree()) == 2
            assert (b.root / "d/script").stat().st_mtime == 1000


async def test_only_the_mode_or_the_time_changes_and_both_travel(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("f", b"content")
        a.write("d/x", b"")
        await converge(first, second)
        (a.root / "f").chmod(0o600)
        (a.root / "d").chmod(0o700)
        os.utime(b.root / "d/x", (5, 5))
        await converge(first, second)
        assert a.tree() == b.tree()
        assert b.tree()["f"][2] == 0o600 and b.tree()["d"][2] == 0o700
        assert (a.root / "d/x").stat().st_mtime == 5


async def test_a_read_only_directory_arrives_with_its_content_and_its_mode(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("locked/inside", b"inside")
        (a.root / "locked").chmod(0o555)
        await converge(first, second)
        assert b.tree() == a.tree()
        assert b.tree()["locked"][2] == 0o555
        (a.root / "locked").chmod(0o755)
        (b.root / "locked").chmod(0o755)
        await converge(first, second)


@pytest.mark.parametrize("change", ["deleted", "renamed", "edited"])
async def test_a_conflict_copy_stays_where_it_is_when_the_winner_changes(tmp_path: Path, change: str) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
    a.write("note.md", b"from a")
    b.write("note.md", b"from b")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        (copy,) = (name for name in a.tree() if "sync-conflict" in name)
        lost = a.tree()[copy][1]
        if change == "deleted":
            (a.root / "note.md").unlink()
        elif change == "renamed":
            (a.root / "note.md").rename(a.root / "elsewhere.md")
        else:
            a.write("note.md", b"edited")
        await converge(first, second)
        assert a.tree() == b.tree()
        assert a.tree()[copy][1] == lost
        assert {name: seen[1] for name, seen in a.tree().items() if name != copy} == {
            "deleted": {}, "renamed": {"elsewhere.md": b"from a" if lost == b"from b" else b"from b"},
            "edited": {"note.md": b"edited"},
        }[change]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "symlink"])
async def test_a_directory_stands_when_one_device_replaces_it_and_another_writes_below(
    tmp_path: Path, kind: str
) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.write("d/old", b"old")
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
    (a.root / "d" / "old").unlink()
    (a.root / "d").rmdir()
    if kind == "file":
        a.write("d", b"a file now")
    else:
        (a.root / "d").symlink_to("somewhere")
    b.write("d/new", b"below")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        await converge(first, second)
        assert a.tree() == b.tree()
        assert a.tree()["d/new"][1] == b"below"
        (copy,) = (seen for name, seen in a.tree().items() if name.startswith("d.sync-conflict"))
        assert copy[:2] == (kind, b"a file now" if kind == "file" else b"somewhere")


async def test_what_stands_at_the_name_of_a_temp_stops_nothing_else(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        (b.root / "d").mkdir()
        (b.root / ".p2psync.x.tmp").mkdir()
        (b.root / "d" / ".p2psync.y.tmp").write_bytes(b"left over")
        a.write("other", b"comes all the same")
        await converge(first, second)
        assert (b.root / "other").exists() and not (b.root / "d" / ".p2psync.y.tmp").exists()


async def test_a_directory_removed_under_a_transfer_stops_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's deletion counts for what stood there; what he has never seen comes."""
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("d/old", b"old")
        await converge(first, second)
        really_take, troubles = Assembler.take, list[str | None]()

        def take(assembler: Assembler, came: Sequence[tuple[ChunkId, Plaintext]]) -> list[Assembly]:
            if (b.root / "d" / "old").exists():
                shutil.rmtree(b.root / "d")
            return really_take(assembler, came)

        monkeypatch.setattr(Assembler, "take", take)
        monkeypatch.setattr(Context, "set_trouble", lambda _, subject, sentence: troubles.append(sentence))
        a.write("d/new", b"new")
        a.write("other", b"comes all the same")
        await converge(first, second)
        await converge(first, second)
        assert a.tree() == b.tree()
        assert {name: seen[1] for name, seen in a.tree().items()} == {
            "d": b"",
            "d/new": b"new",
            "other": b"comes all the same",
        }
        assert not any(troubles)
