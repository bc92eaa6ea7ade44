"""Message classes to frame headers and back: one table ties number, class and field readers together.

A header is msgpack [number, fields…] in the order of the class's fields; an optional field is an array of none or one,
an enum its value. Every field is bounded here. Numbers have gaps where later parts (peer folder channels, streams) will
stand; unknown ones from IGNORED_FROM up are skipped, below they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
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
Form = tuple[type[Any], dict[str, Reader]]
"""A message class and how each of its fields is read."""


def integer(low: int = 0, high: int = (1 << 53) - 1) -> Reader:
    return lambda source, name: source.integer(name, low, high)


def data(size: int) -> Reader:
    return lambda source, name: source.data(name, size=size)


def text(most: int) -> Reader:
    return lambda source, name: source.text(name, most)


def flag(source: Fields, name: str) -> bool:
    return source.flag(name)


def optional(reader: Reader) -> Reader:
    """A nil, or what `reader` reads; wire form is an array of none or one."""

    def read(source: Fields, name: str) -> Any:
        inner = source.array(name, 1)
        return reader(Fields(inner, name), name) if inner else None

    return read


def items(reader: Reader, most: int) -> Reader:
    def read(source: Fields, name: str) -> Any:
        values = source.array(name, most)
        inner = Fields(values, name)
        return tuple(reader(inner, name) for _ in values)

    return read


def choice(kind: type[Enum]) -> Reader:
    def read(source: Fields, name: str) -> Any:
        value = source.text(name, 16)
        try:
            return kind(value)
        except ValueError:
            raise PeerError(f"{name} {value!r} is not known here") from None

    return read


REQUEST = integer(0, (1 << 53) - 1)
CHANNEL = integer(1, (1 << 31) - 1)
SIZE = integer(0, BODY_MAX)
_KEY = text(KEY_BYTES_MAX)
FEATURES = items(text(32), 32)
_PLATE = integer(1, NAMEPLATE_MAX)

FORMS: dict[int, Form] = {
    1: (ClientHello, {"versions": items(integer(1, 255), 16), "features": FEATURES, "nonce": data(NONCE_BYTES),
                      "origin": optional(text(ORIGIN_BYTES_MAX))}),
    2: (ServerHello, {"version": integer(1, 255), "features": FEATURES, "relay_key": data(32),
                      "signature": data(64), "observed": optional(text(OBSERVED_BYTES_MAX))}),
    3: (Credit, {"urgent": integer(0, BODY_MAX), "bulk": integer(0, BODY_MAX)}),
    4: (Urgent, {"request": REQUEST, "last": flag}),
    5: (Bulk, {"request": REQUEST, "last": flag}),
    6: (Cancel, {"request": REQUEST}),
    7: (Ping, {}),
    8: (Pong, {}),
    9: (Failure, {"request": REQUEST, "code": integer(0, 255), "sentence": text(SENTENCE_BYTES_MAX)}),
    10: (Done, {"request": REQUEST}),
    11: (Answer, {"request": REQUEST, "size": SIZE, "bulk": flag}),
    16: (GetChallenge, {"request": REQUEST}),
    17: (Challenge, {"request": REQUEST, "nonce": data(NONCE_BYTES), "expiry": integer()}),
    18: (CreateNamespace, {"request": REQUEST, "owner": data(32), "nonce": data(NONCE_BYTES), "expiry": integer(),
                           "signature": data(64), "token": optional(text(TOKEN_BYTES_MAX))}),
    19: (Created, {"request": REQUEST, "namespace": data(16)}),
    20: (Login, {"request": REQUEST, "namespace": data(16), "access_key": data(32), "right": choice(Right),
                 "nonce": data(NONCE_BYTES), "expiry": integer(), "signature": data(64)}),
    21: (LoggedIn, {"request": REQUEST, "channel": CHANNEL}),
    22: (Grant, {"request": REQUEST, "channel": CHANNEL, "access_key": data(32),
                 "right": optional(choice(Right))}),
    32: (Put, {"request": REQUEST, "channel": CHANNEL, "size": SIZE, "table": SIZE, "bulk": flag}),
    33: (Get, {"request": REQUEST, "channel": CHANNEL, "key": _KEY, "offset": integer(),
               "length": optional(integer())}),
    34: (List, {"request": REQUEST, "channel": CHANNEL, "prefix": _KEY, "after": _KEY, "limit": integer(0, 1000)}),
    35: (Missing, {"request": REQUEST, "channel": CHANNEL, "size": SIZE}),
    36: (Heads, {"request": REQUEST, "channel": CHANNEL}),
    37: (Watch, {"request": REQUEST, "channel": CHANNEL, "seen": integer(-1)}),
    38: (Delete, {"request": REQUEST, "channel": CHANNEL, "size": SIZE}),
    39: (Restore, {"request": REQUEST, "channel": CHANNEL, "size": SIZE}),
    40: (GetUsage, {"request": REQUEST, "channel": CHANNEL}),
    48: (PutSlot, {"request": REQUEST, "channel": CHANNEL, "slot": data(SLOT_ID_BYTES),
                   "seconds": integer(1, SLOT_SECONDS_MAX), "size": SIZE}),
    49: (GetSlots, {"request": REQUEST, "channel": CHANNEL, "size": SIZE}),
    50: (WatchSlots, {"request": REQUEST, "channel": CHANNEL, "seen": integer(-1)}),
    52: (OpenSplice, {"request": REQUEST, "channel": CHANNEL, "rendezvous": data(RENDEZVOUS_BYTES),
                      "side": choice(SpliceSide)}),
    53: (Spliced, {"request": REQUEST}),
    56: (ClaimMailbox, {"request": REQUEST, "wanted": optional(_PLATE)}),
    57: (Claimed, {"request": REQUEST, "nameplate": _PLATE}),
    58: (PutMail, {"request": REQUEST, "nameplate": _PLATE, "side": choice(Side),
                   "index": integer(0, MAIL_INDEX_MAX), "size": SIZE}),
    59: (NextMail, {"request": REQUEST, "nameplate": _PLATE, "side": choice(Side),
                    "index": integer(0, MAIL_INDEX_MAX)}),
    60: (CloseMailbox, {"request": REQUEST, "nameplate": _PLATE}),
}  # fmt: skip
NUMBERS: dict[type[Any], int] = {kind: number for number, (kind, _) in FORMS.items()}
_OPTIONAL = {
    (kind, name) for kind in NUMBERS for name in ("origin", "observed", "token", "right", "length", "wanted")
} - {(Login, "right")}


def encode_message(message: Message) -> bytes:
    """The frame header that says `message`."""
    return encode_form(message, NUMBERS, _OPTIONAL)


def decode_message(header: bytes) -> Message | None:
    """The message a frame header says; None for one to be ignored. PeerError on anything out of form."""
    message: Message | None = decode_form(header, FORMS)
    return message


def encode_form(message: Any, numbers: Mapping[type[Any], int], optional: Container[tuple[type[Any], str]]) -> bytes:
    """A header by another table than this module's, for other kinds of link."""
    kind = type(message)
    values: list[Any] = [numbers[kind]]
    for item in fields(message):
        value = getattr(message, item.name)
        if isinstance(value, Enum):
            value = value.value
        if (kind, item.name) in optional:
            value = () if value is None else (value,)
        values.append(value)
    return encode(values)


def decode_form(header: bytes, forms: Mapping[int, Form]) -> Any:
    """The message a header says by the table `forms`; None for one to be ignored."""
    values = decode(header, FRAME_HEADER_MAX)
    source = Fields(values, "message", at_least=1)
    number = source.integer("number")
    form = forms.get(number)
    if form is None:
        if number >= IGNORED_FROM:
            return None
        raise PeerError(f"message number {number} is not known here; one of the two programs is too old")
    kind, readers = form
    arguments = {name: reader(source, name) for name, reader in readers.items()}
    source.end()
    return kind(**arguments)
