"""One link over a byte stream: reading, writing, windows, keepalive, and the one way it ends.

Whoever uses a link gives it `receive`, called for every message in the order of arrival; it must not block. A link ends
with one error, which everybody who waits for anything on it gets. It does not know what requests mean: `asking` and
`serving` stand on it. Timing is trio's, so simulations drive it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2psync.errors import LinkLost, P2psyncError, PeerError
from p2psync.net.wide import receive_into
from p2psync.session.lanes import Ahead, Lane, Window
from p2psync.session.outbox import Outbox
from p2psync.wire.conversation import Conversation, Speaker, State
from p2psync.wire.faults import error_of, fault_of
from p2psync.wire.messages import Bulk, Credit, Failure, Ping, Pong, Urgent
from p2psync.wire.peer_messages import AnyMessage

IDLE_SECONDS = 15
"""A link that has been silent for this long asks for a sign of life: NATs forget idle connections after minutes."""
DEAD_SECONDS = 45
PROBE_SECONDS = 5
"""What the other end has for a sign of life when there is reason to doubt the link."""
FAREWELL_SECONDS = 2
READ_BYTES = 16 * 1024
"""Read at once where a frame begins: one TLS record. The rest of a large body is read to where it belongs."""

Receive = Callable[[AnyMessage, bytes | bytearray], None]


class Link:
    """All ends of all links use this class; `me` says which end this is, `conversation` another protocol than a relay's."""

    def __init__(
        self, stream: trio.abc.Stream, me: Speaker, peer: str, conversation: Conversation | None = None
    ) -> None:
        self._stream = stream
        self._peer = peer
        self.conversation = conversation or Conversation(me)
        self.outbox = Outbox(stream, self.conversation)
        self._windows = {lane: Window() for lane in Lane}
        self._scratch = memoryview(bytearray(READ_BYTES))
        self._heard_at = trio.current_time()
        self._answer_due: float | None = None
        self._probed = trio.Event()
        self._ended = trio.Event()
        self.pongs = 0
        """Signs of life that answered ours: everything said before was read by then."""
        self.error: P2psyncError | None = None
        """Why the link ended; None while it lives."""

    async def next_message(self) -> AnyMessage:
        """The next message while `run` is not running yet: for the hello."""
        while True:
            event = self.conversation.next_event()
            if event is not None:
                return event[0]
            await self._read()

    def open_windows(self, ahead: Ahead) -> None:
        """Let the other end send `ahead` bytes more per lane without being asked."""
        self._give({lane: self._windows[lane].permit(ahead.of(lane)) for lane in Lane})

    def permit(self, lane: Lane, count: int) -> None:
        """There is room for `count` more body bytes."""
        self._give({lane: self._windows[lane].permit(count)})

    def withdraw(self, lane: Lane, count: int) -> None:
        self._windows[lane].withdraw(count)

    def say(self, message: AnyMessage) -> None:
        """Queue a message; nothing happens when the link has ended."""
        if self.error is None:
            self.outbox.say(message)

    def probe(self) -> None:
        """Ask for a sign of life now: the link ends unless one comes within seconds. Asking twice asks once."""
        if self._answer_due is None:
            self._answer_due = trio.current_time() + PROBE_SECONDS
            self.say(Ping())
            self._probed.set()

    async def run(self, receive: Receive) -> None:
        """Carry the link until it ends. Returns then; `error` says why. Cancelling it ends it too."""
        try:
            async with trio.open_nursery() as nursery:
                for task in (self._write, self._keep_alive):
                    nursery.start_soon(self._guard, task, nursery.cancel_scope)
                await self._guard(self._listen, nursery.cancel_scope, receive)
        finally:
            self._end(LinkLost(f"the link to {self._peer} was closed"))

    @property
    def silent_for(self) -> float:
        """Seconds since anything was heard."""
        return trio.current_time() - self._heard_at

    async def ended(self) -> None:
        await self._ended.wait()

    async def aclose(self, reason: P2psyncError | None = None) -> None:
        """Close the stream; a reason is told to the other end first, if it still listens."""
        self._end(reason or LinkLost(f"the link to {self._peer} was closed"))
        with trio.move_on_after(FAREWELL_SECONDS) as scope:
            scope.shield = True
            if reason is not None and self.conversation.state is not State.CLOSED:
                await self._farewell(reason)
            await self._stream.aclose()
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self._stream)

    async def _farewell(self, reason: P2psyncError) -> None:
        code, sentence = fault_of(reason)
        if not self.conversation.may_say(Failure):
            return
        self.outbox.say(Failure(request=0, code=code, sentence=sentence))
        try:
            await self.outbox.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            return  # the other end is gone or the writer was stopped in the middle: nobody hears it

    async def _guard(self, task: Callable[..., object], scope: trio.CancelScope, *arguments: object) -> None:
        """Run one of the link's tasks; whatever ends it ends the link."""
        try:
            await task(*arguments)  # type: ignore[misc]
        except P2psyncError as error:
            self._end(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end(LinkLost(f"the link to {self._peer} broke"))
        scope.cancel()

    async def _write(self) -> None:
        await self.outbox.run()

    async def _listen(self, receive: Receive) -> None:
        while True:
            while (event := self.conversation.next_event()) is not None:
                self._sort(receive, *event)
            await self.outbox.wait_room()
            await self._read()

    async def _read(self) -> None:
        frames = self.conversation.frames
        room = frames.room()
        try:
            count = await receive_into(self._stream, self._scratch if room is None else room)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost(f"the link to {self._peer} broke") from None
        if not count:
            raise LinkLost(f"{self._peer} closed the link")
        self._heard_at, self._answer_due = trio.current_time(), None
        if room is None:
            frames.receive_data(bytes(self._scratch[:count]))
        else:
            frames.filled(count)

    def _sort(self, receive: Receive, message: AnyMessage, body: bytes | bytearray) -> None:
        match message:
            case Credit(urgent=urgent, bulk=bulk):
                self.outbox.credit(Lane.URGENT, urgent)
                self.outbox.credit(Lane.BULK, bulk)
            case Ping():
                self.say(Pong())
            case Pong():
                self.pongs += 1
            case Failure(request=0, code=code, sentence=sentence):
                raise error_of(code, sentence)
            case _:
                if isinstance(message, (Urgent, Bulk)):
                    if not body:
                        raise PeerError("a body frame without a body")
                    lane = Lane.URGENT if isinstance(message, Urgent) else Lane.BULK
                    self._give({lane: self._windows[lane].arrived(len(body))})
                receive(message, body)

    def _give(self, grants: dict[Lane, int]) -> None:
        if any(grants.values()):
            self.say(Credit(urgent=grants.get(Lane.URGENT, 0), bulk=grants.get(Lane.BULK, 0)))

    async def _keep_alive(self) -> None:
        while True:
            now, due = trio.current_time(), self._answer_due
            if now - self._heard_at >= DEAD_SECONDS:
                raise LinkLost(f"{self._peer} has been silent for {DEAD_SECONDS} seconds")
            if now - min(self._heard_at, self.outbox.sent_at) >= IDLE_SECONDS:
                self.say(Ping())
            if due is not None and now >= due:
                raise LinkLost(f"{self._peer} does not answer")
            self._probed = trio.Event()
            with trio.move_on_after(IDLE_SECONDS / 2 if due is None else due - now):
                await self._probed.wait()

    def _end(self, error: P2psyncError) -> None:
        if self.error is None:
            self.error = error
            self._ended.set()
