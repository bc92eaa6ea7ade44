"""Several sources in one transfer, links that break in the middle, files that change while they are served."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.ids import ChunkId, FeedId
from p2psync.index.records import iterate_chunks
from p2psync.replica.filesystem import OpenFile
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import Replica
from p2psync.replica.serving import FolderAnswers
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from p2psync.vault.channel import FolderProver
from p2psync.vault.stream import open_stream
from p2psync.wire.peer_bodies import WantedChunk, split_stream
from tests.support.devices import Device, converge, idle, until
from tests.support.peers import DIRECT, CountedStream, device_links, linked, serve_until_lost, two_linked


class HalfBlindDisk(LocalFilesystem):
    """A disk with files that cannot be read any more: as their device is concerned, they are there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.unreadable: set[bytes] = set()

    def open_file(self, path: tuple[bytes, ...]) -> AbstractContextManager[OpenFile]:
        if path[-1] in self.unreadable:
            raise OSError(errno.EIO, "unreadable")
        return super().open_file(path)


def lose(replica: Replica, name: bytes) -> None:
    disk = replica._context.filesystem
    assert isinstance(disk, HalfBlindDisk)
    disk.unreadable.add(name)


@asynccontextmanager
async def three(home: Path) -> AsyncIterator[list[tuple[Device, Replica]]]:
    """Three members of one folder, running, linked to nobody; `a` is the admin."""
    a, b, c = (Device(home / name, seed) for seed, name in enumerate("abc", 1))
    a.found()
    options = {"links": DIRECT, "make_filesystem": HalfBlindDisk}
    async with a.running(None, **options) as first:
        await b.admitted_by(first)
        await c.admitted_by(first)
        async with b.running(None, **options) as second, c.running(None, **options) as third:
            yield [(a, first), (b, second), (c, third)]


async def test_two_devices_that_hold_different_halves_both_feed_a_third(tmp_path: Path) -> None:
    async with three(tmp_path) as ((a, first), (b, second), (c, third)):
        halves = os.urandom(12 << 20), os.urandom(12 << 20)
        a.write("left", halves[0])
        b.write("right", halves[1])
        async with linked(a, first, b, second):
            await converge(first, second)
        lose(first, b"right")
        lose(second, b"left")
        async with linked(a, first, c, third), linked(b, second, c, third):
            with trio.fail_after(60):
                await third.in_sync()
            fetched = (await third.status()).fetched
        assert c.tree()["left"][1] == halves[0] and c.tree()["right"][1] == halves[1]
        assert fetched["a"].bytes == fetched["b"].bytes == 12 << 20


async def test_two_complete_devices_share_the_work(tmp_path: Path) -> None:
    async with three(tmp_path) as ((a, first), (b, second), (c, third)):
        a.write("big", os.urandom(32 << 20))
        async with linked(a, first, b, second):
            await converge(first, second)
            async with linked(a, first, c, third), linked(b, second, c, third):
                await converge(first, second, third, seconds=60)
                fetched = (await third.status()).fetched
        assert c.tree() == a.tree()
        assert fetched["a"].bytes + fetched["b"].bytes == 32 << 20
        assert min(fetched["a"].bytes, fetched["b"].bytes) >= 4 << 20


async def test_content_passes_through_a_device_in_the_middle(tmp_path: Path) -> None:
    async with three(tmp_path) as ((a, first), (b, second), (c, third)):
        async with linked(a, first, b, second), linked(c, third, b, second):
            a.write("from a", os.urandom(3 << 20))
            c.write("from c", b"hello")
            await converge(first, second, third)
            await converge(first, second, third)
            assert a.tree() == b.tree() == c.tree()
            assert set(a.tree()) == {"from a", "from c"}


