"""Ignore files on real replicas: what is ignored is neither published, written nor deleted, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from p2psync.index.versions import Kind
from p2psync.replica.filesystem import Stat
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.replica.test_replica_two_devices import two_devices
from tests.support.devices import Device, converge, idle, until
from tests.support.power import still_watcher

pytestmark = pytest.mark.slow


async def test_what_is_ignored_is_neither_published_nor_written(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write(".p2pignore", b"!keep.o\n*.o\n/build\n")
        a.write("main.c", b"c")
        a.write("main.o", b"object")
        a.write("keep.o", b"kept")
        a.write("build/out", b"out")
        a.write("src/build/out", b"not the root's")
        await converge(first, second)
        assert sorted(b.tree()) == [".p2pignore", "keep.o", "main.c", "src", "src/build", "src/build/out"]
        b.write("other.o", b"object of b")
        b.write("build/b", b"out of b")
        await converge(first, second)
        assert "other.o" not in a.tree() and "build/b" not in a.tree()
        assert b.tree()["other.o"][1] == b"object of b"
        assert (await second.explain((b"other.o",))).reasons == ("ignored by .p2pignore, line 2: *.o",)


async def test_a_file_that_becomes_ignored_stays_everywhere_and_follows_nobody(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        for name in ("log", "gone", "same"):
            a.write(name, b"old")
        await converge(first, second)
        a.write(".p2pignore.local", b"log\ngone\nsame\n")
        await converge(first, second)
        assert b.tree()["log"][1] == b"old"
        (a.root / "gone").unlink()
        b.write("log", b"newer at b")
        (b.root / "same").unlink()
        await converge(first, second)
        assert (a.tree()["log"][1], b.tree()["log"][1]) == (b"old", b"newer at b")
        assert "gone" in b.tree()
        assert "same" in a.tree() and "same" not in b.tree()
        assert ".p2pignore.local" not in b.tree()
        assert (await until(first, idle)).need_files == 0


async def test_a_file_that_is_ignored_no_more_is_merged_like_one_of_a_first_scan(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        b.write("lost", b"of b")
        await converge(first, second)
        a.write(".p2pignore.local", b"edited\ndeleted\nmissing\nequal\nlost\n")
        for name in ("edited", "deleted", "missing", "equal"):
            b.write(name, b"of b")
        a.write("edited", b"of a")
        a.write("deleted", b"of b")
        a.write("equal", b"of b")
        await converge(first, second)
        (a.root / "lost").unlink()
        (b.root / "deleted").unlink()
        await converge(first, second)
        (a.root / ".p2pignore.local").unlink()
        await converge(first, second)
        await converge(first, second)
        assert a.tree() == b.tree()
        assert sorted(content for name, (_, content, _) in a.tree().items() if "edited" in name) == [b"of a", b"of b"]
        assert {"deleted", "missing", "equal", "lost"} <= set(a.tree())
        assert len(a.tree()) == 6, "equal content makes no conflict copy"


async def test_a_bad_ignore_file_changes_nothing_and_is_named(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write(".p2pignore", b"*.secret\n")
        await converge(first, second)
        a.write(".p2pignore", b"*.public\n[broken\n")
        a.write("x.secret", b"s")
        a.write("x.public", b"p")
        await converge(first, second)
        assert "x.secret" not in b.tree() and "x.public" in b.tree()
        [said] = [reason for subject, reason in (await first.status()).problems if subject == "ignore files"]
        assert ".p2pignore, line 2" in said and "not closed" in said
        a.write(".p2pignore", b"*.nothing\n")
        await converge(first, second)
        await converge(first, second)
        assert "x.secret" in b.tree()
        assert not (await first.status()).problems


async def test_a_folder_whose_first_ignore_file_is_bad_publishes_nothing_until_it_is_mended(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a = Device(tmp_path / "a", 1)
    a.write(".p2pignore", b"{broken\n")
    a.write("private", b"p")
    a.found()
    async with a.running(store) as first:
        with trio.fail_after(20):
            await until(first, lambda status: status.state == "error")
        status = await first.status()
        assert ".p2pignore, line 1" in str(status.error)
        assert status.global_bytes == 0


async def test_the_last_good_patterns_outlive_a_restart(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a = Device(tmp_path / "a", 1)
    a.write(".p2pignore", b"secret\n")
    a.found()
    async with a.running(store) as first:
        await converge(first)
    a.write(".p2pignore", b"{broken\n")
    a.write("secret", b"s")
    async with a.running(store) as first:
        await converge(first)
        assert (await first.status()).global_bytes == len(b"{broken\n")


async def test_a_directory_deleted_elsewhere_stays_for_ignored_files_but_goes_where_they_may_go(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write(".p2pignore", b"(?d)*.cache\n*.keep\n")
        a.write("one/f", b"1")
        a.write("two/f", b"2")
        await converge(first, second)
        b.write("one/sub/x.cache", b"c")
        b.write("one/y.cache", b"c")
        b.write("two/x.cache", b"c")
        b.write("two/x.keep", b"k")
        await converge(first, second)
        for name in ("one/f", "two/f"):
            (a.root / name).unlink()
        (a.root / "one/sub").rmdir()
        (a.root / "one").rmdir()
        (a.root / "two").rmdir()
        await converge(first, second)
        await converge(first, second)
        assert not (a.root / "two").exists() and not (a.root / "one").exists()
        assert not (b.root / "one").exists()
        assert (b.root / "two/x.keep").read_bytes() == b"k" and (b.root / "two/x.cache").exists()
        status = await until(second, idle)
        assert [path for path, reason in status.problems if "ignored files" in reason] == ["two"]


async def test_something_kept_in_an_ignored_directory_brings_its_way_along(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write(".p2pignore", b"!frobble\n*2\n")
        a.write("bar2/deep2/frobble", b"kept")
        a.write("bar2/deep2/other2", b"ignored")
        await converge(first, second)
        assert sorted(b.tree()) == [".p2pignore", "bar2", "bar2/deep2", "bar2/deep2/frobble"]
        (a.root / "bar2/deep2/frobble").unlink()
        await converge(first, second)
        assert "bar2/deep2/frobble" not in b.tree()


async def test_who_joins_does_not_publish_what_the_folder_ignores(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.write(".p2pignore", b"node_modules\n")
    b.write("node_modules/x", b"x")
    b.write("own", b"o")
    a.found()
    async with a.running(store) as first:
        await first.in_sync()
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert sorted(a.tree()) == [".p2pignore", "own"]
            assert b.tree()["node_modules/x"][1] == b"x"


async def test_an_editor_that_replaces_the_ignore_file_publishes_nothing_meanwhile(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write(".p2pignore", b"secret\n")
        a.write("secret", b"s")
        await converge(first, second)
        for _ in range(5):
            (a.root / ".p2pignore").rename(a.root / ".p2pignore~")
            await trio.sleep(0.1)
            a.write(".p2pignore", b"")
            await trio.sleep(0.05)
            a.write(".p2pignore", b"secret\n*~\n")
            await trio.sleep(0.05)
        await converge(first, second)
        assert "secret" not in b.tree()


async def test_conflict_copies_are_kept_whatever_patterns_say_of_their_names(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.write(".p2pignore", b"*.sync-conflict-*\n")
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
        assert {b"from a", b"from b"} <= {content for _, content, _ in a.tree().values()}


async def test_ignored_directories_are_not_watched_until_they_matter(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write(".p2pignore", b"/big\n")
        a.write("big/d/f", b"1")
        await converge(first, second)
        (a.root / ".p2pignore").unlink()
        await converge(first, second)
        await converge(first, second)
        assert b.tree()["big/d/f"][1] == b"1"
        a.write("big/d/g", b"2")
        with trio.fail_after(10):
            await until(second, lambda status: "big/d/g" in b.tree())


class BusyFilesystem(LocalFilesystem):
    """As a disk on which somebody does something just before the root is listed: within a walk."""

    just_before: ClassVar[list[Callable[[], object]]] = []

    def list_directory(self, path: tuple[bytes, ...]) -> list[tuple[bytes, Stat]]:
        while not path and self.just_before:
            self.just_before.pop()()
        return super().list_directory(path)


async def test_ignore_files_that_change_during_a_walk_count_before_anything_it_found_is_told(tmp_path: Path) -> None:
    device = Device(tmp_path, 1)
    device.found()
    device.write("gone", b"1")

    def ignore_and_change() -> None:
        device.write(".p2pignore", b"secret\ngone\n")
        device.write("secret/key", b"2")
        (device.root / "gone").unlink()

    async with device.running(None, watcher=still_watcher, make_filesystem=BusyFilesystem) as replica:
        with trio.fail_after(20):
            await replica.rescan()
            BusyFilesystem.just_before.append(ignore_and_change)
            await replica.rescan()
            await until(replica, idle)
            await replica.rescan()
            await until(replica, idle)
        catalog = replica._context.catalog
        wanted = {
            path: wanted.kind
            for path in catalog.wanted_tree.paths()
            if (wanted := catalog.versions.wanted(path)) is not None
        }
    assert not BusyFilesystem.just_before
    assert wanted == {(b".p2pignore",): Kind.FILE, (b"gone",): Kind.FILE}, "no secret, and nothing deleted"
