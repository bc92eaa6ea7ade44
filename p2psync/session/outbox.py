"""What one end of a link still has to write: messages first, urgent bodies next, one bulk frame at a time.

Owns the order of writing, the coalescing of small frames into one send, and the credit the other end has given. A
message never waits behind more than the one bulk frame being written. It does not know requests beyond their ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import trio

from p2psync.errors import PeerError
from p2psync.limits import FRAME_BODY_MAX
from p2psync.net.wide import send_buffers
from p2psync.session.lanes import Lane
from p2psync.wire.conversation import Conversation
from p2psync.wire.frames import Buffer
from p2psync.wire.messages import BODY_MAX, Bulk, Urgent
from p2psync.wire.peer_messages import AnyMessage

COALESCE_BYTES = 256 * 1024
"""Sends of this size reach the TLS ceiling; more would only delay what comes next."""
LANE_FRAMES = 2
"""Frames of one lane waiting to be written: one on its way, one ready behind it."""
MESSAGES_MAX = 4 * 1024 * 1024
"""Bytes of unwritten messages at which the reader stops taking new requests from an end that does not read."""


class _Queue:
    __slots__ = ("credit", "frames", "funded", "room", "turn")

    def __init__(self) -> None:
        self.frames: deque[tuple[int, int, list[Buffer]]] = deque()
        """(request, bytes of body, the frame's buffers)."""
        self.credit = 0
        self.funded = trio.lowlevel.ParkingLot()
        self.room = trio.lowlevel.ParkingLot()
        self.turn = trio.Lock()


class Slices:
    """Cuts a sequence of buffers into runs of asked-for sizes without copying."""

    __slots__ = ("_buffers", "left")

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._buffers = deque(memoryview(buffer) for buffer in buffers if len(buffer))
        self.left = sum(len(buffer) for buffer in self._buffers)

    def take(self, count: int) -> list[memoryview]:
        taken = []
        self.left -= count
        while count:
            view = self._buffers.popleft()
            if len(view) > count:
                self._buffers.appendleft(view[count:])
                view = view[:count]
            taken.append(view)
            count -= len(view)
        return taken


class Outbox:
    def __init__(self, stream: trio.abc.Stream, conversation: Conversation) -> None:
        self._stream, self._conversation = stream, conversation
        self._messages: deque[bytes] = deque()
        self._message_bytes = 0
        self._lanes = {lane: _Queue() for lane in Lane}
        self._work = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self.sent_at = trio.current_time()

    def say(self, message: AnyMessage) -> None:
        """Queue a message; it goes before any body."""
        data = self._conversation.send(message)
        self._messages.append(data)
        self._message_bytes += len(data)
        self._work.unpark_all()

    def credit(self, lane: Lane, count: int) -> None:
        """The other end grants `count` more body bytes. PeerError when the sum is absurd."""
        queue = self._lanes[lane]
        queue.credit += count
        if queue.credit > BODY_MAX:
            raise PeerError("the other end grants more credit than any window has")
        queue.funded.unpark_all()

    def turn(self, lane: Lane) -> trio.Lock:
        """Held while a body is sent: bodies of a lane go one after another, in the order in which they ask.

        To keep the order of messages, ask for it without any checkpoint after `say`.
        """
        return self._lanes[lane].turn

    async def wait_funded(self, lane: Lane) -> None:
        """Wait until something may be sent in `lane`: no use reading a disk for an end that does not read."""
        await trio.lowlevel.checkpoint()
        await self._funded(self._lanes[lane])

    async def _funded(self, queue: _Queue) -> None:
        """Without a checkpoint while there is credit: frames of one body follow one another."""
        while not queue.credit:
            await queue.funded.park()

    async def send_body(self, lane: Lane, request: int, buffers: Sequence[Buffer], ends: bool = True) -> None:
        """Send one body, or a part of it when `ends` is false; the caller holds the lane's turn."""
        slices, queue = Slices(buffers), self._lanes[lane]
        await trio.lowlevel.checkpoint()
        while slices.left:
            await self._funded(queue)
            while len(queue.frames) >= LANE_FRAMES:
                await queue.room.park()
            size = min(slices.left, queue.credit, FRAME_BODY_MAX)
            queue.credit -= size
            body = slices.take(size)
            last = ends and not slices.left
            message = Urgent(request=request, last=last) if lane is Lane.URGENT else Bulk(request=request, last=last)
            queue.frames.append((request, size, [self._conversation.send(message, size), *body]))
            self._work.unpark_all()

    def forget(self, request: int) -> None:
        """Drop unwritten body frames of a request that was given up; their credit is ours again."""
        for lane, queue in self._lanes.items():
            kept = deque(frame for frame in queue.frames if frame[0] != request)
            freed = sum(size for number, size, _ in queue.frames if number == request)
            queue.frames = kept
            if freed:
                self.credit(lane, freed)
                queue.room.unpark_all()

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be written; the last send may still be on its way."""
        return not self._messages and not any(queue.frames for queue in self._lanes.values())

    async def wait_room(self) -> None:
        """Wait while too many unwritten messages stand here."""
        while self._message_bytes > MESSAGES_MAX:
            await self._drained.park()

    async def run(self) -> None:
        """Write until cancelled; trio's stream errors go to the caller."""
        while True:
            batch = self._next_batch()
            if not batch:
                await self._work.park()
                continue
            await send_buffers(self._stream, batch)
            self.sent_at = trio.current_time()

    async def flush(self) -> None:
        """Write the queued messages now: before `run` has started and after it has ended."""
        data = b"".join(self._messages)
        self._messages.clear()
        self._message_bytes = 0
        await self._stream.send_all(data)

    def _next_batch(self) -> list[Buffer]:
        batch: list[Buffer] = []
        size = 0
        while self._messages and size < COALESCE_BYTES:
            data = self._messages.popleft()
            batch.append(data)
            size += len(data)
            self._message_bytes -= len(data)
        self._drained.unpark_all()
        for queue in self._lanes.values():
            if queue.frames and size < COALESCE_BYTES:
                _, count, buffers = queue.frames.popleft()
                batch += buffers
                size += count
                queue.room.unpark_all()
        return batch
