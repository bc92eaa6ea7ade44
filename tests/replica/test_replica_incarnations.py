"""Restored and cloned homes: a new incarnation begins before anything is published, and nothing is lost or undone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import FolderKeys, Keystore
from p2psync.ids import FeedId
from p2psync.index.body import decode_body
from p2psync.index.membership import decode_bind
from p2psync.replica.replica import Replica
from p2psync.sealed.entry import parse
from p2psync.seams import SystemClock
from p2psync.store.interface import BlindStore
from p2psync.store.memory import MemoryStore
from p2psync.vault.entry import open_entry
from tests.support.devices import Device, converge

pytestmark = pytest.mark.slow


def feeds_of(device: Device, owner: Device) -> set[FeedId]:
    catalog = Catalog(device.catalog)
    try:
        return {each.feed for each in catalog.feeds.states() if each.identity == owner.keys.identity_key}
    finally:
        catalog.close()


def predecessors(device: Device, owner: Device) -> set[FeedId | None]:
    """What the feeds of `owner` name as the life before, as `device` holds them."""
    catalog, found = Catalog(device.catalog), set[FeedId | None]()
    try:
        keys = device.keystore.load_folder(catalog.folder)
        for feed in feeds_of(device, owner):
            entry = parse(catalog.feeds.entry(feed, 1) or b"")
            body = decode_body(open_entry(catalog.folder, keys.secrets.epoch(entry.epoch), entry))
            before = decode_bind(body.records[0], catalog.folder, feed).predecessor
            found.add(None if before is None else before.feed)
        return found
    finally:
        catalog.close()


def totals_at(device: Device) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The sums kept in the catalog, and those of its rows."""
    catalog = Catalog(device.catalog)
    try:
        return catalog.totals.get(), (
            catalog._db.scalar("SELECT coalesce(sum(size), 0) FROM wanted WHERE kind <> 3"),
            catalog._db.scalar("SELECT coalesce(sum(size), 0) FROM placed WHERE kind = 0"),
            catalog._db.scalar("SELECT count(*) FROM wanted WHERE source_dir IS NOT NULL"),
        )
    finally:
        catalog.close()


def forks_at(device: Device) -> int:
    catalog = Catalog(device.catalog)
    try:
        return len(catalog.forks.all())
    finally:
        catalog.close()


def copied(device: Device, target: Path, seed: int) -> Device:
    """A copy of a whole home and its tree, as a backup or a cloned machine is."""
    shutil.copytree(device.home, target, symlinks=True)
    return Device(target, seed)


async def all_equal(devices: list[Device], running: list[Replica]) -> dict[str, tuple[str, bytes, int]]:
    """Until all trees are equal and everybody is in sync; the tree.

    A feed that waits does not count for "in sync", and what another device must say again comes some rounds later.
    """
    with trio.fail_after(60):
        while True:
            await converge(*running)
            trees = [device.tree() for device in devices]
            if all(tree == trees[0] for tree in trees):
                return trees[0]
            await running[0].rescan()


def conflicts(device: Device) -> list[str]:
    return [name for name in device.tree() if "sync-conflict" in name]


@asynccontextmanager
async def all_running(store: BlindStore, *devices: Device) -> AsyncIterator[list[Replica]]:
    async with trio.open_nursery() as nursery:
        running: list[Replica] = []

        async def run(device: Device, task_status: trio.TaskStatus[Replica] = trio.TASK_STATUS_IGNORED) -> None:
            async with device.running(store) as replica:
                task_status.started(replica)
                await trio.sleep_forever()

        for device in devices:
            running.append(await nursery.start(run, device))
        yield running
        nursery.cancel_scope.cancel()


async def two_with(home: Path, store: BlindStore, fill: Callable[[Device], None]) -> tuple[Device, Device]:
    a, b = Device(home / "a", 1), Device(home / "b", 2)
    fill(a)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
    return a, b


def fill(device: Device) -> None:
    device.write("doc", b"first")
    device.write("gone", b"to be deleted")
    device.write("dir/kept", b"kept")
    device.write("by b", b"first")
    device.write("big", bytes(range(256)) * 1000)


