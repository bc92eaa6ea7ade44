"""Who may say what, and when, on a relay link: one table for both ends, and the receiver's two verbs.

The table is `(state, who speaks, message type) -> state`. What it lacks closes the link with a PeerError. Login is not
a state of the link but belongs to a channel, since one link serves many namespaces; a channel's rights are checked
where its verbs are served. `Conversation` joins table, frames and messages: bytes in, checked messages out, and
messages in, bytes out. It knows neither credit nor which requests are open: the session does.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args

from p2psync.errors import BugError, PeerError
from p2psync.limits import FRAME_BODY_MAX
from p2psync.wire.codec import decode_message, encode_message
from p2psync.wire.frames import Buffer, Frame, FrameReader, frame_start
from p2psync.wire.messages import (
    Bulk,
    Cancel,
    ClientHello,
    Credit,
    Failure,
    Ping,
    Pong,
    Reply,
    Request,
    ServerHello,
    Spliced,
    Urgent,
)
from p2psync.wire.peer_messages import AnyMessage


class State(Enum):
    SILENT = "nothing said"
    GREETED = "client has said hello"
    READY = "both have said hello"
    SPLICED = "spliced"
    """No more messages: the bytes are another device's."""
    CLOSED = "closed"


class Speaker(Enum):
    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Speaker:
        return Speaker.SERVER if self is Speaker.CLIENT else Speaker.CLIENT


def _table() -> dict[tuple[State, Speaker, type[Any]], State]:
    table: dict[tuple[State, Speaker, type[Any]], State] = {
        (State.SILENT, Speaker.CLIENT, ClientHello): State.GREETED,
        (State.SILENT, Speaker.SERVER, Failure): State.CLOSED,
        (State.GREETED, Speaker.SERVER, ServerHello): State.READY,
        (State.GREETED, Speaker.SERVER, Failure): State.CLOSED,
    }
    for kind in (Credit, Urgent, Bulk, Ping, Pong):
        table[State.READY, Speaker.CLIENT, kind] = State.READY
        table[State.READY, Speaker.SERVER, kind] = State.READY
    for kind in (Cancel, *get_args(Request)):
        table[State.READY, Speaker.CLIENT, kind] = State.READY
    for kind in get_args(Reply):
        table[State.READY, Speaker.SERVER, kind] = State.READY
    table[State.READY, Speaker.SERVER, Spliced] = State.SPLICED
    return table


TRANSITIONS = _table()


def next_state(state: State, speaker: Speaker, message: AnyMessage) -> State:
    """The state after `speaker` said `message`; PeerError when it may not say that now."""
    try:
        return TRANSITIONS[state, speaker, type(message)]
    except KeyError:
        raise PeerError(
            f"the {speaker.value} may not say {type(message).__name__} in the state {state.value!r}"
        ) from None


class Conversation:
    """One end of a link. `me` is the side this program plays."""

    def __init__(self, me: Speaker, body_max: int = FRAME_BODY_MAX) -> None:
        self.me = me
        self.state = State.SILENT
        self.frames = FrameReader(body_max)

    def send(self, message: AnyMessage, body_size: int = 0) -> bytes:
        """Bytes that say `message`; `body_size` raw bytes must follow. BugError when we may not say it now."""
        try:
            self.state = self._next_state(self.me, message)
        except PeerError as error:
            raise BugError(str(error)) from None
        if body_size and not isinstance(message, (Urgent, Bulk)):
            raise BugError("only Urgent and Bulk frames have a body")
        return frame_start(self._encode(message), body_size)

    def receive_data(self, data: Buffer) -> None:
        self.frames.receive_data(data)

    def next_event(self) -> tuple[AnyMessage, bytes | bytearray] | None:
        """The next message and its body, or None when more data is needed. PeerError closes the conversation."""
        try:
            while (frame := self.frames.next_event()) is not None:
                message = self._understand(frame)
                if message is not None:
                    return message, frame.body
        except PeerError:
            self.state = State.CLOSED
            raise
        return None

    def torn(self) -> tuple[AnyMessage, bytes | bytearray] | None:
        """The message whose body was cut off when the link ended, and what had come of that body."""
        frame = self.frames.torn()
        if frame is None or self.state is State.CLOSED:
            return None
        try:
            message = self._understand(frame)
        except PeerError:
            return None
        return None if message is None else (message, frame.body)

    def _understand(self, frame: Frame) -> AnyMessage | None:
        if self.state is State.CLOSED:
            raise PeerError("the other end went on talking on a closed link")
        message = self._decode(frame.header)
        if message is None:
            return None
        if frame.body and not isinstance(message, (Urgent, Bulk)):
            raise PeerError(f"a {type(message).__name__} frame has no body")
        self.state = self._next_state(self.me.other, message)
        return message

    # Another kind of link says these anew (`peer_conversation`).

    def may_say(self, kind: type[Any]) -> bool:
        """Whether this end may say a message of that kind now."""
        return (self.state, self.me, kind) in TRANSITIONS

    def _next_state(self, speaker: Speaker, message: AnyMessage) -> State:
        return next_state(self.state, speaker, message)

    def _encode(self, message: AnyMessage) -> bytes:
        return encode_message(message)  # type: ignore[arg-type]

    def _decode(self, header: bytes) -> AnyMessage | None:
        return decode_message(header)
