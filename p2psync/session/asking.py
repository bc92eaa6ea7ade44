"""The asking end of a link: requests in flight, their bodies and their answers.

Up to REQUESTS_IN_FLIGHT requests run at once, and more that only wait (watch, mail). Every request gets exactly one
answer; giving one up (cancellation) tells the other end and leaves the link as usable as before. Its place in flight is
free again only when the answer has come, so that both ends count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from p2psync.errors import LinkLost, P2psyncError, PeerError
from p2psync.limits import REQUESTS_IN_FLIGHT
from p2psync.session.lanes import Lane
from p2psync.session.link import Link
from p2psync.wire.faults import error_of
from p2psync.wire.frames import Buffer
from p2psync.wire.messages import (
    Answer,
    Bulk,
    Cancel,
    Challenge,
    Claimed,
    Created,
    Done,
    Failure,
    LoggedIn,
    Reply,
    Request,
    Urgent,
)
from p2psync.wire.peer_messages import AnyMessage, ChannelOpened, PeerRequest, Punching

WAITING_REQUESTS = 1024
"""Requests that only wait for something to happen: one watch per folder, and mail."""

Answered = Reply | ChannelOpened | Punching
R = TypeVar("R", bound=Answered)


class _Asked:
    """One request: what it may be answered, and what has come of the answer."""

    __slots__ = ("answered", "error", "expected", "lane", "missing", "most", "parts", "place", "reply", "sending")

    def __init__(
        self, expected: type[Answered], most: int, place: trio.Semaphore, parts: list[bytes | bytearray]
    ) -> None:
        self.expected, self.most, self.place = expected, most, place
        self.answered = trio.Event()
        self.sending = trio.CancelScope()
        self.reply: Answered | None = None
        self.error: P2psyncError | None = None
        self.lane = Lane.URGENT
        self.parts = parts
        self.missing = 0

    def finish(self, error: P2psyncError | None = None) -> None:
        self.error = self.error or error
        self.answered.set()
        self.sending.cancel()


class Asker:
    def __init__(self, link: Link, first: int = 1, step: int = 1) -> None:
        """Requests are numbered from `first` in steps of `step`: 2 where both ends ask."""
        self._link = link
        self._next, self._step = first, step
        self._open: dict[int, _Asked] = {}
        self._flight = trio.Semaphore(REQUESTS_IN_FLIGHT)
        self._waiting = trio.Semaphore(WAITING_REQUESTS)

    async def ask(
        self,
        make: Callable[[int], Request | PeerRequest],
        expected: type[R],
        *,
        body: Sequence[Buffer] = (),
        lane: Lane = Lane.URGENT,
        most: int = 0,
        waits: bool = False,
        parts: list[bytes | bytearray] | None = None,
    ) -> tuple[R, bytes]:
        """Send the request `make(id)` with its body; return the answer and its body of at most `most` bytes.

        A refused request raises the error the other end names; the end of the link raises the link's. `parts` gathers
        the body as it comes, so that whoever gives the list has what had come when the link was lost; then none is
        returned.
        """
        place = self._waiting if waits else self._flight
        await place.acquire()
        if self._link.error is not None:
            place.release()
            raise again(self._link.error)
        number, self._next = self._next, self._next + self._step
        asked = self._open[number] = _Asked(expected, most, place, [] if parts is None else parts)  # type: ignore[arg-type]
        self._link.say(make(number))
        complete = not body
        try:
            if body:
                with asked.sending:
                    async with self._link.outbox.turn(lane):
                        await self._link.outbox.send_body(lane, number, body)
                        complete = True
            if not complete:
                self._give_up(number)
            await asked.answered.wait()
        except trio.Cancelled:
            self._give_up(number)
            raise
        if asked.error is not None:
            raise again(asked.error)
        assert isinstance(asked.reply, expected)
        if parts is not None:
            return asked.reply, b""
        return asked.reply, asked.parts[0] if _is_whole(asked.parts) else b"".join(asked.parts)  # type: ignore[return-value]

    def receive(self, message: AnyMessage, body: bytes | bytearray) -> None:
        """Take one message of the other end: an answer, or a part of one's body."""
        match message:
            case Urgent(request=number, last=last) | Bulk(request=number, last=last):
                self._take_part(number, Lane.URGENT if isinstance(message, Urgent) else Lane.BULK, body, last)
            case Done() | Answer() | Failure() | Challenge() | Created() | LoggedIn() | Claimed():
                self._take_reply(message)
            case ChannelOpened() | Punching():
                self._take_reply(message)
            case _:
                raise PeerError(f"{type(message).__name__} is not what answers a request")

    @property
    def busy(self) -> bool:
        """Whether an answer is under way, other than of requests that only wait."""
        return any(asked.place is self._flight for asked in self._open.values())

    def end(self) -> None:
        """The link has ended: everyone who waits gets its error, and whoever gathers parts what had come of a last one."""
        self._take_torn()
        for asked in self._open.values():
            asked.finish(self._link.error)
            asked.place.release()
        self._open.clear()

    def _take_reply(self, message: Answered) -> None:
        asked = self._open.get(message.request)
        if asked is None or (asked.reply is not None and not isinstance(message, Failure)):
            raise PeerError("an answer came that nobody asked for")
        if isinstance(message, Failure):
            self._close(message.request, error_of(message.code, message.sentence))
            return
        if not isinstance(message, asked.expected):
            raise PeerError(f"the other end answered {type(message).__name__} instead of {asked.expected.__name__}")
        asked.reply = message
        if isinstance(message, Answer) and message.size:
            if message.size > asked.most:
                raise PeerError(f"the other end announces {message.size} bytes where at most {asked.most} belong")
            asked.missing, asked.lane = message.size, Lane.BULK if message.bulk else Lane.URGENT
            return
        self._close(message.request, None)

    def _take_part(self, number: int, lane: Lane, body: bytes | bytearray, last: bool) -> None:
        self._link.permit(lane, len(body))  # it is taken at once: we asked for it, or throw it away
        asked = self._open.get(number)
        if asked is None:
            if number >= self._next:
                raise PeerError("a body came that nobody asked for")
            return  # the tail of an answer that failed midway or was given up
        if asked.reply is None or lane is not asked.lane or len(body) > asked.missing:
            raise PeerError("a body came that does not fit its announcement")
        asked.parts.append(body)
        asked.missing -= len(body)
        if last != (not asked.missing):
            raise PeerError("a body does not end where its announcement says")
        if not asked.missing:
            self._close(number, None)

    def _take_torn(self) -> None:
        """Keep what a cut frame had brought: chunks are cut elsewhere than frames, and a whole one may lie in it."""
        match self._link.conversation.torn():
            case (Urgent(request=number) | Bulk(request=number)) as message, body:
                asked = self._open.get(number)
                lane = Lane.URGENT if isinstance(message, Urgent) else Lane.BULK
                if asked is not None and asked.reply is not None and lane is asked.lane and len(body) < asked.missing:
                    asked.parts.append(body)

    def _close(self, number: int, error: P2psyncError | None) -> None:
        asked = self._open.pop(number)
        asked.finish(error)
        asked.place.release()

    def _give_up(self, number: int) -> None:
        self._link.outbox.forget(number)
        self._link.say(Cancel(request=number))


def again(error: P2psyncError) -> P2psyncError:
    """A fresh error of the same class: one instance raised in many tasks would gather all their tracebacks."""
    return type(error)(*error.args) if isinstance(error, P2psyncError) else LinkLost(str(error))


def _is_whole(parts: list[bytes | bytearray]) -> bool:
    return len(parts) == 1 and isinstance(parts[0], bytes)