@pytest.mark.parametrize("restored", ["home and tree", "home alone", "older tree", "tree between"])
async def test_a_restored_home_takes_in_its_own_past_and_undoes_nothing(tmp_path: Path, restored: str) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    older = copied(a, tmp_path / "older", 10)
    async with all_running(store, a, b) as running:
        a.write("later", b"before the second backup")
        a.write("doc", b"second")
        await converge(*running)
    backup = copied(a, tmp_path / "backup", 11)
    async with all_running(store, a, b) as running:
        a.write("doc", b"third")
        (a.root / "gone").unlink()
        a.write("big", b"small now")
        a.write("new", b"after the backup")
        b.write("by b", b"second")
        a.write("passing", b"made and deleted after the backup")
        await converge(*running)
        shutil.copytree(a.root, tmp_path / "between", symlinks=True)
        a.write("big", b"small, and once more changed")
        (a.root / "passing").unlink()
        await converge(*running)
    after = b.tree()
    if restored == "home alone":
        shutil.rmtree(backup.root)
        shutil.copytree(a.root, backup.root)
    elif restored == "older tree":
        shutil.rmtree(backup.root)
        shutil.copytree(older.root, backup.root)
    elif restored == "tree between":
        shutil.rmtree(backup.root)
        shutil.copytree(tmp_path / "between", backup.root, symlinks=True)
    async with all_running(store, backup, b) as running:
        await converge(*running)
        assert len(feeds_of(b, a)) == 2
        assert backup.tree() == b.tree()
        if restored != "older tree":
            assert b.tree() == after
        assert after.items() <= b.tree().items()
        backup.write("doc", b"fourth")
        await converge(*running)
        assert b.tree()["doc"][1] == b"fourth"


