"""What is called out on a LAN around a pairing: "who shows a code with this number?" and "I do, at this port".

An outsider learns from both that somebody pairs, and the number. A mailbox is named by a hash of the admin's first
message, so that a joiner can tell whether two answers, or an answer and a relay's mailbox, are the same pairing; that
message says nothing about the code. Question and answer have one size, so that a forged question is not worth sending.
Nothing in here can be believed: the code decides. Source: docs/pairing.md, "On the LAN".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.wire.messages import NAMEPLATE_MAX

MAILBOX_ID_BYTES = 16
LAN_NUMBERS = range(10_000, NAMEPLATE_MAX + 1)
"""Numbers of codes that no relay knows. A relay gives out smaller ones only, so a number says where to look."""
_QUESTION = b"p2psync 1 pair?\n"
_ANSWER = b"p2psync 1 pair!\n"
_WORD = len(_QUESTION)
CALL_BYTES = _WORD + 4 + 2 + MAILBOX_ID_BYTES


@dataclass(frozen=True, slots=True)
class Question:
    nameplate: int

    def encode(self) -> bytes:
        return (_QUESTION + self.nameplate.to_bytes(4, "big")).ljust(CALL_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class Reply:
    """`port`: where the mailbox stream is served, at the address the reply comes from."""

    nameplate: int
    port: int
    mailbox: bytes

    def encode(self) -> bytes:
        return _ANSWER + self.nameplate.to_bytes(4, "big") + self.port.to_bytes(2, "big") + self.mailbox


def mailbox_id(nameplate: int, first_message: bytes) -> bytes:
    """The name of the mailbox whose admin's first message this is."""
    return labelled_hash(domains.LAN_MAILBOX, str(nameplate).encode(), first_message)[:MAILBOX_ID_BYTES]


def read_call(data: bytes) -> Question | Reply | None:
    """What a datagram says; None when it is none of ours."""
    if len(data) != CALL_BYTES:
        return None
    word, rest = data[:_WORD], data[_WORD:]
    nameplate, port = int.from_bytes(rest[:4], "big"), int.from_bytes(rest[4:6], "big")
    if not 1 <= nameplate <= NAMEPLATE_MAX:
        return None
    if word == _QUESTION and not any(rest[4:]):
        return Question(nameplate)
    if word == _ANSWER and port:
        return Reply(nameplate, port, rest[6:])
    return None
