"""Message classes to frame headers and back: one table ties number, class and field readers together.

A header is msgpack [number, fields…] in the order of the class's fields; an optional field is an array of none or one,
an enum its value. Every field is bounded here. Numbers have gaps where later parts (peer folder channels, streams) will
stand; unknown ones from IGNORED_FROM up are skipped, below they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any

from p2psync.encoding import Fields, decode, encode
from p2psync.errors import PeerError
from p2psync.limits import FRAME_HEADER_MAX, SLOT_SECONDS_MAX
from p2psync.wire.faults import SENTENCE_BYTES_MAX
from p2psync.wire.login import NONCE_BYTES, Right
from p2psync.wire.messages import (
    BODY_MAX,
    IGNORED_FROM,
    KEY_BYTES_MAX,
    MAIL_INDEX_MAX,
    NAMEPLATE_MAX,
    OBSERVED_BYTES_MAX,
    ORIGIN_BYTES_MAX,
    RENDEZVOUS_BYTES,
    SLOT_ID_BYTES,
    TOKEN_BYTES_MAX,
    Answer,
    Bulk,
    Cancel,
    Challenge,
    Claimed,
    ClaimMailbox,
    ClientHello,
    CloseMailbox,
    Created,
    CreateNamespace,
    Credit,
    Delete,
    Done,
    Failure,
    Get,
    GetChallenge,
    GetSlots,
    GetUsage,
    Grant,
    Heads,
    List,
    LoggedIn,
    Login,
    Message,
    Missing,
    NextMail,
    OpenSplice,
    Ping,
    Pong,
    Put,
    PutMail,
    PutSlot,
    Restore,
    ServerHello,
    Side,
    Spliced,
    SpliceSide,
    Urgent,
    Watch,
    WatchSlots,
)

Reader = Callable[[Fields, str], Any]


def _integer(low: int = 0, high: int = (1 << 53) - 1) -> Reader:
    return lambda source, name: source.integer(name, low, high)


def _data(size: int) -> Reader:
    return lambda source, name: source.data(name, size=size)


def _text(most: int) -> Reader:
    return lambda source, name: source.text(name, most)


def _flag(source: Fields, name: str) -> bool:
    return source.flag(name)


def _optional(reader: Reader) -> Reader:
    """A nil, or what `reader` reads; wire form is an array of none or one."""

    def read(source: Fields, name: str) -> Any:
        inner = source.array(name, 1)
        return reader(Fields(inner, name), name) if inner else None

    return read


def _items(reader: Reader, most: int) -> Reader:
    def read(source: Fields, name: str) -> Any:
        values = source.array(name, most)
        inner = Fields(values, name)
        return tuple(reader(inner, name) for _ in values)

    return read


def _choice(kind: type[Enum]) -> Reader:
    def read(source: Fields, name: str) -> Any:
        value = source.text(name, 16)
        try:
            return kind(value)
        except ValueError:
            raise PeerError(f"{name} {value!r} is not known here") from None

    return read


_REQUEST = _integer(0, (1 << 53) - 1)
_CHANNEL = _integer(1, (1 << 31) - 1)
_SIZE = _integer(0, BODY_MAX)
_KEY = _text(KEY_BYTES_MAX)
_FEATURES = _items(_text(32), 32)
_PLATE = _integer(1, NAMEPLATE_MAX)

FORMS: dict[int, tuple[type[Any], dict[str, Reader]]] = {
    1: (ClientHello, {"versions": _items(_integer(1, 255), 16), "features": _FEATURES, "nonce": _data(NONCE_BYTES),
                      "origin": _optional(_text(ORIGIN_BYTES_MAX))}),
    2: (ServerHello, {"version": _integer(1, 255), "features": _FEATURES, "relay_key": _data(32),
                      "signature": _data(64), "observed": _optional(_text(OBSERVED_BYTES_MAX))}),
    3: (Credit, {"urgent": _integer(0, BODY_MAX), "bulk": _integer(0, BODY_MAX)}),
    4: (Urgent, {"request": _REQUEST, "last": _flag}),
    5: (Bulk, {"request": _REQUEST, "last": _flag}),
    6: (Cancel, {"request": _REQUEST}),
    7: (Ping, {}),
    8: (Pong, {}),
    9: (Failure, {"request": _REQUEST, "code": _integer(0, 255), "sentence": _text(SENTENCE_BYTES_MAX)}),
    10: (Done, {"request": _REQUEST}),
    11: (Answer, {"request": _REQUEST, "size": _SIZE, "bulk": _flag}),
    16: (GetChallenge, {"request": _REQUEST}),
    17: (Challenge, {"request": _REQUEST, "nonce": _data(NONCE_BYTES), "expiry": _integer()}),
    18: (CreateNamespace, {"request": _REQUEST, "owner": _data(32), "nonce": _data(NONCE_BYTES), "expiry": _integer(),
                           "signature": _data(64), "token": _optional(_text(TOKEN_BYTES_MAX))}),
    19: (Created, {"request": _REQUEST, "namespace": _data(16)}),
    20: (Login, {"request": _REQUEST, "namespace": _data(16), "access_key": _data(32), "right": _choice(Right),
                 "nonce": _data(NONCE_BYTES), "expiry": _integer(), "signature": _data(64)}),
    21: (LoggedIn, {"request": _REQUEST, "channel": _CHANNEL}),
    22: (Grant, {"request": _REQUEST, "channel": _CHANNEL, "access_key": _data(32),
                 "right": _optional(_choice(Right))}),
    32: (Put, {"request": _REQUEST, "channel": _CHANNEL, "size": _SIZE, "table": _SIZE, "bulk": _flag}),
    33: (Get, {"request": _REQUEST, "channel": _CHANNEL, "key": _KEY, "offset": _integer(),
               "length": _optional(_integer())}),
    34: (List, {"request": _REQUEST, "channel": _CHANNEL, "prefix": _KEY, "after": _KEY, "limit": _integer(0, 1000)}),
    35: (Missing, {"request": _REQUEST, "channel": _CHANNEL, "size": _SIZE}),
    36: (Heads, {"request": _REQUEST, "channel": _CHANNEL}),
    37: (Watch, {"request": _REQUEST, "channel": _CHANNEL, "seen": _integer(-1)}),
    38: (Delete, {"request": _REQUEST, "channel": _CHANNEL, "size": _SIZE}),
    39: (Restore, {"request": _REQUEST, "channel": _CHANNEL, "size": _SIZE}),
    40: (GetUsage, {"request": _REQUEST, "channel": _CHANNEL}),
    48: (PutSlot, {"request": _REQUEST, "channel": _CHANNEL, "slot": _data(SLOT_ID_BYTES),
                   "seconds": _integer(1, SLOT_SECONDS_MAX), "size": _SIZE}),
    49: (GetSlots, {"request": _REQUEST, "channel": _CHANNEL, "size": _SIZE}),
    50: (WatchSlots, {"request": _REQUEST, "channel": _CHANNEL, "seen": _integer(-1)}),
    52: (OpenSplice, {"request": _REQUEST, "channel": _CHANNEL, "rendezvous": _data(RENDEZVOUS_BYTES),
                      "side": _choice(SpliceSide)}),
    53: (Spliced, {"request": _REQUEST}),
    56: (ClaimMailbox, {"request": _REQUEST, "wanted": _optional(_PLATE)}),
    57: (Claimed, {"request": _REQUEST, "nameplate": _PLATE}),
    58: (PutMail, {"request": _REQUEST, "nameplate": _PLATE, "side": _choice(Side),
                   "index": _integer(0, MAIL_INDEX_MAX), "size": _SIZE}),
    59: (NextMail, {"request": _REQUEST, "nameplate": _PLATE, "side": _choice(Side),
                    "index": _integer(0, MAIL_INDEX_MAX)}),
    60: (CloseMailbox, {"request": _REQUEST, "nameplate": _PLATE}),
}  # fmt: skip
NUMBERS: dict[type[Any], int] = {kind: number for number, (kind, _) in FORMS.items()}
_OPTIONAL = {
    (kind, name) for kind in NUMBERS for name in ("origin", "observed", "token", "right", "length", "wanted")
} - {(Login, "right")}


def encode_message(message: Message) -> bytes:
    """The frame header that says `message`."""
    kind = type(message)
    values: list[Any] = [NUMBERS[kind]]
    for item in fields(message):
        value = getattr(message, item.name)
        if isinstance(value, Enum):
            value = value.value
        if (kind, item.name) in _OPTIONAL:
            value = () if value is None else (value,)
        values.append(value)
    return encode(values)


def decode_message(header: bytes) -> Message | None:
    """The message a frame header says; None for one to be ignored. PeerError on anything out of form."""
    values = decode(header, FRAME_HEADER_MAX)
    source = Fields(values, "message", at_least=1)
    number = source.integer("number")
    form = FORMS.get(number)
    if form is None:
        if number >= IGNORED_FROM:
            return None
        raise PeerError(f"message number {number} is not known here; one of the two programs is too old")
    kind, readers = form
    arguments = {name: reader(source, name) for name, reader in readers.items()}
    source.end()
    message: Message = kind(**arguments)
    return message
