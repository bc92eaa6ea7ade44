"""The answering end of a link: each request runs in its own task and gets exactly one answer.

Owns the tasks, the bodies on their way in, and their order of admission: within a lane a body's bytes are asked for
only after those of every earlier body were, which together with the sender's order keeps windows free of deadlock. What
a request means is the handler's business.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from p2psync.errors import BugError, P2psyncError, PeerError
from p2psync.limits import REQUESTS_IN_FLIGHT
from p2psync.session.asking import WAITING_REQUESTS
from p2psync.session.budget import Budget
from p2psync.session.lanes import Lane
from p2psync.session.link import Link
from p2psync.wire.faults import Fault, fault_of
from p2psync.wire.frames import Buffer
from p2psync.wire.messages import (
    Answer,
    BodyMessage,
    Bulk,
    Cancel,
    Failure,
    Put,
    Reply,
    Request,
    Urgent,
    WaitingMessage,
)
from p2psync.wire.peer_messages import (
    AnyMessage,
    ChannelOpened,
    GetChunks,
    PeerRequest,
    Punching,
    PutEntries,
    WatchHeads,
)

PIECE_BYTES = 1024 * 1024
"""An answer is read from its store in pieces of this size: one thread hop each, and one of them in memory per link."""
STALL_SECONDS = 60
"""A body whose bytes stop coming for this long gives its share of memory back."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that is read while it is sent: `read(offset, length)` gives each piece, accounted in `budget`."""

    size: int
    read: Callable[[int, int], Awaitable[Buffer]]
    budget: Budget


Response = Reply | ChannelOpened | Punching | tuple[Answer, Stream] | tuple[Answer, bytes] | None
"""None: the handler has said its answer itself."""


class RequestBody:
    """The bytes that belong to one request."""

    def __init__(self, link: Link, lane: Lane, size: int, before: trio.Event) -> None:
        self._link, self.lane, self.size, self._before = link, lane, size, before
        self.admitted = trio.Event()
        self.parts: list[Buffer] = []
        self.missing = size
        self._permitted = self._dropped = False
        self._progress = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def received(self, budget: Budget) -> AsyncIterator[list[Buffer]]:
        """The whole body, held in `budget` for the length of the block. The parts may be cleared to free them."""
        await self._before.wait()
        async with budget.hold(self.size):
            self._permitted = True
            self._link.permit(self.lane, self.size)
            self.admitted.set()
            while self.missing:
                with trio.move_on_after(STALL_SECONDS) as patience:
                    await self._progress.park()
                if patience.cancelled_caught:
                    raise PeerError(f"a body stopped coming {self.missing} bytes before its end")
            yield self.parts

    def arrived(self, part: bytes | bytearray, last: bool) -> None:
        if len(part) > self.missing or last != (len(part) == self.missing):
            raise PeerError("a body does not end where its announcement says")
        self.missing -= len(part)
        if self._dropped:
            if not self._permitted:
                self._link.permit(self.lane, len(part))
            return
        self.parts.append(part)
        self._progress.unpark_all()

    def drop(self) -> None:
        """Nobody wants the rest; what was received is freed."""
        if self._dropped:
            return
        self._dropped = True
        self.admitted.set()
        if not self._permitted:
            self._link.permit(self.lane, self.size - self.missing)
        self.parts.clear()

    def end(self) -> None:
        """The sender said that no more comes."""
        self.drop()
        if self._permitted:
            self._link.withdraw(self.lane, self.missing)


Asked = Request | PeerRequest
Handler = Callable[[Any, RequestBody], Awaitable[Response]]
"""Takes the requests of its protocol: a relay's `Request`, a device's `PeerRequest`."""


