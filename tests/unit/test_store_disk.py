"""What only the disk store must do: survive kills and disk faults, read little, keep its files to itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio

from p2psync.crypto.hashing import content_hash
from p2psync.errors import IntegrityError, NotFound, StorageError
from p2psync.net.workers import InlineWorkers
from p2psync.sealed.keys import ObjectKey
from p2psync.store.disk import DiskStore, open_disk_store
from p2psync.store.memory import MemoryStore
from p2psync.store.packs import PackFiles
from p2psync.store.retention import DELETE_GRACE_SECONDS
from p2psync.store.rows import ObjectRows
from tests.support.dying_store import FIRST, OPERATIONS, SECOND, DyingStores, held_after
from tests.support.objects import BlindObject, blind, make_chain, make_feed_key, make_pack
from tests.support.stores import STORE_FACTORIES, SettableClock

ENTRY = blind(make_chain(make_feed_key(3), 1)[0])
PACK = make_pack(30, 10_000)
OTHER_PACK = make_pack(31)


def open_store(directory: Path, clock: SettableClock | None = None):  # type: ignore[no-untyped-def]
    return open_disk_store(directory, workers=InlineWorkers(), clock=clock or SettableClock())


def file_of(directory: Path, thing: BlindObject) -> Path:
    name = thing[0].removeprefix("p/")
    return directory / "packs" / name[:2] / name


def lose_database(directory: Path) -> None:
    for path in directory.glob("objects.db*"):
        path.unlink()


async def held(store: DiskStore) -> set[ObjectKey]:
    return {item.key for item in await store.list("")}


async def fail_at(monkeypatch: pytest.MonkeyPatch, store: DiskStore, owner: type, name: str) -> None:
    """Put PACK and ENTRY with one step raising as a full disk does."""

    def full(*arguments: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(StorageError):
            await store.put([PACK, ENTRY])


async def test_what_was_put_is_there_after_reopening(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put([PACK, ENTRY])
        await store.delete([PACK[0]])
        before, heads, usage = await store.watch(-1), await store.heads(), await store.usage()
    async with open_store(tmp_path) as store:
        assert (await store.watch(-1), await store.heads(), await store.usage()) == (before, heads, usage)
        await store.restore([PACK[0]])
        assert await store.get(PACK[0]) == PACK[1]
        assert await store.get(ENTRY[0]) == ENTRY[1]


async def test_files_and_directories_are_private_under_any_umask(tmp_path: Path) -> None:
    """Property 47."""
    old = os.umask(0)
    try:
        async with open_store(tmp_path / "store") as store:
            await store.put([PACK, ENTRY])
            paths = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
            assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o700}
            assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}
    finally:
        os.umask(old)


async def test_a_range_reads_only_that_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        data = original(descriptor, length, offset)
        read.append(len(data))
        return data

    async with open_store(tmp_path) as store:
        await store.put([PACK])
        monkeypatch.setattr(os, "pread", counted)
        assert await store.get(PACK[0], 3000, 70) == PACK[1][3000:3070]
    assert sum(read) == 70


async def test_a_failure_before_the_commit_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Property 52."""
    async with open_store(tmp_path) as store:
        for owner, name in [(PackFiles, "receive"), (PackFiles, "sync_received"), (ObjectRows, "keep")]:
            await fail_at(monkeypatch, store, owner, name)
            assert await held(store) == set()
            assert list((tmp_path / "incoming").iterdir()) == []
        await store.put([PACK, ENTRY])
        assert await held(store) == {PACK[0], ENTRY[0]}


async def test_a_failure_after_the_commit_keeps_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path) as store:
        await fail_at(monkeypatch, store, PackFiles, "place")
        assert await store.get(PACK[0]) == PACK[1]
        assert len(await store.heads()) == 1
        await store.put([PACK, ENTRY])
    async with open_store(tmp_path) as store:
        assert file_of(tmp_path, PACK).exists()
        assert await store.get(PACK[0]) == PACK[1]


