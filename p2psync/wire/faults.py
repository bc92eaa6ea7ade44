"""Typed errors on the wire: a small code for each reaction, and one sentence for people.

A failed request is answered by a code and a sentence; here stands which error class each code becomes at the other end.
What a code means is the class's docstring in `p2psync.errors`. A server's own bugs cross the wire as `INTERNAL` without
their text, and its disk's troubles as `STORAGE`: to the other end that is a store that takes nothing for now, not a
fault of its own disk.
"""

from __future__ import annotations

from enum import IntEnum

from p2psync.errors import (
    AccessRefused,
    BugError,
    IntegrityError,
    LinkLost,
    NotFound,
    P2psyncError,
    PeerError,
    QuotaExceeded,
    StorageError,
    UserError,
)

SENTENCE_BYTES_MAX = 1024


class Fault(IntEnum):
    PROTOCOL = 1
    INTEGRITY = 2
    ACCESS = 3
    NOT_FOUND = 4
    QUOTA = 5
    STORAGE = 6
    USER = 7
    BUSY = 8
    CANCELLED = 9
    INTERNAL = 10
    INVITE = 11


_CLASSES: dict[Fault, type[P2psyncError]] = {
    Fault.PROTOCOL: PeerError,
    Fault.INTEGRITY: IntegrityError,
    Fault.ACCESS: AccessRefused,
    Fault.NOT_FOUND: NotFound,
    Fault.QUOTA: QuotaExceeded,
    Fault.STORAGE: QuotaExceeded,
    Fault.USER: UserError,
    Fault.BUSY: LinkLost,
    Fault.CANCELLED: LinkLost,
    Fault.INTERNAL: PeerError,
    Fault.INVITE: AccessRefused,
}


def fault_of(error: P2psyncError) -> tuple[Fault, str]:
    """Code and sentence that tell `error` to the other end."""
    if isinstance(error, BugError):
        return Fault.INTERNAL, "the other end has an internal error; its log says more"
    if isinstance(error, StorageError):
        return Fault.STORAGE, "the store's own disk refuses; its operator finds more in its log"
    for fault, kind in _CLASSES.items():
        if isinstance(error, kind):
            return fault, _shortened(str(error))
    return Fault.INTERNAL, _shortened(str(error))


def error_of(code: int, sentence: str) -> P2psyncError:
    """The error a received code stands for; a code of a later version is a plain refusal."""
    try:
        kind = _CLASSES[Fault(code)]
    except ValueError:
        kind = AccessRefused
    return kind(sentence or "the other end gave no reason")


def _shortened(sentence: str) -> str:
    return sentence.encode()[:SENTENCE_BYTES_MAX].decode(errors="ignore")