class Server:
    """Serves the requests of one link in `nursery`."""

    def __init__(self, link: Link, nursery: trio.Nursery, handler: Handler) -> None:
        self._link, self._nursery, self._handler = link, nursery, handler
        self._running: dict[int, trio.CancelScope] = {}
        self._bodies: dict[int, RequestBody] = {}
        self._highest = 0
        self._waiting = 0
        ready = trio.Event()
        ready.set()
        self._last_admitted = dict.fromkeys(Lane, ready)

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or written, other than of requests that only wait."""
        return len(self._running) > self._waiting

    def receive(self, message: AnyMessage, body: bytes | bytearray) -> None:
        """Take one message: a request, a part of one's body, or the end of either."""
        match message:
            case Urgent(request=number, last=last) | Bulk(request=number, last=last):
                incoming = self._bodies.get(number)
                lane = Lane.URGENT if isinstance(message, Urgent) else Lane.BULK
                if incoming is None or incoming.lane is not lane:
                    raise PeerError("a body came that belongs to no request")
                incoming.arrived(body, last)
                if not incoming.missing:
                    del self._bodies[number]
            case Cancel(request=number):
                if number > self._highest:
                    raise PeerError("a request was given up that was never made")
                if (abandoned := self._bodies.pop(number, None)) is not None:
                    abandoned.end()
                if (scope := self._running.get(number)) is not None:
                    scope.cancel()
            case _:
                self._start(message)  # type: ignore[arg-type]

    def _start(self, request: Asked) -> None:
        if request.request <= self._highest:
            raise PeerError("request ids must grow")
        self._highest = request.request
        waits = isinstance(request, WaitingMessage | WatchHeads)
        in_flight = self._waiting if waits else len(self._running) - self._waiting
        if (
            in_flight >= (WAITING_REQUESTS if waits else REQUESTS_IN_FLIGHT)
            or len(self._bodies) > 2 * REQUESTS_IN_FLIGHT
        ):
            raise PeerError("too many requests in flight")
        body = self._expect(request)
        scope = self._running[request.request] = trio.CancelScope()
        self._waiting += waits
        self._nursery.start_soon(self._serve, request, body, scope, waits)

    def _expect(self, request: Asked) -> RequestBody:
        size = request.size if isinstance(request, BodyMessage | PutEntries | GetChunks) else 0
        lane = Lane.BULK if isinstance(request, Put) and request.bulk else Lane.URGENT
        body = RequestBody(self._link, lane, size, self._last_admitted[lane])
        if size:
            self._last_admitted[lane] = body.admitted
            self._bodies[request.request] = body
        return body

    async def _serve(self, request: Asked, body: RequestBody, scope: trio.CancelScope, waits: bool) -> None:
        number = request.request
        try:
            with scope:
                await self._answer(request, body)
            if scope.cancelled_caught:
                self._fail(number, Fault.CANCELLED, "the request was given up")
        except P2psyncError as error:
            if isinstance(error, BugError):
                log.error("request %s failed", type(request).__name__, exc_info=error)
            self._fail(number, *fault_of(error))
        finally:
            body.drop()
            del self._running[number]
            self._waiting -= waits

    async def _answer(self, request: Asked, body: RequestBody) -> None:
        response = await self._handler(request, body)
        if response is None:
            return
        if not isinstance(response, tuple):
            self._link.say(response)
            return
        answer, content = response
        self._link.say(answer)
        if not answer.size:
            return
        lane = Lane.BULK if answer.bulk else Lane.URGENT
        try:
            async with self._link.outbox.turn(lane):
                if isinstance(content, Stream):
                    await self._send_stream(lane, answer.request, content)
                else:
                    await self._link.outbox.send_body(lane, answer.request, [content])
        except BaseException:
            self._link.outbox.forget(answer.request)
            raise

    async def _send_stream(self, lane: Lane, number: int, content: Stream) -> None:
        outbox, start = self._link.outbox, 0
        while start < content.size:
            await outbox.wait_funded(lane)
            count = min(PIECE_BYTES, content.size - start)
            async with content.budget.hold(count):
                piece = await content.read(start, count)
                if len(piece) != count:
                    raise BugError("a store gave another range than was asked for")
                start += count
                await outbox.send_body(lane, number, [piece], ends=start == content.size)

    def _fail(self, number: int, code: int, sentence: str) -> None:
        self._link.say(Failure(request=number, code=code, sentence=sentence))


def joined(parts: Sequence[Buffer]) -> bytes:
    """The parts of a body as one bytes object, without a copy when there is one part of that type."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
