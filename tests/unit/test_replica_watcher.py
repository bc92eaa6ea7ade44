"""The watcher over real directories: it may say too much, never too little."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest
import trio

from p2psync.errors import FolderStopped
from p2psync.net.workers import InlineWorkers
from p2psync.replica import inotify
from p2psync.replica.inotify import GATHER_SECONDS, PAUSE_SECONDS, watch_tree
from p2psync.replica.watcher import Changes, ManualWatcher, Watcher
from tests.support.watchers import counting, hears, next_changes, watching


async def hears_nothing(watcher: Watcher, root: FilePath) -> None:
    """Fails if word comes before that of a change made after everything the watcher should have ignored."""
    (root / "last").touch()
    changes = await next_changes(watcher)
    assert changes.directories == {()} and not changes.appeared and not changes.overflow


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "d" / "new").write_bytes(b"x"),
        lambda root: (root / "d" / "file").write_bytes(b"changed"),
        lambda root: (root / "d" / "file").unlink(),
        lambda root: (root / "d" / "file").rename(root / "d" / "other"),
        lambda root: (root / "d" / "file").chmod(0o600),
        lambda root: os.utime(root / "d" / "file", ns=(1, 1)),
        lambda root: os.symlink("nowhere", root / "d" / "link"),
        lambda root: os.link(root / "d" / "file", root / "d" / "twin"),
    ],
    ids=["create", "modify", "delete", "rename", "chmod", "utime", "symlink", "link"],
)
async def test_every_kind_of_change_names_its_directory(
    tmp_path: FilePath, change: Callable[[FilePath], object]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"old")
    async with watching(tmp_path) as watcher:
        change(tmp_path)
        changes = await next_changes(watcher)
        assert changes == Changes(directories=frozenset({(b"d",)}), appeared=frozenset(), overflow=False)


async def test_a_rename_between_directories_names_both(tmp_path: FilePath) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "file").touch()
    async with watching(tmp_path) as watcher:
        (tmp_path / "a" / "file").rename(tmp_path / "b" / "file")
        assert (await next_changes(watcher)).directories == {(b"a",), (b"b",)}


async def test_a_deep_tree_made_at_once_appears_and_is_watched_to_the_bottom(tmp_path: FilePath) -> None:
    async with watching(tmp_path) as watcher:
        deepest = tmp_path / "a" / "b" / "c" / "d" / "e"
        deepest.mkdir(parents=True)
        (deepest / "early").touch()
        changes = await next_changes(watcher)
        whole = (b"a", b"b", b"c", b"d", b"e")
        assert changes.appeared == {whole[:depth] for depth in range(1, 6)}, "each may hold what has no event"
        (deepest / "late").touch()
        await hears(watcher, (b"a", b"b", b"c", b"d", b"e"))


async def test_a_tree_moved_in_appears_and_is_watched(tmp_path: FilePath) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    root.mkdir()
    (outside / "x" / "y").mkdir(parents=True)
    async with watching(root) as watcher:
        (outside / "x").rename(root / "x")
        assert (await next_changes(watcher)).appeared == {(b"x",), (b"x", b"y")}
        (root / "x" / "y" / "file").touch()
        await hears(watcher, (b"x", b"y"))


async def test_a_tree_moved_out_is_watched_no_more(tmp_path: FilePath) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "x" / "y").mkdir(parents=True)
    async with watching(root) as watcher:
        (root / "x").rename(outside / "x")
        assert (await next_changes(watcher)).directories == {()}
        assert watcher.watched == 1
        (outside / "x" / "y" / "file").touch()
        await hears_nothing(watcher, root)


async def test_a_renamed_tree_reports_under_its_new_name_only(tmp_path: FilePath) -> None:
    (tmp_path / "old" / "sub").mkdir(parents=True)
    async with watching(tmp_path) as watcher:
        (tmp_path / "old").rename(tmp_path / "between")
        (tmp_path / "between").rename(tmp_path / "new")
        assert (await next_changes(watcher)).appeared == {(b"new",), (b"new", b"sub")}
        (tmp_path / "new" / "sub" / "file").touch()
        assert (await next_changes(watcher)).directories == {(b"new", b"sub")}
        assert watcher.watched == 3


async def test_own_temps_and_marker_content_are_ignored(tmp_path: FilePath) -> None:
    (tmp_path / ".p2psync").mkdir()
    (tmp_path / "d").mkdir()
    async with watching(tmp_path) as watcher:
        (tmp_path / ".p2psync" / "replica").write_bytes(b"x")
        (tmp_path / "d" / ".p2psync.file.tmp").write_bytes(b"x")
        (tmp_path / "d" / ".p2psync.directory.tmp").mkdir()
        await hears_nothing(watcher, tmp_path)


async def test_symlinks_are_not_followed(tmp_path: FilePath) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    async with watching(root) as watcher:
        assert watcher.watched == 1
        (root / "late").symlink_to(outside)
        await next_changes(watcher)
        assert watcher.watched == 1
        (outside / "file").touch()
        await hears_nothing(watcher, root)


async def test_names_are_exact_bytes(tmp_path: FilePath) -> None:
    async with watching(tmp_path) as watcher:
        (tmp_path / os.fsdecode(b"\xff\xfe")).mkdir()
        assert (await next_changes(watcher)).appeared == {(b"\xff\xfe",)}


async def test_a_path_longer_than_the_system_takes_is_watched(tmp_path: FilePath) -> None:
    path = tuple(b"%02d" % depth + b"n" * 200 for depth in range(25))
    top = here = os.open(tmp_path, os.O_RDONLY)
    for name in path:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        if here != top:
            os.close(here)
        here = below
    try:
        async with watching(tmp_path) as watcher:
            os.mkdir(b"new", dir_fd=here)
            assert (await next_changes(watcher)).appeared == {(*path, b"new")}
    finally:
        os.close(here)
        os.close(top)
        shutil.rmtree(tmp_path / os.fsdecode(path[0]))


async def test_a_lost_root_is_an_overflow(tmp_path: FilePath) -> None:
    root = tmp_path / "root"
    root.mkdir()
    async with watching(root) as watcher:
        root.rename(tmp_path / "elsewhere")
        assert (await next_changes(watcher)).overflow


async def test_a_cancelled_wait_loses_no_change(tmp_path: FilePath) -> None:
    async with watching(tmp_path) as watcher:
        (tmp_path / "file").touch()
        with trio.move_on_after(0.001) as scope:
            await watcher.changes()
        assert scope.cancelled_caught
        assert (await next_changes(watcher)).directories == {()}


async def test_waiting_in_an_idle_tree_wakes_nobody_and_cancels_at_once(tmp_path: FilePath) -> None:
    async with counting(tmp_path) as watcher:
        before = trio.current_time()
        with trio.move_on_after(0.3):
            await watcher.changes()
        assert trio.current_time() - before < 0.5
        assert watcher.reads == 0


async def test_a_new_file_is_told_at_once_an_open_one_and_a_change_wait_for_silence(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "QUIET_SECONDS", 60)
    monkeypatch.setattr(inotify, "GATHER_SECONDS", 60)

    async def told(watcher: Watcher, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await watcher.changes()
            return True
        return False

    async with watching(tmp_path) as watcher:
        with (tmp_path / "file").open("wb") as file:
            file.write(b"half")
            file.flush()
            assert not await told(watcher, 0.1)
        assert await told(watcher, 5)
        (tmp_path / "second").write_bytes(b"soon after")
        assert not await told(watcher, 0.1)
    for change in (lambda: (tmp_path / "file").write_bytes(b"changed"), (tmp_path / "file").unlink):
        async with watching(tmp_path) as watcher:
            change()
            assert not await told(watcher, 0.1)
    async with watching(tmp_path) as watcher:
        for number in range(inotify.SAVED_MOST):
            (tmp_path / f"{number}").write_bytes(b"one of many")
        assert not await told(watcher, 0.1)


async def test_a_file_written_without_pause_gives_bounded_word(tmp_path: FilePath) -> None:
    done = trio.Event()

    async def write() -> None:
        with (tmp_path / "log").open("wb", buffering=0) as file, (tmp_path / "log2").open("wb", buffering=0) as other:
            while not done.is_set():
                file.write(b"x")
                other.write(b"y")
                await trio.lowlevel.checkpoint()

    async with counting(tmp_path) as watcher, trio.open_nursery() as nursery:
        nursery.start_soon(write)
        before = trio.current_time()
        for _ in range(3):
            assert (await next_changes(watcher)).directories == {()}
        assert 0.3 < trio.current_time() - before < 3
        assert watcher.reads <= 3 * (GATHER_SECONDS / PAUSE_SECONDS + 1)
        done.set()


async def test_a_missing_root_stops_the_folder(tmp_path: FilePath) -> None:
    with pytest.raises(FolderStopped):
        async with watch_tree(tmp_path / "gone", InlineWorkers()):
            pass


async def test_a_watcher_fed_by_hand_gathers_until_asked() -> None:
    watcher = ManualWatcher()
    watcher.touch((b"a",))
    watcher.appear((b"b", b"c"))
    watcher.appear((b"b", b"c", b"d"))
    assert await watcher.changes() == Changes(
        directories=frozenset({(b"a",), (b"b",), (b"b", b"c")}),
        appeared=frozenset({(b"b", b"c"), (b"b", b"c", b"d")}),
        overflow=False,
    )
    watcher.overflow()
    assert (await watcher.changes()).overflow
