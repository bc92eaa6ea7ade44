"""A direct link takes the place of a splice in the middle of a transfer, and a splice that of a direct link that broke."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from p2psync.index.records import iterate_chunks
from p2psync.replica.replica import Replica
from p2psync.session.peer_link import PeerLink
from p2psync.session.peer_sessions import PeerSessions
from tests.support.devices import Device, converge
from tests.support.peers import CountedStream, device_links, serve_until_lost

LINKS = frozenset({"direct", "splice"})
SIZE = 48 << 20


async def hold(sessions: PeerSessions, replica: Replica, name: str, link: PeerLink) -> None:
    """What the node does with a link that has become the session."""
    with sessions.hold(link):
        await serve_until_lost(replica, name, link)


async def received(stream: CountedStream, count: int) -> None:
    while True:
        if stream.received >= count:
            return
        await trio.sleep(0.001)


async def test_an_older_link_that_comes_last_and_ends_does_not_silence_the_newer_one(tmp_path: Path) -> None:
    """Links follow each other within milliseconds, and tasks run in any order."""
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(None, links=LINKS) as first:
        await b.admitted_by(first)
        async with b.running(None, links=LINKS) as second, trio.open_nursery() as nursery:
            async with device_links(b, a) as (near, far):
                nursery.start_soon(serve_until_lost, second, "a", near)
                nursery.start_soon(serve_until_lost, first, "b", far)
                await converge(first, second)
                asked, moved = second._context.peers["a"], second._context.peers_moved
                async with device_links(b, a) as (late, later):
                    nursery.start_soon(serve_until_lost, second, "a", late)
                    nursery.start_soon(serve_until_lost, first, "b", later)
                    with trio.fail_after(10):
                        while second._context.peers["a"] is asked:
                            await moved.wait(moved.count)
                a.write("after", b"the newer link still asks")
                await converge(first, second, seconds=10)
                assert near.error is None and second._context.peers["a"] is asked
                nursery.cancel_scope.cancel()
    assert b.tree() == a.tree()


@pytest.mark.slow
async def test_nothing_is_sent_twice_when_a_direct_link_takes_over(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    content = os.urandom(SIZE)
    streams: list[CountedStream] = []

    def counted(stream: trio.abc.Stream) -> CountedStream:
        streams.append(CountedStream(stream))
        return streams[-1]

    async with a.running(None, links=LINKS) as first:
        await b.admitted_by(first)
        a.write("big", content)
        await first.rescan()
        async with b.running(None, links=LINKS) as second, trio.open_nursery() as nursery:
            ours, theirs = PeerSessions(), PeerSessions()
            async with device_links(b, a, counted, kind="splice") as (near, far):
                nursery.start_soon(hold, ours, second, "a", near)
                nursery.start_soon(hold, theirs, first, "b", far)
                with trio.fail_after(60):
                    await received(streams[0], SIZE // 6)
                    async with device_links(b, a, counted) as (nearer, farther):
                        nursery.start_soon(hold, ours, second, "a", nearer)
                        nursery.start_soon(hold, theirs, first, "b", farther)
                        await second.in_sync()
                        assert near.error is None, "the old link still delivers what was under way"
                        await near.closed()
                        await far.closed()
                        assert nearer.error is None and farther.error is None
                        spliced, direct = (stream.received for stream in streams)
                        nursery.cancel_scope.cancel()
    assert b.tree()["big"][1] == content
    assert spliced > SIZE / 6 and direct > SIZE / 6, "both were used"
    assert spliced + direct < SIZE + 200_000, "no chunk came twice"


@pytest.mark.slow
async def test_at_most_one_chunk_is_sent_twice_when_a_splice_takes_over_from_a_broken_direct_link(
    tmp_path: Path,
) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    content = os.urandom(SIZE)
    streams: list[CountedStream] = []

    def counted(stream: trio.abc.Stream) -> CountedStream:
        # The direct link breaks in the middle of a chunk.
        streams.append(CountedStream(stream, None if streams else SIZE // 3 + 12_345))
        return streams[-1]

    async with a.running(None, links=LINKS) as first:
        await b.admitted_by(first)
        a.write("big", content)
        await first.rescan()
        async with b.running(None, links=LINKS) as second:
            for kind in ("direct", "splice"):
                async with device_links(b, a, counted, kind=kind) as (near, far), trio.open_nursery() as nursery:
                    nursery.start_soon(hold, PeerSessions(), second, "a", near)
                    nursery.start_soon(hold, PeerSessions(), first, "b", far)
                    with trio.fail_after(60):
                        await (second.in_sync() if kind == "splice" else near.closed())
                    nursery.cancel_scope.cancel()
            placed = second._context.catalog.placed.get((b"big",))
            assert placed is not None
            largest = max(length for _, length in iterate_chunks(placed.content.chunks))
    direct, spliced = (stream.received for stream in streams)
    assert b.tree()["big"][1] == content
    assert direct > SIZE / 4 and spliced > SIZE / 2
    assert direct + spliced < SIZE + largest + 200_000