async def test_a_home_put_back_without_its_newer_feed_key_or_catalog_goes_on(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    first = copied(a, tmp_path / "first", 11)
    async with all_running(store, a, b) as running:
        a.write("doc", b"second")
        await converge(*running)
    async with all_running(store, first, b) as running:
        first.write("by first", b"in its second life")
        await converge(*running)
    shutil.copyfile(a.catalog, first.catalog)  # of its first life; the key is of the second
    for left in first.catalog.parent.glob("catalog.db-*"):
        left.unlink()
    async with all_running(store, first, b) as running:
        await converge(*running)
        assert first.tree() == b.tree() and b.tree()["by first"][1] == b"in its second life"
        first.write("doc", b"third")
        await converge(*running)
        assert b.tree()["doc"][1] == b"third" and not conflicts(b)
        assert len(feeds_of(b, a)) == 3 and forks_at(b) == 0


class Dies(Exception):
    pass


class DyingKeystore(Keystore):
    """Writes the new key, and then the process is gone."""

    def save_folder(self, keys: FolderKeys) -> None:
        super().save_folder(keys)
        raise Dies


async def test_a_kill_between_the_new_key_and_the_catalog_loses_nothing(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    backup = copied(a, tmp_path / "backup", 11)
    async with all_running(store, a, b) as running:
        a.write("doc", b"second")
        (a.root / "gone").unlink()
        await converge(*running)
    old = backup.keystore
    backup.keystore = DyingKeystore(backup.home / "keys")
    with pytest.raises(BaseExceptionGroup) as failure:
        async with backup.running(store):
            await trio.sleep_forever()
    assert failure.group_contains(Dies)
    backup.keystore = old
    async with all_running(store, backup, b) as running:
        await converge(*running)
        assert backup.tree() == b.tree() == a.tree()
        assert len(feeds_of(b, a)) == 2 and forks_at(b) == 0
        binds = predecessors(b, a)
        assert len(binds) == 2 and binds & feeds_of(b, a), "the new life names the one before"


async def test_what_a_restored_home_wrote_before_it_met_anybody_is_kept(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    backup = copied(a, tmp_path / "backup", 11)
    async with all_running(store, a, b) as running:
        a.write("doc", b"by the lost life")
        a.write("other", b"by the lost life")
        await converge(*running)
    alone = MemoryStore(clock=SystemClock())
    async with backup.running(alone) as replica:
        backup.write("doc", b"by the restored one")
        backup.write("mine", b"by the restored one")
        (backup.root / "gone").unlink()
        await converge(replica)
    async with all_running(store, backup, b) as running:
        await converge(*running)
        assert backup.tree() == b.tree()
        contents = {content for _, content, _ in b.tree().values()}
        assert {b"by the lost life", b"by the restored one"} <= contents
        assert b.tree()["other"][1] == b"by the lost life" and b.tree()["mine"][1] == b"by the restored one"
        assert len(conflicts(b)) == 1 and "gone" in b.tree()
        assert forks_at(b) == 0


async def test_two_clones_of_one_home_end_up_as_two_feeds(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    clone = copied(a, tmp_path / "clone", 12)
    async with all_running(store, a, clone, b) as running:
        a.write("from a", b"a")
        clone.write("from clone", b"clone")
        await converge(*running)
        for number in range(3):
            a.write("doc", b"a %d" % number)
            await converge(*running)
            clone.write("doc", b"clone %d" % number)
            await converge(*running)
        assert a.tree() == b.tree() == clone.tree()
        assert b.tree()["from a"][1] == b"a" and b.tree()["from clone"][1] == b"clone"
        assert b.tree()["doc"][1] == b"clone 2" and not conflicts(b)
        assert len(feeds_of(b, a)) >= 2


async def test_a_fork_keeps_both_contents_and_a_proof_and_the_others_go_on(tmp_path: Path) -> None:
    """Property 23."""
    store, elsewhere = MemoryStore(clock=SystemClock()), MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    c = Device(tmp_path / "c", 3)
    async with all_running(store, a, b) as running:
        await c.admitted_by(running[0])
        async with c.running(store) as third:
            await converge(*running, third)
    clone = copied(a, tmp_path / "clone", 12)
    async with all_running(store, a, b) as running:
        a.write("doc", b"a's branch")
        a.write("from a", b"a")
        await converge(*running)
        b.write("by b", b"on a's branch")
        await converge(*running)
    async with all_running(elsewhere, clone, c) as running:
        clone.write("doc", b"the clone's branch")
        clone.write("from clone", b"clone")
        await converge(*running)
        c.write("from clone", b"edited by c")
        await converge(*running)
    async with all_running(store, b, c) as running:
        await all_equal([b, c], running)
        check_both_branches(b)
        assert forks_at(b) == forks_at(c) == 1
        for device in (b, c):
            kept, counted = totals_at(device)
            assert kept == counted, "what was worked out anew is summed up anew"
        async with all_running(store, a, clone) as others:
            await all_equal([a, b, c, clone], [*running, *others])
            check_both_branches(a)
            for number, device in enumerate((a, b, c, clone)):
                device.write(f"later {number}", b"all go on")
            assert "later 3" in await all_equal([a, b, c, clone], [*running, *others])
        assert len(feeds_of(b, a)) == 3
        assert len(feeds_of(a, b)) == len(feeds_of(a, c)) == 1, "who was not copied goes on"


def check_both_branches(device: Device) -> None:
    tree = device.tree()
    docs = {content for name, (_, content, _) in tree.items() if name.startswith("doc")}
    assert {b"a's branch", b"the clone's branch"} <= docs
    assert tree["from a"][1] == b"a" and tree["by b"][1] == b"on a's branch"
    assert b"edited by c" in {content for _, content, _ in tree.values()}


async def test_who_was_admitted_on_one_branch_of_a_fork_stays_a_member(tmp_path: Path) -> None:
    store, elsewhere = MemoryStore(clock=SystemClock()), MemoryStore(clock=SystemClock())
    a, b = await two_with(tmp_path, store, fill)
    clone, d = copied(a, tmp_path / "clone", 12), Device(tmp_path / "d", 4)
    async with all_running(store, a, b) as running:
        await d.admitted_by(running[0])
        async with d.running(store) as newcomer:
            await converge(*running, newcomer)
            d.write("by d", b"before the fork is known")
            b.write("by b", b"written under that admission")
            await converge(*running, newcomer)
    async with clone.running(elsewhere) as alone:
        clone.write("from clone", b"clone")
        await converge(alone)
    for name, data in [(each.key, await elsewhere.get(each.key)) for each in await elsewhere.list("", "", 1000)]:
        await store.put([(name, data)])
    async with all_running(store, a, b, clone, d) as running:
        await all_equal([a, b, clone, d], running)
        for device in (a, b, clone, d):
            device.write(f"by {device.seed}", b"all go on")
        await all_equal([a, b, clone, d], running)
        assert {"by d", "from clone", "by 4"} <= d.tree().keys() and forks_at(d) == 1
        assert b.tree()["by b"][1] == b"written under that admission"
        assert len(feeds_of(a, b)) == len(feeds_of(a, d)) == 1, "who was not copied goes on"
