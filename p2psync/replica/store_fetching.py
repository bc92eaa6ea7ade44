"""Fetching from stores: chunks as byte ranges of packs, opened and verified.

Requests are planned (`planner/fetching.py`), several are in flight. A frame that does not open, or a pack no store
gives, is named as a trouble and left alone for a while with growing patience; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from p2psync.errors import IntegrityError, LinkLost, NotFound, PeerError
from p2psync.ids import ChunkId, Ciphertext
from p2psync.planner.fetching import Segment, WantedFrame, plan_segments
from p2psync.planner.sources import Piece
from p2psync.replica.assembly import Assembly
from p2psync.replica.context import Context, Fetched, pack_subject
from p2psync.replica.intake import Intake, Take
from p2psync.replica.materialiser import Materialiser
from p2psync.sealed.keys import pack_key
from p2psync.vault.pack import FrameSealer

_IN_FLIGHT = 4
"""Requests at once: 4 × SEGMENT_MAX bounds the memory, and hides the round trip."""
_PATIENCE_FIRST, _PATIENCE_MOST = 1.0, 60.0

Came = Callable[[list[ChunkId], list[Assembly]], Awaitable[None]]
"""Awaited with what an answer brought and the files it completed."""


class StoreFetching:
    def __init__(self, context: Context, materialiser: Materialiser) -> None:
        self._context, self._materialiser = context, materialiser
        self._patience: dict[int, tuple[float, float]] = {}
        """Damaged or missing packs: (do not ask before, next delay)."""

    async def fetch(self, pieces: Sequence[Piece], take: Take, came: Came) -> None:
        """Bring what can be had of `pieces` from the connected stores."""
        segments = await self._context.workers.run(self._plan, pieces)
        queue = iter(segments)

        async def work() -> None:
            for segment in queue:
                answer = await self._get(segment)
                if answer is None:
                    continue
                name, data = answer
                got, done = await self._context.workers.run(self._use, segment, data, take)
                del answer, data
                self._count(name, segment, got)
                await came(got, done)

        async with trio.open_nursery() as nursery:
            for _ in range(min(_IN_FLIGHT, len(segments))):
                nursery.start_soon(work)

    @property
    def retry_after(self) -> float | None:
        """Seconds until the earliest postponed pack may be asked for again; None when there is none."""
        if not self._patience:
            return None
        return max(0.05, min(until for until, _ in self._patience.values()) - self._context.clock.now())

    def _plan(self, pieces: Sequence[Piece]) -> list[Segment]:
        return plan_segments(frame for piece in pieces if (frame := self._locate(piece.chunk)) is not None)

    def _locate(self, chunk: ChunkId) -> WantedFrame | None:
        now = self._context.clock.now()
        for place in self._context.catalog.locations.find(chunk):
            if self._patience.get(place.pack, (0.0, 0.0))[0] <= now:
                return WantedFrame(chunk, place.pack, place.index, place.position, place.sealed_size, place.plain_size)
        return None

    async def _get(self, segment: Segment) -> tuple[str, Ciphertext] | None:
        """The bytes of a segment from the first store that gives them, and its name."""
        context = self._context
        pack = await context.workers.run(context.catalog.locations.pack, segment.pack)
        if pack is None:
            return None
        reason = "no store that holds it is reachable"
        for name, store in list(context.stores.items()):
            try:
                data = await store.get(pack_key(pack.name), segment.position, segment.size)
            except (NotFound, PeerError) as error:
                reason = f"{name} does not give it ({error})"
                continue
            except LinkLost:
                continue
            return name, data
        self._postpone(segment.pack, f"pack {pack.name.hex()[:16]} cannot be read: {reason}; trying again")
        return None

    def _postpone(self, pack: int, sentence: str) -> None:
        _, delay = self._patience.get(pack, (0.0, _PATIENCE_FIRST))
        self._patience[pack] = (self._context.clock.now() + delay, min(delay * 2, _PATIENCE_MOST))
        self._context.set_trouble_quietly(pack_subject(pack), sentence)

    def _use(self, segment: Segment, data: Ciphertext, take: Take) -> tuple[list[ChunkId], list[Assembly]]:
        with self._context.turn_over(len(segment.frames), segment.size):
            return self._open(segment, data, take)

    def _open(self, segment: Segment, data: Ciphertext, take: Take) -> tuple[list[ChunkId], list[Assembly]]:
        """Open, verify and use every needed frame of an answer; in a worker."""
        context = self._context
        pack = context.catalog.locations.pack(segment.pack)
        if pack is None:
            return [], []
        generation = context.secrets.generations.get(pack.generation)
        intake = Intake(take)
        try:
            sealer = FrameSealer(context.folder, context.secrets.epoch(pack.epoch), pack.salt)
            if generation is None:
                raise IntegrityError("it was cut under a generation this device does not know")
            with intake:
                for frame in segment.frames:
                    start = frame.position - segment.position
                    sealed = memoryview(data)[start : start + frame.sealed_size]
                    chunk = ChunkId(frame.chunk)
                    intake.add(chunk, sealer.open(frame.index, chunk, sealed, frame.plain_size, generation))
                    self._materialiser.opened.append((chunk, segment.pack, frame.index))
        except IntegrityError as error:
            where = ", ".join(context.stores) or "its store"
            self._postpone(
                segment.pack, f"pack {pack.name.hex()[:16]} at {where} is damaged: {error}; it is fetched again later"
            )
        else:
            if self._patience.pop(segment.pack, None) is not None:
                context.trouble.pop(pack_subject(segment.pack), None)
        return intake.got, intake.done

    def _count(self, name: str, segment: Segment, got: Sequence[ChunkId]) -> None:
        fetched = self._context.fetched.setdefault(name, Fetched())
        taken = set(got)
        fetched.chunks += len(taken)
        fetched.bytes += sum(frame.plain_size for frame in segment.frames if frame.chunk in taken)
