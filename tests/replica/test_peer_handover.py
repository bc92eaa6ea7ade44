"""A direct link takes the place of a splice in the middle of a transfer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from p2psync.replica.replica import Replica
from p2psync.session.peer_link import PeerLink
from p2psync.session.peer_sessions import PeerSessions
from tests.support.devices import Device
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
