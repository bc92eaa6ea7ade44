"""Who may say what on a mailbox stream: the joiner's device asks for mail, the admin's device answers, nothing else.

There is no greeting: the call on the LAN that led here named the version, and the code proves the rest. Messages and
frames are those of a relay link; every message that is of no use to a mailbox closes the stream.
"""

from __future__ import annotations

from typing import Any

from p2psync.errors import PeerError
from p2psync.limits import MAILBOX_BYTES
from p2psync.wire.conversation import Conversation, Speaker, State
from p2psync.wire.messages import Answer, Cancel, Credit, Done, Failure, NextMail, Ping, Pong, PutMail, Urgent
from p2psync.wire.peer_messages import AnyMessage

_BOTH: tuple[type[Any], ...] = (Credit, Urgent, Ping, Pong)
MAY_SAY: dict[Speaker, frozenset[type[Any]]] = {
    Speaker.CLIENT: frozenset((*_BOTH, PutMail, NextMail, Cancel)),
    Speaker.SERVER: frozenset((*_BOTH, Done, Answer, Failure)),
}


class MailConversation(Conversation):
    """One end of a mailbox stream; `CLIENT` is the joiner's device."""

    def __init__(self, me: Speaker) -> None:
        super().__init__(me, body_max=MAILBOX_BYTES)
        self.state = State.READY

    def may_say(self, kind: type[Any]) -> bool:
        return self.state is State.READY and kind in MAY_SAY[self.me]

    def _next_state(self, speaker: Speaker, message: AnyMessage) -> State:
        if type(message) not in MAY_SAY[speaker]:
            raise PeerError(f"the {speaker.value} may not say {type(message).__name__} on a mailbox stream")
        return self.state
