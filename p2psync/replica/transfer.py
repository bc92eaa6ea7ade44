"""One transfer: the requests for one batch of chunks, at all live peers and stores at once.

Owns the tasks: some for every peer that serves the folder now or comes while the transfer runs, one for the stores.
Which chunk is asked of whom is `planner/sources.py`'s decision; a transfer ends when nothing is under way and nobody is
left to ask, whether all has come or not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from p2psync.errors import IntegrityError, P2psyncError, PeerError
from p2psync.ids import ChunkId
from p2psync.planner.sources import SLOW_SECONDS, Piece, Sharing
from p2psync.replica.assembly import Assembly
from p2psync.replica.context import Context, Fetched, Signal
from p2psync.replica.intake import Intake, Take
from p2psync.replica.store_fetching import StoreFetching
from p2psync.session.peer_channel import PeerChannel
from p2psync.vault.stream import open_stream
from p2psync.wire.peer_bodies import WantedChunk, split_stream

_IN_FLIGHT = 3
"""Requests at once to one peer: one being opened here, one on its way, one being sealed there."""

Ready = Callable[[list[Assembly]], Awaitable[None]]


class Transfer:
    def __init__(self, context: Context, stores: StoreFetching, sharing: Sharing, take: Take, ready: Ready) -> None:
        """`take` keeps verified chunks (in a worker); `ready` is awaited with files that became complete."""
        self._context, self._stores, self._sharing = context, stores, sharing
        self._take, self._ready = take, ready
        self._moved = Signal()
        self._working: dict[str, PeerChannel] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._admit_peers(nursery)
            nursery.start_soon(self._follow_peers, nursery)
            nursery.start_soon(self._work_stores)
            while not self._sharing.finished(bool(self._context.stores)):
                with trio.move_on_after(SLOW_SECONDS / 4):  # stores may go without a word
                    await self._moved.wait(self._moved.count)
            nursery.cancel_scope.cancel()

    # Peers.

    async def _follow_peers(self, nursery: trio.Nursery) -> None:
        moved = self._context.peers_moved
        while True:
            await moved.wait(moved.count)
            self._admit_peers(nursery)
            self._moved.notify()

    def _admit_peers(self, nursery: trio.Nursery) -> None:
        for name, channel in self._context.peers.items():
            if self._working.get(name) is not channel:
                self._working[name] = channel
                self._sharing.join(name)
                for _ in range(_IN_FLIGHT):
                    nursery.start_soon(self._work_peer, name, channel)

    async def _work_peer(self, name: str, channel: PeerChannel) -> None:
        while self._working.get(name) is channel and name in self._sharing.peers:
            seen = self._moved.count
            asked = self._sharing.take(name, trio.current_time())
            if not asked:
                with trio.move_on_after(SLOW_SECONDS / 4):
                    await self._moved.wait(seen)
                continue
            if not await self._ask(name, channel, asked):
                self._drop(name, channel)
                return

    def _drop(self, name: str, channel: PeerChannel) -> None:
        """This channel is not asked again; what was asked on it is free for others."""
        if self._working.get(name) is channel and name in self._sharing.peers:
            self._sharing.leave(name)
            self._moved.notify()

    async def _ask(self, name: str, channel: PeerChannel, asked: Sequence[Piece]) -> bool:
        """One request and what comes of it; False when this peer is of no more use to this transfer."""
        wanted = [WantedChunk(piece.chunk, piece.length) for piece in asked]
        parts: list[bytes | bytearray] = []
        lost: P2psyncError | None = None
        try:
            await channel.chunks(asked[0].generation, wanted, parts)
        except P2psyncError as error:
            lost = error
        got, done, bad = await self._context.workers.run(self._open, asked[0].generation, wanted, parts)
        parts.clear()
        self._count(name, asked, got)
        self._sharing.settle(name, asked, got, lost=lost is not None or bad is not None)
        self._moved.notify()
        if done:
            await self._ready(done)
        if bad is not None or isinstance(lost, PeerError):
            self._context.set_trouble(f"peer {name}", f"{name} sent what cannot be used: {bad or lost}")
        elif lost is None:
            self._context.trouble.pop(f"peer {name}", None)
        return lost is None and bad is None

    def _open(
        self, number: int, wanted: Sequence[WantedChunk], parts: Sequence[bytes | bytearray]
    ) -> tuple[set[ChunkId], list[Assembly], P2psyncError | None]:
        """Verify and keep every complete chunk of an answer, whole or cut; in a worker."""
        context = self._context
        intake = Intake(self._take)
        bad: P2psyncError | None = None
        generation = context.secrets.generations.get(number)
        try:
            stream = split_stream(b"".join(parts), len(wanted))
            if stream is not None and generation is not None:
                with context.turn_over(len(wanted), sum(each.length for each in wanted)), intake:
                    for chunk, plain in open_stream(context.folder, context.secrets, generation, wanted, stream):
                        intake.add(chunk, plain)
        except (IntegrityError, PeerError) as error:
            bad = error
        return set(intake.got), intake.done, bad

    def _count(self, name: str, asked: Sequence[Piece], got: set[ChunkId]) -> None:
        fetched = self._context.fetched.setdefault(name, Fetched())
        fetched.chunks += len(got)
        fetched.bytes += sum(piece.length for piece in asked if piece.chunk in got)

    # Stores.

    async def _work_stores(self) -> None:
        while True:
            seen = self._moved.count
            pieces = self._sharing.take_unserved(trio.current_time()) if self._context.stores else []
            if not pieces:
                with trio.move_on_after(SLOW_SECONDS / 4):
                    await self._moved.wait(seen)
                continue
            came: set[ChunkId] = set()

            async def take_in(got: list[ChunkId], done: list[Assembly], came: set[ChunkId] = came) -> None:
                came.update(got)
                if done:
                    await self._ready(done)

            await self._stores.fetch(pieces, self._take, take_in)
            self._sharing.settle_stores(pieces, came)
            self._moved.notify()
