"""The tree of watches stays the tree of directories there are, whatever happens to them and whatever of it nobody hears."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path as FilePath

import pytest
import trio
from inotify_simple import INotify

from p2psync.net.workers import InlineWorkers
from p2psync.replica import inotify
from p2psync.replica.inotify import InotifyWatcher, watch_tree
from tests.support.watchers import counting, hears, next_changes, watching


async def test_two_directories_that_swap_places_report_right(tmp_path: FilePath) -> None:
    for name in "ab":
        (tmp_path / name / f"was-{name}").mkdir(parents=True)
    async with watching(tmp_path) as watcher:
        (tmp_path / "a").rename(tmp_path / "t")
        (tmp_path / "b").rename(tmp_path / "a")
        (tmp_path / "t").rename(tmp_path / "b")
        await next_changes(watcher)
        (tmp_path / "a" / "was-b" / "file").touch()
        assert (await next_changes(watcher)).directories == {(b"a", b"was-b")}


async def test_a_directory_moved_into_what_it_held_keeps_the_tree_sound(tmp_path: FilePath) -> None:
    (tmp_path / "p" / "a").mkdir(parents=True)
    async with watching(tmp_path) as watcher:
        (tmp_path / "p" / "a" / "c").mkdir()
        (tmp_path / "p" / "a").rename(tmp_path / "a")
        (tmp_path / "a" / "c").rmdir()
        (tmp_path / "p").rename(tmp_path / "a" / "c")
        (tmp_path / "a").rename(tmp_path / "x")
        (tmp_path / "p").mkdir()
        (tmp_path / "x").rename(tmp_path / "p" / "a")
        await next_changes(watcher)
        (tmp_path / "p" / "a" / "c" / "file").touch()
        await hears(watcher, (b"p", b"a", b"c"))


async def test_a_removed_directory_gives_its_watches_back(tmp_path: FilePath) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    async with watching(tmp_path) as watcher:
        assert watcher.watched == 3
        shutil.rmtree(tmp_path / "a")
        changes = await next_changes(watcher)
        assert () in changes.directories and not changes.overflow
        assert watcher.watched == 1


async def lose_events(watcher: InotifyWatcher) -> None:
    """Throw away what the queue holds, as the kernel does when it is full."""
    await trio.lowlevel.checkpoint()
    assert os.read(watcher._inotify.fileno(), 1 << 20)


def check_sound(watcher: InotifyWatcher) -> None:
    """Every watch stands in the tree, once, below what it says is its parent."""
    root = watcher._tree.root
    assert root is not None
    found, waiting = {root.watch}, [root]
    while waiting:
        node = waiting.pop()
        for name, child in node.children.items():
            assert child.parent is node and child.name == name and child.watch not in found
            found.add(child.watch)
            waiting.append(child)
    assert found == set(watcher._tree._nodes)


def meddle(root: FilePath, dice: random.Random) -> None:
    """One random change of the tree."""
    directories = all_below(root)
    place = dice.choice([root, *directories])
    target = place / dice.choice("abc")
    choice = dice.random()
    if choice < 0.4 or not directories:
        (target / dice.choice("abc")).mkdir(parents=True, exist_ok=True)
    elif choice < 0.8:
        source = dice.choice(directories)
        if not target.exists() and source not in [place, *place.parents]:
            source.rename(target)
    else:
        shutil.rmtree(dice.choice(directories))


@pytest.mark.parametrize("seed", range(8))
async def test_after_any_changes_exactly_the_directories_there_are_watched(tmp_path: FilePath, seed: int) -> None:
    dice = random.Random(seed)
    async with counting(tmp_path) as watcher:
        for _ in range(20):
            for _ in range(dice.randrange(12)):
                meddle(tmp_path, dice)
            watcher._read()
            if dice.random() < 0.5:
                await watcher._walk()
        meddle(tmp_path, dice)
        (tmp_path / "last").touch()
        await next_changes(watcher)
        check_sound(watcher)
        there = {(), *(tuple(map(os.fsencode, path.relative_to(tmp_path).parts)) for path in all_below(tmp_path))}
        assert {node.path() for node in watcher._tree._nodes.values()} == there


def all_below(root: FilePath) -> list[FilePath]:
    return [path for path in root.rglob("*") if path.is_dir()]


@pytest.mark.parametrize("reused", [False, True], ids=["old name gone", "old name reused"])
async def test_a_move_nobody_heard_of_is_put_right_by_the_next_walk(tmp_path: FilePath, reused: bool) -> None:
    (tmp_path / "old" / "sub").mkdir(parents=True)
    async with counting(tmp_path) as watcher:
        (tmp_path / "old").rename(tmp_path / "new")
        if reused:
            (tmp_path / "old").mkdir()
        await lose_events(watcher)
        await watcher.watch_everything()
        check_sound(watcher)
        (tmp_path / "new" / "sub" / "file").touch()
        assert (await next_changes(watcher)).directories == {(b"new", b"sub")}
        if reused:
            (tmp_path / "old" / "file").touch()
            assert (await next_changes(watcher)).directories == {(b"old",)}


async def test_moves_nobody_heard_of_never_tie_the_tree_into_a_knot(tmp_path: FilePath) -> None:
    (tmp_path / "p" / "a").mkdir(parents=True)
    async with counting(tmp_path) as watcher:
        (tmp_path / "p" / "a").rename(tmp_path / "x")
        (tmp_path / "p").rename(tmp_path / "x" / "c")
        (tmp_path / "p").mkdir()
        (tmp_path / "x").rename(tmp_path / "p" / "a")
        await lose_events(watcher)
        watcher._tree.walk({(b"p", b"a", b"c"): None})  # known as `p`, which holds the `a` it is now found in
        check_sound(watcher)
        await watcher.watch_everything()
        (tmp_path / "p" / "a" / "c" / "file").touch()
        assert (await next_changes(watcher)).directories == {(b"p", b"a", b"c")}
        assert watcher.watched == 4


def queue_length() -> int:
    return int(FilePath("/proc/sys/fs/inotify/max_queued_events").read_text())


@pytest.mark.slow
async def test_a_full_queue_is_an_overflow_and_all_directories_are_watched_after_it(tmp_path: FilePath) -> None:
    room = queue_length()
    if room > 100_000:
        pytest.skip("this system's queue is too large to fill here")
    async with watching(tmp_path) as watcher:
        for number in range(room // 2 + 10):
            (tmp_path / f"file{number}").touch()
        (tmp_path / "unheard").mkdir()
        with trio.fail_after(30):
            while not (await watcher.changes()).overflow:
                continue
        (tmp_path / "unheard" / "file").touch()
        await hears(watcher, (b"unheard",))


async def test_too_few_watches_are_said_not_raised(tmp_path: FilePath) -> None:
    class Scarce(INotify):  # type: ignore[misc]
        given = 0

        def add_watch(self, path: str, mask: int) -> int:
            self.given += 1
            if self.given > 2:
                raise OSError(errno.ENOSPC, "no space left on device")
            return int(super().add_watch(path, mask))

    for name in "abc":
        (tmp_path / name).mkdir()
    async with counting(tmp_path, Scarce(nonblocking=True)) as watcher:
        assert watcher.limited is not None and "fs.inotify.max_user_watches" in watcher.limited
        (tmp_path / "file").touch()
        assert () in (await next_changes(watcher)).directories


async def test_no_watcher_to_be_had_is_said_not_raised(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(nonblocking: bool) -> INotify:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(inotify, "INotify", refuse)
    async with watch_tree(tmp_path, InlineWorkers()) as watcher:
        assert watcher.limited is not None and "fs.inotify.max_user_instances" in watcher.limited


async def test_a_directory_made_readable_is_watched_from_then_on(tmp_path: FilePath) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    async with watching(tmp_path) as watcher:
        node = watcher._tree.root
        assert node is not None
        watcher._tree.drop(node.children[b"closed"])  # as if it could not be read: root may read everything
        closed.chmod(0o750)
        assert (await next_changes(watcher)).appeared == {(b"closed",)}
        (closed / "file").touch()
        await hears(watcher, (b"closed",))
