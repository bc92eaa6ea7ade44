"""Folder types on real replicas: send-only writes nothing, receive-only publishes nothing, an archive keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from p2psync.errors import UserError
from p2psync.index.membership import Role
from p2psync.planner.shaping import FolderType
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.reader import Content, read_content
from p2psync.replica.replica import Replica
from p2psync.replica.scanner import Looked, Named, look
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge, idle, until

pytestmark = pytest.mark.slow

Pair = tuple[Device, Device, Replica, Replica]


@asynccontextmanager
async def devices(home: Path, second: FolderType, role: Role = Role.WRITER) -> AsyncIterator[Pair]:
    """An ordinary device and one whose folder is of the type under test."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1), Device(home / "b", 2, type=second)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first, role)
        async with b.running(store) as other:
            yield a, b, first, other


# Send-only.


async def test_a_send_only_folder_publishes_and_writes_nothing(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.SENDONLY) as (a, b, first, second):
        b.write("own", b"1")
        b.write("edited", b"1")
        b.write("deleted", b"1")
        await converge(first, second)
        assert a.tree() == b.tree()
        before = b.tree()
        a.write("edited", b"2")
        a.write("new/file", b"2")
        (a.root / "deleted").unlink()
        await converge(first, second)
        assert b.tree() == before
        status = await until(second, idle)
        assert (status.state, status.need_files, status.shape.differing) == ("idle", 0, 4)
        assert "send-only" in (await second.explain((b"edited",))).reasons[0]
        with pytest.raises(UserError, match="sendonly here"):
            async for _ in second.past.undo([], 0):
                pass
        b.write("own", b"3")
        await converge(first, second)
        assert a.tree()["own"][1] == b"3"


async def test_a_send_only_folder_holds_nobody_however_much_he_deletes(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.SENDONLY) as (a, b, first, second):
        for number in range(60):
            b.write(f"file {number}", b"content" + bytes([number]))
        await converge(first, second)
        for number in range(60):
            (a.root / f"file {number}").unlink()
        await converge(first, second)
        status = await until(second, idle)
        assert (status.state, status.held, status.shape.differing, len(b.tree())) == ("idle", [], 60, 60)


async def test_override_makes_the_folder_what_the_send_only_disk_shows(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.SENDONLY) as (a, b, first, second):
        for name in ("edited", "deleted", "same", "dir/x", "mode"):
            b.write(name, b"1" * 100_000)
        await converge(first, second)
        before = b.tree()
        a.write("edited", b"2")
        a.write("new/file", b"2")
        a.write("dir/y", b"2")
        (a.root / "mode").chmod(0o700)
        (a.root / "deleted").unlink()
        (a.root / "link").symlink_to("same")
        await converge(first, second)
        assert await second.reshaping.override() == 7
        await converge(first, second)
        assert a.tree() == b.tree() == before
        assert (await second.status()).shape.differing == 0
        assert await second.reshaping.override() == 0


async def test_override_covers_edits_that_crossed_and_leaves_no_conflict_copy(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2, type=FolderType.SENDONLY)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            b.write("note", b"base")
            await converge(first, second)
    a.write("note", b"from a")
    b.write("note", b"from b")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        assert b.tree() == {"note": ("file", b"from b", 0o644)}
        await second.reshaping.override()
        await converge(first, second)
        await converge(first, second)
        assert a.tree() == b.tree() == {"note": ("file", b"from b", 0o644)}


async def test_a_send_only_folder_that_becomes_ordinary_catches_up(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.SENDONLY) as (a, b, first, second):
        a.write("f", b"1")
        await converge(first, second)
        assert b.tree() == {}
        with pytest.raises(UserError, match="only a receive-only"):
            await second.reshaping.revert()
        await second.reshaping.change_type(FolderType.SENDRECEIVE)
        await converge(first, second)
        assert a.tree() == b.tree()
        with pytest.raises(UserError, match="only a send-only"):
            await second.reshaping.override()


# Receive-only.


async def test_a_receive_only_folder_publishes_nothing_and_says_what_differs(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.RECEIVEONLY) as (a, b, first, second):
        for name in ("edited", "deleted", "same", "dir/x"):
            a.write(name, b"1")
        await converge(first, second)
        assert a.tree() == b.tree()
        before = a.tree()
        b.write("edited", b"2")
        b.write("added/file", b"2")
        (b.root / "deleted").unlink()
        (b.root / "dir/x").chmod(0o700)
        await converge(first, second)
        assert a.tree() == before
        status = await until(second, idle)
        assert (status.state, status.need_files, status.shape.local_changes) == ("idle", 0, 5)
        assert "changed here" in (await second.explain((b"edited",))).reasons[0]
        a.write("edited", b"3")
        a.write("more", b"3")
        await converge(first, second)
        assert (b.tree()["edited"][1], b.tree()["more"][1]) == (b"2", b"3")
        status = await until(second, idle)
        assert (status.state, status.need_files, status.shape.local_changes) == ("idle", 0, 5)


async def test_what_is_undone_by_hand_is_no_local_change_any_more(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.RECEIVEONLY) as (a, b, first, second):
        a.write("f", b"1")
        await converge(first, second)
        (b.root / "f").rename(b.root / "g")
        await converge(first, second)
        assert (await second.status()).shape.local_changes == 2
        (b.root / "g").rename(b.root / "f")
        await converge(first, second)
        assert (await second.status()).shape.local_changes == 0


