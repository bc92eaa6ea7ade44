"""The fetcher: brings the chunks a batch of files still lacks, from the connected stores.

Requests are planned (`planner/fetching.py`), several are in flight, and each answer is opened, verified and written in
one worker hop. A frame that does not open, or a pack a store does not give, is named as a trouble and tried again
later with growing patience; everything else goes on. Files that become complete are handed on while others still load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from p2psync.errors import IntegrityError, LinkLost, NotFound, PeerError
from p2psync.ids import ChunkId, Ciphertext
from p2psync.index.records import iterate_chunks
from p2psync.planner.fetching import Segment, WantedFrame, plan_segments
from p2psync.replica.assembly import Assembler, Assembly
from p2psync.replica.context import Context
from p2psync.replica.materialiser import Materialiser, Plan
from p2psync.sealed.keys import pack_key
from p2psync.vault.pack import FrameSealer

_IN_FLIGHT = 4
"""Requests at once: 4 × SEGMENT_MAX bounds the memory, and hides the round trip."""
_LOCAL_BYTES = 32 << 20
_LOCAL_CHUNKS = 256
"""Local copying per worker hop: cancellable, and long enough to make the hop cheap."""
_PATIENCE_FIRST, _PATIENCE_MOST = 1.0, 60.0

Ready = Callable[[list[Assembly]], Awaitable[None]]


class Fetcher:
    def __init__(self, context: Context, materialiser: Materialiser) -> None:
        self._context, self._materialiser = context, materialiser
        self._patience: dict[int, tuple[float, float]] = {}
        """Damaged or missing packs: (do not ask before, next delay)."""

    async def fetch(self, plans: Sequence[Plan], ready: Ready) -> None:
        """Assemble the files of these plans as far as sources reach; `ready` is awaited with complete ones."""
        context, assembler = self._context, Assembler(self._context)
        done = await context.workers.run(assembler.begin, plans)
        if done:
            await ready(done)
        for chunks in _local_groups(assembler):
            done = await context.workers.run(assembler.from_here, chunks)
            if done:
                await ready(done)
        if assembler.wanted and context.stores:
            segments = await context.workers.run(self._plan, assembler)
            await self._fetch_segments(segments, assembler, ready)

    async def fetch_list(self, rows: bytes, generation: int) -> None:
        """Bring the chunks of a chunk list into the catalog, so that the file's own chunks are known."""
        context = self._context
        frames = await context.workers.run(self._plan_list, rows)
        for segment in plan_segments(frames):
            data = await self._get(segment)
            if data is not None:
                await context.workers.run(self._keep_list, segment, data, generation)

    def _plan_list(self, rows: bytes) -> list[WantedFrame]:
        locations = self._context.catalog.locations
        missing = [ChunkId(c) for c, _ in iterate_chunks(rows) if locations.list_chunk(ChunkId(c)) is None]
        return [frame for chunk in missing if (frame := self._locate(chunk)) is not None]

    def _keep_list(self, segment: Segment, data: Ciphertext, generation: int) -> None:
        def keep(chunk: ChunkId, plain: bytes) -> list[Assembly]:
            self._context.catalog.locations.add_list_chunk(chunk, plain)
            return []

        self._open(segment, data, keep)

    def _plan(self, assembler: Assembler) -> list[Segment]:
        return plan_segments(frame for chunk in assembler.wanted if (frame := self._locate(chunk)) is not None)

    def _locate(self, chunk: ChunkId) -> WantedFrame | None:
        now = self._context.clock.now()
        for place in self._context.catalog.locations.find(chunk):
            if self._patience.get(place.pack, (0.0, 0.0))[0] <= now:
                return WantedFrame(chunk, place.pack, place.index, place.position, place.sealed_size, place.plain_size)
        return None

    async def _fetch_segments(self, segments: list[Segment], assembler: Assembler, ready: Ready) -> None:
        queue = iter(segments)

        async def work() -> None:
            for segment in queue:
                data = await self._get(segment)
                if data is None:
                    continue
                done = await self._context.workers.run(self._open, segment, data, assembler.take)
                del data
                if done:
                    await ready(done)

        async with trio.open_nursery() as nursery:
            for _ in range(min(_IN_FLIGHT, len(segments))):
                nursery.start_soon(work)

    async def _get(self, segment: Segment) -> Ciphertext | None:
        """The bytes of a segment from the first store that gives them."""
        context = self._context
        pack = await context.workers.run(context.catalog.locations.pack, segment.pack)
        reason = "no store that holds it is reachable"
        for name, store in list(context.stores.items()):
            try:
                data = await store.get(pack_key(pack.name), segment.position, segment.size)
            except (NotFound, PeerError) as error:
                reason = f"{name} does not give it ({error})"
                continue
            except LinkLost:
                continue
            return data
        self._postpone(segment.pack, f"pack {pack.name.hex()[:16]} cannot be read: {reason}; trying again")
        return None

    def _postpone(self, pack: int, sentence: str) -> None:
        _, delay = self._patience.get(pack, (0.0, _PATIENCE_FIRST))
        self._patience[pack] = (self._context.clock.now() + delay, min(delay * 2, _PATIENCE_MOST))
        self._context.set_trouble_quietly(f"pack {pack}", sentence)

    def _open(
        self, segment: Segment, data: Ciphertext, take: Callable[[ChunkId, bytes], list[Assembly]]
    ) -> list[Assembly]:
        """Open, verify and use every needed frame of an answer; in a worker."""
        context = self._context
        pack = context.catalog.locations.pack(segment.pack)
        generation = context.secrets.generations.get(pack.generation)
        done: list[Assembly] = []
        try:
            sealer = FrameSealer(context.folder, context.secrets.epoch(pack.epoch), pack.salt)
            if generation is None:
                raise IntegrityError("it was cut under a generation this device does not know")
            for frame in segment.frames:
                start = frame.position - segment.position
                sealed = memoryview(data)[start : start + frame.sealed_size]
                chunk = ChunkId(frame.chunk)
                plain = sealer.open(frame.index, chunk, sealed, frame.plain_size, generation)
                done += take(chunk, plain)
                self._materialiser.opened.append((chunk, segment.pack, frame.index))
        except IntegrityError as error:
            where = ", ".join(context.stores) or "its store"
            self._postpone(
                segment.pack, f"pack {pack.name.hex()[:16]} at {where} is damaged: {error}; it is fetched again later"
            )
        else:
            if self._patience.pop(segment.pack, None) is not None:
                context.trouble.pop(f"pack {segment.pack}", None)
        return done

    @property
    def retry_after(self) -> float | None:
        """Seconds until the earliest postponed pack may be asked for again; None when there is none."""
        if not self._patience:
            return None
        return max(0.05, min(until for until, _ in self._patience.values()) - self._context.clock.now())


def _local_groups(assembler: Assembler) -> list[list[ChunkId]]:
    groups: list[list[ChunkId]] = []
    size = 0
    for chunk, targets in assembler.wanted.items():
        if not groups or size > _LOCAL_BYTES or len(groups[-1]) >= _LOCAL_CHUNKS:
            groups.append([])
            size = 0
        groups[-1].append(chunk)
        assembly, index = targets[0]
        size += assembly.chunks[index][2]
    return groups
