"""The watcher over real directories: it may say too much, never too little."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath

import pytest
import trio
from inotify_simple import INotify

from p2psync.errors import FolderStopped
from p2psync.net.workers import InlineWorkers, ThreadWorkers
from p2psync.replica import inotify
from p2psync.replica.filesystem import Path
from p2psync.replica.inotify import GATHER_SECONDS, PAUSE_SECONDS, InotifyWatcher, watch_tree
from p2psync.replica.watcher import Changes, ManualWatcher, Watcher


@asynccontextmanager
async def watching(root: FilePath) -> AsyncIterator[InotifyWatcher]:
    async with watch_tree(root, ThreadWorkers()) as watcher:
        assert isinstance(watcher, InotifyWatcher)
        yield watcher


async def next_changes(watcher: Watcher) -> Changes:
    with trio.fail_after(5):
        return await watcher.changes()


async def hears(watcher: Watcher, directory: Path) -> None:
    """Fails unless word of a change in `directory` comes."""
    with trio.fail_after(5):
        while directory not in (await watcher.changes()).directories:
            continue


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


async def test_a_deep_tree_made_at_once_appears_once_and_is_watched_to_the_bottom(tmp_path: FilePath) -> None:
    async with watching(tmp_path) as watcher:
        deepest = tmp_path / "a" / "b" / "c" / "d" / "e"
        deepest.mkdir(parents=True)
        (deepest / "early").touch()
        changes = await next_changes(watcher)
        assert changes.appeared == {(b"a",)}
        (deepest / "late").touch()
        await hears(watcher, (b"a", b"b", b"c", b"d", b"e"))


async def test_a_tree_moved_in_appears_and_is_watched(tmp_path: FilePath) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    root.mkdir()
    (outside / "x" / "y").mkdir(parents=True)
    async with watching(root) as watcher:
        (outside / "x").rename(root / "x")
        assert (await next_changes(watcher)).appeared == {(b"x",)}
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
        assert (await next_changes(watcher)).appeared == {(b"new",)}
        (tmp_path / "new" / "sub" / "file").touch()
        assert (await next_changes(watcher)).directories == {(b"new", b"sub")}
        assert watcher.watched == 3


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


class CountingWatcher(InotifyWatcher):
    """Counts how often it looks into the queue."""

    reads = 0

    def _read(self) -> None:
        self.reads += 1
        super()._read()


@asynccontextmanager
async def counting(root: FilePath, queue: INotify | None = None) -> AsyncIterator[CountingWatcher]:
    descriptor = os.open(root, os.O_RDONLY)
    with queue or INotify(nonblocking=True) as opened:
        watcher = CountingWatcher(descriptor, opened, InlineWorkers())
        await watcher.watch_everything()
        yield watcher
    os.close(descriptor)


async def test_waiting_in_an_idle_tree_wakes_nobody_and_cancels_at_once(tmp_path: FilePath) -> None:
    async with counting(tmp_path) as watcher:
        before = trio.current_time()
        with trio.move_on_after(0.3):
            await watcher.changes()
        assert trio.current_time() - before < 0.5
        assert watcher.reads == 0


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
        watcher._tree.walk([(b"p", b"a", b"c")])  # known as `p`, which holds the `a` it is now found in
        check_sound(watcher)
        await watcher.watch_everything()
        (tmp_path / "p" / "a" / "c" / "file").touch()
        assert (await next_changes(watcher)).directories == {(b"p", b"a", b"c")}
        assert watcher.watched == 4


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
        directories=frozenset({(b"a",), (b"b",), (b"b", b"c")}), appeared=frozenset({(b"b", b"c")}), overflow=False
    )
    watcher.overflow()
    assert (await watcher.changes()).overflow
