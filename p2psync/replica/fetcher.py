"""The fetcher: brings the chunks a batch of files still lacks, from this disk first, then live peers, then stores.

What is asked of whom is planned (`planner/sources.py`, `planner/fetching.py`); here the requests run, several in flight
at every source, and each answer is opened, verified and written in one worker hop. What had come of a cut answer counts.
A source that fails is left for the others; what nobody gives is tried again later with growing patience. Files that
become complete are handed on while others still load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from p2psync.ids import ChunkId, Plaintext
from p2psync.index.paths import Path
from p2psync.index.records import iterate_chunks
from p2psync.planner.grouping import grouped
from p2psync.planner.sources import Piece, Sharing
from p2psync.replica.assembly import Assembler, Assembly
from p2psync.replica.context import Context
from p2psync.replica.intake import Intake, Take
from p2psync.replica.materialiser import Materialiser
from p2psync.replica.plans import Plan
from p2psync.replica.store_fetching import StoreFetching
from p2psync.replica.transfer import Transfer

_LOCAL_BYTES = 32 << 20
_LOCAL_CHUNKS = 256
"""Local copying per worker hop: cancellable, and long enough to make the hop cheap."""
_LOCAL_AT_ONCE = 2
"""Hops at once: reading, hashing and writing a large file leave the other core idle (1 GiB of a tmpfs: 0.9 s by one)."""
_PATIENCE_FIRST, _PATIENCE_MOST = 1.0, 30.0

Ready = Callable[[list[Assembly]], Awaitable[None]]


class Fetcher:
    def __init__(self, context: Context, materialiser: Materialiser) -> None:
        self._context = context
        self._stores = StoreFetching(context, materialiser)
        self._ask_peers_at = 0.0
        self._delay = _PATIENCE_FIRST
        self._left_over = False
        self.came_in_vain = False
        """Some temp went away while it was filled, so its file starts over: try again in a while."""
        self._unfinished: dict[Path, Assembly] = {}

    async def fetch(self, plans: Sequence[Plan], ready: Ready) -> None:
        """Assemble the files of these plans as far as sources reach; `ready` is awaited with complete ones."""
        context, assembler = self._context, Assembler(self._context, self._unfinished)
        done = await context.workers.run(assembler.begin, plans)
        if done:
            await ready(done)
        await self._copy_here(assembler, ready)
        if assembler.wanted and (context.stores or context.peers):
            pieces = [_piece(chunk, *targets[0]) for chunk, targets in assembler.wanted.items()]
            await self._transfer(pieces, assembler.take, ready)
            self._note_left_over(bool(assembler.wanted))
        self.came_in_vain |= assembler.leave()

    async def _copy_here(self, assembler: Assembler, ready: Ready) -> None:
        """Take from this disk what it has."""
        groups = iter(grouped(assembler.wanted, assembler.length_of, most=_LOCAL_CHUNKS, most_bytes=_LOCAL_BYTES))

        def from_here(chunks: Sequence[ChunkId]) -> list[Assembly]:
            with (
                self._context.turn_over(len(chunks), sum(map(assembler.length_of, chunks))),
                Intake(assembler.take) as intake,
            ):
                for chunk, plain in assembler.found_here(chunks):
                    intake.add(chunk, plain)
            return intake.done

        async def copy() -> None:
            for chunks in groups:
                done = await self._context.workers.run(from_here, chunks)
                if done:
                    await ready(done)

        async with trio.open_nursery() as nursery:
            for _ in range(_LOCAL_AT_ONCE):
                nursery.start_soon(copy)

    async def fetch_list(self, rows: bytes, generation: int) -> None:
        """Bring the chunks of a chunk list into the catalog, so that the file's own chunks are known."""
        locations = self._context.catalog.locations

        def missing() -> list[Piece]:
            return [
                Piece(ChunkId(chunk), length, generation)
                for chunk, length in iterate_chunks(rows)
                if locations.list_chunk(ChunkId(chunk)) is None
            ]

        def keep(came: Sequence[tuple[ChunkId, Plaintext]]) -> list[Assembly]:
            for chunk, plain in came:
                locations.add_list_chunk(chunk, plain)
            return []

        async def nothing_ready(assemblies: list[Assembly]) -> None:
            raise AssertionError("chunks of a list complete no file")

        pieces = await self._context.workers.run(missing)
        if pieces and (self._context.stores or self._context.peers):
            await self._transfer(pieces, keep, nothing_ready)
            self._note_left_over(bool(await self._context.workers.run(missing)))

    async def fetch_chunks(self, pieces: Sequence[Piece], take: Take) -> None:
        """Bring chunks that belong to no file of the tree; `take` keeps them and returns nothing."""

        async def nothing_ready(assemblies: list[Assembly]) -> None:
            raise AssertionError("these chunks complete no file of the tree")

        if pieces and (self._context.stores or self._context.peers):
            await self._transfer(pieces, take, nothing_ready)

    async def _transfer(self, pieces: Sequence[Piece], take: Take, ready: Ready) -> None:
        await Transfer(self._context, self._stores, Sharing(pieces), take, ready).run()

    def _note_left_over(self, left_over: bool) -> None:
        if left_over and self._context.peers:
            self._ask_peers_at = self._context.clock.now() + self._delay
            self._delay = min(self._delay * 2, _PATIENCE_MOST)
        elif not left_over:
            self._delay = _PATIENCE_FIRST
        self._left_over = left_over and bool(self._context.peers)

    @property
    def retry_after(self) -> float | None:
        """Seconds until something may be asked for again; None when nothing waits for time alone."""
        waits = [self._stores.retry_after]
        if self.came_in_vain:
            waits.append(_PATIENCE_FIRST)
        if self._left_over:
            waits.append(max(0.05, self._ask_peers_at - self._context.clock.now()))
        return min((wait for wait in waits if wait is not None), default=None)


def _piece(chunk: ChunkId, assembly: Assembly, index: int) -> Piece:
    version = assembly.plan.version
    assert version is not None, "what is assembled has a version"
    return Piece(chunk, assembly.chunks[index][2], version.content.generation)
