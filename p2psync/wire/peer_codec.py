"""The peer protocol's table of numbers, classes and field readers.

The messages every link has keep their numbers; those of devices alone stand from 64 on. Unknown numbers from
IGNORED_FROM up are skipped, below they are refused, as on every link.
"""

from __future__ import annotations

from typing import Any

from p2psync.limits import SEQ_MAX
from p2psync.wire.codec import (
    CHANNEL,
    FEATURES,
    FORMS,
    REQUEST,
    SIZE,
    Form,
    data,
    decode_form,
    encode_form,
    integer,
    items,
    text,
)
from p2psync.wire.login import NONCE_BYTES
from p2psync.wire.messages import Answer, Bulk, Cancel, Credit, Done, Failure, Ping, Pong, Urgent
from p2psync.wire.peer_messages import (
    OUTSIDE_BYTES_MAX,
    OUTSIDE_MAX,
    PROOF_BYTES,
    ChannelOpened,
    CloseChannel,
    GetChunks,
    GetEntries,
    OpenChannel,
    PeerHello,
    PeerMessage,
    Punch,
    Punching,
    PutEntries,
    WatchHeads,
)

_OUTSIDE = items(text(OUTSIDE_BYTES_MAX), OUTSIDE_MAX)
_SHARED = {Credit, Urgent, Bulk, Cancel, Ping, Pong, Failure, Done, Answer}

PEER_FORMS: dict[int, Form] = {number: form for number, form in FORMS.items() if form[0] in _SHARED} | {
    64: (PeerHello, {"versions": items(integer(1, 255), 16), "features": FEATURES, "nonce": data(NONCE_BYTES)}),
    65: (OpenChannel, {"request": REQUEST, "channel": CHANNEL, "proof": data(PROOF_BYTES)}),
    66: (ChannelOpened, {"request": REQUEST, "proof": data(PROOF_BYTES)}),
    67: (CloseChannel, {"channel": CHANNEL}),
    68: (WatchHeads, {"request": REQUEST, "channel": CHANNEL, "seen": integer(-1)}),
    69: (GetEntries, {"request": REQUEST, "channel": CHANNEL, "feed": data(32), "after": integer(0, SEQ_MAX)}),
    70: (PutEntries, {"request": REQUEST, "channel": CHANNEL, "size": SIZE}),
    71: (GetChunks, {"request": REQUEST, "channel": CHANNEL, "generation": integer(0, 65535), "size": SIZE}),
    72: (Punch, {"request": REQUEST, "outside": _OUTSIDE}),
    73: (Punching, {"request": REQUEST, "outside": _OUTSIDE}),
}  # fmt: skip
PEER_NUMBERS: dict[type[Any], int] = {kind: number for number, (kind, _) in PEER_FORMS.items()}


def encode_peer_message(message: PeerMessage) -> bytes:
    """The frame header that says `message` to another device."""
    return encode_form(message, PEER_NUMBERS, ())


def decode_peer_message(header: bytes) -> PeerMessage | None:
    """The message a header says; None for one to be ignored. PeerError on anything out of form."""
    message: PeerMessage | None = decode_form(header, PEER_FORMS)
    return message
