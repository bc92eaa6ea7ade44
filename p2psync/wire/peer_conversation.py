"""Who may say what between two devices: the dialler greets first, then both ends ask and both answer.

`CLIENT` is the side that dialled, `SERVER` the one that listened. Since both ask, a request's number says whose it is:
the dialler's are odd, the listener's even, so that bodies of requests and of answers cannot be mixed up.
"""

from __future__ import annotations

from typing import Any, get_args

from p2psync.errors import PeerError
from p2psync.wire.conversation import Conversation, Speaker, State
from p2psync.wire.messages import Bulk, Cancel, Credit, Failure, Ping, Pong, Urgent
from p2psync.wire.peer_codec import decode_peer_message, encode_peer_message
from p2psync.wire.peer_messages import AnyMessage, CloseChannel, PeerHello, PeerReply, PeerRequest

FIRST_REQUEST = {Speaker.CLIENT: 1, Speaker.SERVER: 2}
REQUEST_STEP = 2

_ASKING = frozenset((*get_args(PeerRequest), Cancel))
_ANSWERING = frozenset(get_args(PeerReply))


def _table() -> dict[tuple[State, Speaker, type[Any]], State]:
    table: dict[tuple[State, Speaker, type[Any]], State] = {
        (State.SILENT, Speaker.CLIENT, PeerHello): State.GREETED,
        (State.SILENT, Speaker.SERVER, Failure): State.CLOSED,
        (State.GREETED, Speaker.SERVER, PeerHello): State.READY,
        (State.GREETED, Speaker.SERVER, Failure): State.CLOSED,
    }
    kinds = (Credit, Urgent, Bulk, Ping, Pong, Cancel, CloseChannel, *get_args(PeerRequest), *get_args(PeerReply))
    for speaker in Speaker:
        for kind in kinds:
            table[State.READY, speaker, kind] = State.READY
    return table


PEER_TRANSITIONS = _table()


def own_request(number: int, me: Speaker) -> bool:
    """Whether a request number is of the kind `me` gives out."""
    return number % REQUEST_STEP == FIRST_REQUEST[me] % REQUEST_STEP


class PeerConversation(Conversation):
    """One end of a link between two devices."""

    def may_say(self, kind: type[Any]) -> bool:
        return (self.state, self.me, kind) in PEER_TRANSITIONS

    def _next_state(self, speaker: Speaker, message: AnyMessage) -> State:
        try:
            state = PEER_TRANSITIONS[self.state, speaker, type(message)]
        except KeyError:
            raise PeerError(
                f"the {speaker.value} may not say {type(message).__name__} in the state {self.state.value!r}"
            ) from None
        # Who asks and who answers follows from the number alone: check it where every message passes.
        number = getattr(message, "request", None)
        if type(message) in _ASKING and not own_request(number or 0, speaker):
            raise PeerError("a request came under a number of the other side's")
        if type(message) in _ANSWERING and number and own_request(number, speaker):
            raise PeerError("an answer came to a request nobody made")
        return state

    def _encode(self, message: AnyMessage) -> bytes:
        return encode_peer_message(message)  # type: ignore[arg-type]

    def _decode(self, header: bytes) -> AnyMessage | None:
        return decode_peer_message(header)