async def test_revert_takes_the_folders_state_and_keeps_what_stood_there(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.RECEIVEONLY) as (a, b, first, second):
        for name in ("edited", "deleted", "dir/x", "swapped", "gone/y"):
            a.write(name, b"1" * 100_000)
        (a.root / "dir").chmod(0o755)
        await converge(first, second)
        b.write("edited", b"mine")
        b.write("added/deep/file", b"mine, too")
        (b.root / "deleted").unlink()
        (b.root / "gone/y").unlink()
        (b.root / "gone").rmdir()
        (b.root / "dir").chmod(0o700)
        (b.root / "swapped").unlink()
        b.write("swapped/inside", b"and mine")
        (a.root / "edited").write_bytes(b"newer")
        await converge(first, second)
        done = await second.reshaping.revert()
        await converge(first, second)
        assert a.tree() == b.tree()
        assert done.aside is not None and done.paths == 10
        kept = b.root / done.aside
        assert (kept / "edited").read_bytes() == b"mine"
        assert (kept / "added/deep/file").read_bytes() == b"mine, too"
        assert (kept / "swapped/inside").read_bytes() == b"and mine"
        assert (await second.status()).shape.local_changes == 0
        assert (await second.reshaping.revert()).paths == 0


async def test_a_receive_only_folder_that_becomes_ordinary_publishes_what_differs(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.RECEIVEONLY) as (a, b, first, second):
        a.write("f", b"1")
        await converge(first, second)
        b.write("f", b"2")
        b.write("g", b"2")
        await converge(first, second)
        await second.reshaping.change_type(FolderType.SENDRECEIVE)
        await converge(first, second)
        assert a.tree() == b.tree()
        assert a.tree()["f"][1] == b"2"


async def test_local_changes_outlive_a_restart_and_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []

    def counted(filesystem: Filesystem, path: tuple[bytes, ...], **options: Any) -> Content:
        read.append(path)
        return read_content(filesystem, path, **options)

    monkeypatch.setattr("p2psync.replica.contents.read_content", counted)
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2, type=FolderType.RECEIVEONLY)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            b.write("big", b"x" * 1_000_000)
            await converge(first, second)
        async with b.running(store) as second:
            await trio.sleep(0.1)  # the look again at a file this young
            read.clear()
            await converge(first, second)
            assert read == []
            status = await until(second, idle)
            assert (status.shape.type, status.shape.local_changes) == (FolderType.RECEIVEONLY, 1)
            assert a.tree() == {}


async def test_a_readers_changes_are_local_changes(tmp_path: Path) -> None:
    """Everybody would refuse his versions (property 24), so they are not made in the first place."""
    async with devices(tmp_path, FolderType.SENDRECEIVE, Role.READER) as (a, b, first, second):
        a.write("f", b"1")
        await converge(first, second)
        b.write("f", b"2")
        await converge(first, second)
        status = await until(second, idle)
        assert a.tree()["f"][1] == b"1" and status.shape.local_changes == 1
        assert not (await first.status()).problems
        await second.reshaping.revert()
        await converge(first, second)
        assert b.tree() == a.tree()
        await second.reshaping.change_type(FolderType.SENDONLY)
        with pytest.raises(UserError, match="is a reader"):
            await second.reshaping.override()


async def test_what_waits_behind_a_local_change_is_not_looked_at_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[bytes, ...]] = []

    def counted(context: Context, directories: Iterable[tuple[bytes, ...]], named: Named) -> Looked:
        batch = list(directories)
        if not context.publishes:
            looked.extend(batch)
        return look(context, batch, named)

    async with devices(tmp_path, FolderType.RECEIVEONLY) as (a, b, first, second):
        a.write("f", b"1")
        a.write("d/x", b"1")
        await converge(first, second)
        b.write("f", b"mine")
        (b.root / "d/x").unlink()
        await converge(first, second)
        a.write("f", b"2")
        a.write("d/x", b"2")
        await converge(first, second)
        await until(second, idle)
        monkeypatch.setattr("p2psync.replica.watching.look", counted)
        seen = second.changed.count
        a.write("other", b"1")
        await until(second, lambda status: (b.root / "other").exists() and status.state == "idle")
        assert (b"d",) not in looked
        assert second.changed.count - seen <= 20


# Archive.


async def test_an_archive_keeps_what_others_delete_and_takes_what_they_write(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.ARCHIVE) as (a, b, first, second):
        a.write("gone", b"1")
        a.write("dir/gone", b"1")
        a.write("edited", b"1")
        a.write("renamed", b"r" * 1000)
        await converge(first, second)
        (a.root / "gone").unlink()
        (a.root / "dir/gone").unlink()
        (a.root / "dir").rmdir()
        (a.root / "renamed").rename(a.root / "other")
        a.write("edited", b"2")
        await converge(first, second)
        assert sorted(b.tree()) == ["dir", "dir/gone", "edited", "gone", "other", "renamed"]
        assert sorted(a.tree()) == ["edited", "other"]
        assert b.tree()["edited"][1] == b"2"
        status = await until(second, idle)
        assert (status.state, status.need_files, status.shape.kept) == ("idle", 0, 3)
        assert "archive" in (await second.explain((b"gone",))).reasons[0]
        b.write("own", b"3")
        await converge(first, second)
        assert a.tree()["own"][1] == b"3"
        (b.root / "gone").unlink()
        await converge(first, second)
        assert (await second.status()).shape.kept == 2


async def test_leaving_the_archive_deletes_nothing_it_kept(tmp_path: Path) -> None:
    async with devices(tmp_path, FolderType.ARCHIVE) as (a, b, first, second):
        a.write("dir/kept", b"1")
        await converge(first, second)
        (a.root / "dir/kept").unlink()
        (a.root / "dir").rmdir()
        await converge(first, second)
        await second.reshaping.change_type(FolderType.SENDRECEIVE)
        await converge(first, second)
        assert a.tree() == b.tree()
        assert a.tree()["dir/kept"][1] == b"1"
