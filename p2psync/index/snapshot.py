"""Snapshots: a feed's own summary of itself, which replaces every entry before it.

A snapshot is a run of consecutive entries of the feed, its *parts*, each with one `snapshot` record and nothing else. A
part restates earlier records of the same feed byte by byte, each with the seq, index and time it had: a version keeps its
dot, a membership record its hash. The first item of part 0 is the feed's `bind`, and part 0 says how far its author had
ever seen each other feed, since restated versions may name more than the heads that count now. Pure; what is restated is
decided in `replica/compaction.py`. Source: formats, "Snapshots".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2psync.encoding import Fields, decode, decode_own, encode
from p2psync.errors import PeerError
from p2psync.ids import FeedId
from p2psync.index.body import RECORDS_MAX, Body
from p2psync.index.records import RecordType, peek_type
from p2psync.index.versions import Vector
from p2psync.limits import ENTRY_MAX, SEQ_MAX, VECTOR_MAX

ITEM_ROOM = 32
"""At most the bytes an item takes beside its record."""
_NEVER_RESTATED = frozenset({RecordType.SNAPSHOT, RecordType.RETIRE, RecordType.CLOSE})


@dataclass(frozen=True, slots=True)
class Item:
    """A record restated: where it first stood in its feed, its author's time then in ms, and its bytes."""

    seq: int
    index: int
    time_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One entry's share of a snapshot. `number` counts from 0; `last` closes the snapshot; part 0 alone says `seen`."""

    number: int
    last: bool
    items: tuple[Item, ...]
    seen: Vector = field(default_factory=dict)


def encode_part(number: int, last: bool, items: Sequence[Item], seen: Mapping[FeedId, int] | None = None) -> bytes:
    said = [[feed, seq] for feed, seq in sorted((seen or {}).items())]
    return encode([RecordType.SNAPSHOT, number, last, said, [[i.seq, i.index, i.time_ms, i.data] for i in items]])


def decode_part(data: bytes, seq: int) -> Part:
    """Read the snapshot record of the entry `seq`; PeerError names the rule it breaks."""
    fields = Fields(decode(data, ENTRY_MAX), "snapshot")
    fields.integer("type")
    number, last = fields.integer("part", 0, SEQ_MAX), fields.flag("last")
    first = seq - number
    seen = dict(_seen(value) for value in fields.array("seen", VECTOR_MAX if number == 0 else 0))
    items = tuple(_item(value, first) for value in fields.array("items", RECORDS_MAX))
    fields.end()
    if first <= 1:
        raise PeerError("snapshot: it replaces nothing")
    if number == 0 and (not items or peek_type(items[0].data) != RecordType.BIND):
        raise PeerError("snapshot: it does not begin with the feed's binding")
    return Part(number, last, items, seen)


def _seen(value: object) -> tuple[FeedId, int]:
    fields = Fields(value, "snapshot: seen")
    feed, seq = FeedId(fields.data("feed", size=32)), fields.integer("seq", 1, SEQ_MAX)
    fields.end()
    return feed, seq


def _item(value: object, first: int) -> Item:
    item = _well_formed(value)
    if item.seq >= first:
        raise PeerError("snapshot: it restates what came after it")
    if peek_type(item.data) in _NEVER_RESTATED:
        raise PeerError("snapshot: it restates what is never restated")
    return item


def _well_formed(value: object) -> Item:
    match value:
        case (int(seq), int(index), int(time_ms), bytes(data)) if (
            0 < seq <= SEQ_MAX
            and 0 <= index <= RECORDS_MAX
            and 0 <= time_ms <= SEQ_MAX
            and type(seq) is type(index) is type(time_ms) is int
        ):
            return Item(seq, index, time_ms, data)
    fields = Fields(value, "snapshot item")  # to name what is wrong with it
    item = Item(
        fields.integer("seq", 1, SEQ_MAX), fields.integer("index", 0, RECORDS_MAX), fields.integer("time", 0),
        fields.data("record", most=ENTRY_MAX),
    )  # fmt: skip
    fields.end()
    return item


def restated_records(record: bytes) -> tuple[bytes, ...]:
    """The records that a part restates, by place, of one that was judged when it came."""
    return tuple(data for _, _, _, data in decode_own(record)[4])


def is_part(body: Body) -> bool:
    """Whether an entry claims to be a part of a snapshot."""
    return len(body.records) == 1 and peek_type(body.records[0]) == RecordType.SNAPSHOT


def part_of(body: Body, seq: int) -> Part | None:
    """The snapshot part an entry is; None for any other entry."""
    if not is_part(body):
        return None
    return decode_part(body.records[0], seq)