async def test_temporary_files_of_a_kill_are_removed(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put([PACK])
    (tmp_path / "incoming" / OTHER_PACK[0][2:]).write_bytes(OTHER_PACK[1][:100])
    async with open_store(tmp_path) as store:
        assert list((tmp_path / "incoming").iterdir()) == []
        assert await held(store) == {PACK[0]}


async def test_half_a_temporary_file_beside_a_deleted_pack_is_not_taken_for_it(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put([PACK])
        await store.delete([PACK[0]])
    file_of(tmp_path, PACK).unlink()
    (tmp_path / "incoming" / PACK[0][2:]).write_bytes(bytes(len(PACK[1])))
    async with open_store(tmp_path) as store:
        with pytest.raises(NotFound):
            await store.restore([PACK[0]])
        await store.put([PACK])
        assert await store.get(PACK[0]) == PACK[1]


@pytest.mark.parametrize("damage", ["gone", "short"])
async def test_a_pack_whose_file_is_lost_is_missing_after_a_restart(tmp_path: Path, damage: str) -> None:
    async with open_store(tmp_path) as store:
        await store.put([PACK, OTHER_PACK, ENTRY])
        path = file_of(tmp_path, PACK)
        if damage == "gone":
            path.unlink()
            with pytest.raises(NotFound):
                await store.get(PACK[0])
        else:
            path.write_bytes(PACK[1][:50])
            with pytest.raises(IntegrityError):
                await store.get(PACK[0])
    async with open_store(tmp_path) as store:
        assert await store.missing([PACK[0], OTHER_PACK[0], ENTRY[0]]) == {PACK[0]}
        assert (await store.usage()).stored_bytes == len(OTHER_PACK[1]) + len(ENTRY[1])
        await store.put([PACK])
        assert await store.get(PACK[0]) == PACK[1]


async def test_packs_outlive_the_loss_of_the_database(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put([PACK, OTHER_PACK])
    lose_database(tmp_path)
    file_of(tmp_path, OTHER_PACK).write_bytes(bytes(len(OTHER_PACK[1])))
    async with open_store(tmp_path) as store:
        assert await store.get(PACK[0]) == PACK[1]
        assert await held(store) == {PACK[0]}
        assert not file_of(tmp_path, OTHER_PACK).exists()
        usage = await store.usage()
        assert (usage.objects, usage.stored_bytes) == (1, len(PACK[1]))


async def test_strange_files_are_left_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.put([PACK])
    strangers = [tmp_path / "packs" / "notes", file_of(tmp_path, PACK).with_name("README"), tmp_path / "incoming" / "x"]
    for path in strangers:
        path.write_text("mine")
    async with open_store(tmp_path) as store:
        assert await held(store) == {PACK[0]}
    assert all(path.read_text() == "mine" for path in strangers)


@pytest.mark.parametrize("name", ["memory", "disk"])
async def test_deleted_bytes_go_after_thirty_days_and_no_earlier(name: str, tmp_path: Path) -> None:
    clock = SettableClock()
    async with STORE_FACTORIES[name](tmp_path, clock, None) as store:
        assert isinstance(store, (MemoryStore, DiskStore))
        await store.put([PACK, OTHER_PACK, ENTRY])
        await store.delete([PACK[0], ENTRY[0]])
        clock.time += 10
        await store.delete([OTHER_PACK[0]])
        assert await store.collect(clock.now() + DELETE_GRACE_SECONDS - 11) == 0
        await store.restore([PACK[0]])
        assert await store.collect(clock.now() + DELETE_GRACE_SECONDS - 10) == 1
        usage = await store.usage()
        assert (usage.objects, usage.stored_bytes) == (1, len(PACK[1]) + len(OTHER_PACK[1]))
        with pytest.raises(NotFound):
            await store.restore([ENTRY[0]])
        assert await store.collect(clock.now() + DELETE_GRACE_SECONDS) == 1
        assert await store.get(PACK[0]) == PACK[1]
        await store.put([OTHER_PACK, ENTRY])
        assert await store.get(OTHER_PACK[0]) == OTHER_PACK[1]


async def test_collected_packs_leave_no_file_and_do_not_come_back(tmp_path: Path) -> None:
    clock = SettableClock()
    async with open_store(tmp_path, clock) as store:
        await store.put([PACK])
        await store.delete([PACK[0]])
        assert await store.collect(clock.now() + DELETE_GRACE_SECONDS) == 1
        assert not file_of(tmp_path, PACK).exists()
    async with open_store(tmp_path) as store:
        assert await held(store) == set()
        assert (await store.usage()).stored_bytes == 0


async def test_a_collection_that_fails_midway_leaves_nothing_that_only_seems_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock()

    def full(*arguments: object) -> None:
        raise StorageError("the disk is full")

    async with open_store(tmp_path, clock) as store:
        await store.put([PACK])
        await store.delete([PACK[0]])
        with monkeypatch.context() as patch:
            patch.setattr(ObjectRows, "forget", full)
            with pytest.raises(StorageError):
                await store.collect(clock.now() + DELETE_GRACE_SECONDS)
        with pytest.raises(NotFound):
            await store.restore([PACK[0]])
        await store.put([PACK])
        assert await store.get(PACK[0]) == PACK[1]


async def test_an_unusable_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        async with open_store(tmp_path / "file" / "store"):
            pass


async def test_cancelled_puts_leave_whole_batches(tmp_path: Path) -> None:
    """Property 67: cancellation at every checkpoint."""
    for checkpoints in range(8):
        directory = tmp_path / str(checkpoints)
        async with open_store(directory) as store:
            with trio.CancelScope() as scope:

                async def cancel_later(scope: trio.CancelScope = scope, count: int = checkpoints) -> None:
                    for _ in range(count):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_later)
                    await store.put([PACK, ENTRY])
            assert await held(store) in (set(), {PACK[0], ENTRY[0]})
            assert list((directory / "incoming").iterdir()) == []
            assert len(await store.heads()) == len(await store.list("e/"))


async def check_old_or_new(directory: Path, acknowledged: int) -> None:
    bytes_of = dict([*FIRST, *SECOND])
    async with open_store(directory) as store:
        present = await held(store)
        assert present in (held_after(acknowledged), held_after(acknowledged + 1))
        for key in present:
            assert await store.get(key) == bytes_of[key]
        assert list((directory / "incoming").iterdir()) == []
        for path in (directory / "packs").glob("*/*"):
            assert content_hash(path.read_bytes()).hex() == path.name
        await store.put([*FIRST, *SECOND])
        for key, data in bytes_of.items():
            assert await store.get(key) == data
        assert (await store.usage()).stored_bytes == sum(map(len, bytes_of.values()))


@pytest.mark.parametrize("steps", [55, 85, 120])
async def test_a_kill_leaves_the_old_or_the_new_state(tmp_path: Path, steps: int) -> None:
    with DyingStores() as stores:
        killed, acknowledged = stores.run(tmp_path / "store", steps)
    assert killed
    await check_old_or_new(tmp_path / "store", acknowledged)


@pytest.mark.slow
async def test_a_kill_before_any_step_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    """Property 53, for every step on the disk that the operations take."""
    seen = set()
    with DyingStores() as stores:
        for steps in range(1000):
            directory = tmp_path / str(steps)
            killed, acknowledged = stores.run(directory, steps)
            seen.add(acknowledged)
            if not killed:
                break
            await check_old_or_new(directory, acknowledged)
            shutil.rmtree(directory)
    assert seen == set(range(len(OPERATIONS) + 1))
