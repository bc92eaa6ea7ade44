"""Property 43: a line that is reset at any byte, and gives bytes in any pieces, costs at most one chunk each time."""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path

import pytest
import trio

from p2psync.errors import LinkLost
from p2psync.index.records import iterate_chunks
from p2psync.replica.replica import Replica
from p2psync.session.peer_link import PeerLink, accept_peer_link, open_peer_link
from tests.support.devices import Device, SeededRandomness
from tests.support.peers import DIRECT, serve_until_lost, tcp_pair

SIZE = 24 << 20
GREETING = 4_000
"""About what TLS, hello and the opening of a channel take; here reads give one byte at a time."""


class BadLine(trio.abc.Stream):
    """Reads in pieces of any size, and after `limit` bytes a reset: the other end gets an RST, not a goodbye."""

    def __init__(self, inner: trio.SocketStream, limit: int | None, chance: random.Random) -> None:
        self._inner, self._limit, self._chance = inner, limit, chance
        self.received = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        most = 1 if self.received < GREETING else self._chance.choice((1, 100, 70_000, 300_000))
        if self._limit is not None:
            most = min(most, self._limit - self.received)
        if not most:
            self._inner.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(self._inner)
            raise trio.BrokenResourceError("reset")
        data = await self._inner.receive_some(most)
        self.received += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def over(line: BadLine, far: trio.abc.Stream, a: Device, first: Replica, b: Device, second: Replica) -> None:
    """`b` dials `a`; both serve the folder until the line breaks or `b` has everything."""

    async def answer() -> None:
        members = {b.keys.identity_key: b.keys.certificate}
        try:
            async with accept_peer_link(
                far, device=a.keys, members=members, randomness=SeededRandomness(1)
            ) as link:  # fmt: skip
                await serve_until_lost(first, "b", link)
        except LinkLost:
            return

    async def serve(link: PeerLink, scope: trio.CancelScope) -> None:
        await serve_until_lost(second, "a", link)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        try:
            async with open_peer_link(
                line, device=b.keys, expected=a.keys.identity_key, certificate=a.keys.certificate,
                randomness=SeededRandomness(2),
            ) as link, trio.open_nursery() as serving:  # fmt: skip
                serving.start_soon(serve, link, serving.cancel_scope)
                await second.in_sync()
                serving.cancel_scope.cancel()
        except* LinkLost:
            pass


@pytest.mark.slow
async def test_a_line_reset_at_any_byte_costs_at_most_one_chunk_each_time(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    chance = random.Random(43)
    # Most of what can go wrong goes wrong early: a third of the resets fall into the greeting, the rest anywhere.
    limits = [chance.randrange(GREETING) for _ in range(12)] + [chance.randrange(3 << 20) for _ in range(12)]
    chance.shuffle(limits)
    a.found()
    content = os.urandom(SIZE)
    received = resets = 0
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        a.write("big", content)
        await first.rescan()
        async with b.running(None, links=DIRECT) as second:
            for limit in (*limits, None):
                near, far = await tcp_pair()
                assert isinstance(near, trio.SocketStream)
                line = BadLine(near, limit, chance)
                with trio.fail_after(30):
                    await over(line, far, a, first, b, second)
                received += line.received
                resets += line.received == limit
                if "big" in b.tree():
                    break
            placed = second._context.catalog.placed.get((b"big",))
            assert placed is not None
            largest = max(length for _, length in iterate_chunks(placed.content.chunks))
    assert b.tree()["big"][1] == content
    assert resets >= 20
    assert received < SIZE + resets * (largest + 20_000)