async def test_what_no_live_device_has_comes_from_a_store(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    content = os.urandom(8 << 20)
    a.write("file", content)
    async with a.running(store) as first:
        await first.in_sync()
        await b.admitted_by(first)
        await first.in_sync()
    async with a.running(None, make_filesystem=HalfBlindDisk) as first, b.running(None) as second:
        await first.rescan()
        lose(first, b"file")
        async with linked(a, first, b, second), trio.open_nursery() as nursery:
            with trio.fail_after(30):
                while not (await second.status()).need_files:
                    await second._context.changed.wait(second._context.changed.count)
                nursery.start_soon(second.serve_store, "store", store)
                while (await second.status()).need_files:
                    await second._context.changed.wait(second._context.changed.count)
            nursery.cancel_scope.cancel()
        fetched = (await second.status()).fetched
        assert b.tree()["file"][1] == content
        assert fetched["store"].bytes == 8 << 20 and "a" not in {k for k, v in fetched.items() if v.bytes}


async def test_a_live_device_is_asked_before_a_store(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    a.write("file", os.urandom(8 << 20))
    async with a.running(store) as first:
        await first.in_sync()
        await b.admitted_by(first)
        async with b.running(None) as second, linked(a, first, b, second), trio.open_nursery() as nursery:
            nursery.start_soon(second.serve_store, "store", store)
            await converge(first, second)
            fetched = (await second.status()).fetched
            assert fetched["a"].bytes == 8 << 20 and "store" not in fetched
            nursery.cancel_scope.cancel()


async def test_links_without_store_leave_the_store_alone(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(store, links=DIRECT) as first:
        await b.admitted_by(first)
        async with b.running(store, links=DIRECT) as second, linked(a, first, b, second):
            a.write("file", os.urandom(1 << 20))
            a.write("small", b"small")
            await converge(first, second)
            assert a.tree() == b.tree()
            status = await until(first, idle)
            assert status.upload_bytes == 0 and status.stores == {}
    assert (await store.usage()).objects == 0


async def test_a_folder_is_not_in_sync_with_nobody_connected(tmp_path: Path) -> None:
    a = Device(tmp_path / "a", 1)
    a.found()
    async with a.running(None, links=DIRECT) as first:
        await first.rescan()
        with trio.move_on_after(0.5) as waited:
            await first.in_sync()
        assert waited.cancelled_caught


# Breaks.


async def test_a_link_cut_in_the_middle_resends_at_most_one_chunk_each_time(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    size = 24 << 20
    content = os.urandom(size)
    received, breaks = 0, 0
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        a.write("big", content)
        await first.rescan()
        async with b.running(None, links=DIRECT) as second:
            for limit in (1_000_000, 3_300_000, 5_000_001, 7_777_777, None):
                streams: list[CountedStream] = []

                def counted(stream: trio.abc.Stream, limit: int | None = limit) -> CountedStream:
                    streams.append(CountedStream(stream, limit))  # noqa: B023
                    return streams[-1]  # noqa: B023

                async with device_links(b, a, counted) as (near, far), trio.open_nursery() as nursery:
                    nursery.start_soon(serve_until_lost, first, "b", far)
                    with trio.fail_after(60):
                        if limit is None:
                            nursery.start_soon(serve_until_lost, second, "a", near)
                            await second.in_sync()
                            nursery.cancel_scope.cancel()
                        else:
                            await serve_until_lost(second, "a", near)
                            breaks += 1
                received += streams[0].received
            fetched = (await second.status()).fetched["a"].bytes
            placed = second._context.catalog.placed.get((b"big",))
            assert placed is not None
            largest = max(length for _, length in iterate_chunks(placed.content.chunks))
    assert b.tree()["big"][1] == content
    assert breaks == 4 and fetched == size
    # What came beyond the content itself: entries and framing, and at each break less than one chunk.
    assert received < size + 200_000 + breaks * largest


async def test_a_file_that_changed_since_answers_not_found_and_never_wrong_bytes(tmp_path: Path) -> None:
    async with two_linked(tmp_path) as (a, _, first, _):
        a.write("file", os.urandom(2 << 20))
        await first.rescan()
        context = first._context
        rows = context.catalog.placed.get((b"file",))
        assert rows is not None
        wanted = [WantedChunk(ChunkId(chunk), length) for chunk, length in iterate_chunks(rows.content.chunks)]
        answers = FolderAnswers(context, context.changed)

        async def given() -> list[int]:
            data = b"".join(await answers.chunks(0, wanted))
            parts = split_stream(data, len(wanted))
            assert parts is not None and parts.whole
            generation = context.secrets.generation
            return [len(plain) for _, plain in open_stream(context.folder, context.secrets, generation, wanted, parts)]

        assert len(await given()) == len(wanted) > 1
        with (a.root / "file").open("r+b") as file:
            file.write(b"x")  # within the first chunk
        assert len(await given()) == len(wanted) - 1
        (a.root / "file").unlink()
        assert await given() == []
        assert await answers.chunks(9, wanted) is not None  # a generation nobody knows: nothing, but no error


async def test_entries_of_a_mebibyte_cross_in_any_number(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    for number in range(800):
        target = os.urandom(4000).replace(b"\0", b"x").replace(b"/", b"y")  # nothing to compress
        os.symlink(target, os.fsencode(a.root / str(number)))
    async with a.running(None, links=DIRECT) as first, contextlib.AsyncExitStack() as stack:
        await first.rescan()
        await b.admitted_by(first)
        second = await stack.enter_async_context(b.running(None, links=DIRECT))
        await stack.enter_async_context(linked(a, first, b, second))
        await converge(first, second)
        sizes = [
            len(data)
            for state in first._context.catalog.feeds.states()
            for _, _, data in first._context.catalog.feeds.entries_after(FeedId(state.feed), 0, 1000)
        ]
        assert sizes.count(1 << 20) >= 2
        assert a.tree() == b.tree() and len(b.tree()) == 800


async def test_a_device_that_is_no_member_gets_nothing(tmp_path: Path) -> None:
    a, b, c = (Device(tmp_path / name, seed) for seed, name in enumerate("abc", 1))
    a.found()
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        async with b.running(None, links=DIRECT) as second:
            async with linked(a, first, b, second):
                await converge(first, second)
            # c stole b's disk: it has the folder's secret, but its own identity. A careless listener even let it in.
            async with device_links(c, a) as (near, far), trio.open_nursery() as nursery:
                nursery.start_soon(serve_until_lost, first, "c", far)
                async with near.offer(
                    FolderProver(second.secrets), FolderAnswers(second._context, second._context.changed)
                ) as offer:
                    with trio.move_on_after(0.5) as waited:
                        await offer.open()
                    assert waited.cancelled_caught
                nursery.cancel_scope.cancel()


async def test_a_change_arrives_without_being_asked_for(tmp_path: Path) -> None:
    async with two_linked(tmp_path) as (a, b, first, second):
        a.write("warm", b"up")
        await converge(first, second)
        pulled: list[object] = []
        (link,) = second._peers
        channel = link._channel
        assert channel is not None
        real = channel.entries

        async def entries(feed: FeedId, after: int) -> object:
            pulled.append(feed)
            return await real(feed, after)

        channel.entries = entries  # type: ignore[assignment, method-assign]
        a.write("news", b"pushed")
        with trio.fail_after(10):
            while "news" not in b.tree():
                await second._context.changed.wait(second._context.changed.count)
        assert not pulled


@pytest.mark.slow
async def test_a_large_file_passes_within_bounded_memory(tmp_path: Path) -> None:
    size = 200 << 20
    async with two_linked(tmp_path) as (a, b, first, second):
        await converge(first, second)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with (a.root / "large").open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        started = time.monotonic()
        await converge(first, second, seconds=120)
        taken = time.monotonic() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
        print(f"{size / taken / 1e6:.0f} MB/s, {grown} MiB more at the peak, both devices together")
        assert (a.root / "large").stat().st_size == (b.root / "large").stat().st_size == size
        assert grown < 160
