"""What an entry says, record by record: its own records, or those a snapshot part restates with the places they had.

The one place that knows both shapes; admission, compaction and whoever looks for an inline chunk read entries through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from p2psync.errors import PeerError
from p2psync.ids import Plaintext
from p2psync.index.body import Body, decode_body
from p2psync.index.records import RecordType, decode_inline, peek_type, read_record
from p2psync.index.snapshot import Item, Part, is_part, part_of, restated_records
from p2psync.index.versions import Dot
from p2psync.replica.context import Context
from p2psync.sealed.entry import Entry, parse
from p2psync.vault.entry import open_entry


class Statement(NamedTuple):
    """One record. `dot` is where it first stood, `time_ms` its author's time then; `place` its number in the entry read;
    `values` are its fields, decoded."""

    number: int
    dot: Dot
    time_ms: int
    place: int
    data: bytes
    values: Any

    @property
    def item(self) -> Item:
        return Item(self.dot.seq, self.dot.index, self.time_ms, self.data)


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry's body and what it says. `part` is set for a part of a snapshot."""

    entry: Entry
    body: Body
    part: Part | None
    statements: tuple[Statement, ...]


def open_statements(context: Context, entry: Entry) -> Opened:
    """Open an entry. IntegrityError when its seal does not hold or its epoch is not known, PeerError on a wrong form."""
    body = _body(context, entry)
    try:
        part = part_of(body, entry.seq)
        if part is not None:
            items = [(item.seq, item.index, item.time_ms, item.data) for item in part.items]
            return Opened(entry, body, part, _statements(entry, items))
    except PeerError:
        pass  # it is refused where records are taken, while the chain goes on
    own = [(entry.seq, index, body.time_ms, data) for index, data in enumerate(body.records)]
    return Opened(entry, body, None, _statements(entry, own))


def _statements(entry: Entry, places: Iterable[tuple[int, int, int, bytes]]) -> tuple[Statement, ...]:
    return tuple(
        Statement(number, Dot(entry.feed, seq, index), time_ms, place, data, values)
        for place, (seq, index, time_ms, data) in enumerate(places)
        for number, values in (read_record(data),)
    )


def _body(context: Context, entry: Entry) -> Body:
    return decode_body(open_entry(context.folder, context.secrets.epoch(entry.epoch), entry))


def held_statements(context: Context, entry: bytes) -> Opened:
    """The same for an entry out of the catalog."""
    return open_statements(context, parse(entry))


def held_records(context: Context, data: bytes) -> tuple[bytes, ...]:
    """The records of an entry out of the catalog, by place; no one of them is decoded."""
    entry = parse(data)
    body = _body(context, entry)
    return restated_records(body.records[0]) if is_part(body) else body.records


def own_records(context: Context, data: bytes) -> tuple[bytes, ...]:
    """The records that an entry out of the catalog was written with, not what a part restates."""
    return _body(context, parse(data)).records


def inline_plain(records: Sequence[bytes], place: int) -> Plaintext:
    """The bytes of the chunk record at a place; PeerError when there is none."""
    if place >= len(records) or peek_type(records[place]) != RecordType.CHUNK:
        raise PeerError("no chunk stands where one was noted")
    return decode_inline(records[place]).plain
