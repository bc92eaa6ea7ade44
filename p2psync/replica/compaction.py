"""Compaction: a device sums up its own feed, so that who comes late need not read all it ever wrote.

The snapshot restates what still matters of the feed, byte by byte: binding, membership, forks, versions that no other
covers as far as this device has seen, what else a frontier must know of, and inline chunks and packs with content that some
frontier needs. Deletions stay as long as they can matter to anybody (`forgetting.py`). What it leaves out is covered by
something this device had seen and names in its heads; content left out that a version needs which it had not seen is
another's to keep (`rescuing.py`). Blocking; one transaction each. Source: formats, "Snapshots".
"""

from __future__ import annotations

from collections.abc import Iterator

from p2psync.catalog.snapshots import Underway
from p2psync.ids import ChunkId
from p2psync.index.records import (
    OPTIONAL_FROM,
    PackLocations,
    RecordType,
    decode_inline,
    decode_pack,
    recall_version,
    version_of,
)
from p2psync.index.snapshot import ITEM_ROOM, encode_part
from p2psync.replica.context import Context
from p2psync.replica.forgetting import Deletions
from p2psync.replica.needed_chunks import list_needed
from p2psync.replica.publisher import RECORDS_ROOM, EntryWriter
from p2psync.replica.settling import settle_snapshots
from p2psync.replica.statements import Statement, held_statements
from p2psync.vault.pack import locate

ENTRIES_LEAST = 256
BYTES_LEAST = 1 << 20
"""A feed that has grown by fewer entries and by less is left alone: reading that is a few round trips."""
SPARSE = 4
"""A pack is left out when not even one of so many of its chunks, and of its bytes, is needed."""
_PAGE = 64
_ALWAYS = frozenset({RecordType.BIND, RecordType.GENESIS, RecordType.ADD, RecordType.ROTATE, RecordType.FORK})


def is_due(context: Context) -> bool:
    """Whether the own feed has grown by half of its last snapshot, and a third of it is dead weight. Blocking."""
    snapshots, own = context.catalog.snapshots, context.own_feed
    first, last = snapshots.newest(own) or (1, 0)
    entries, grown = snapshots.entry_bytes(own, last)
    if entries < ENTRIES_LEAST and grown < BYTES_LEAST:
        return False
    _, total = snapshots.entry_bytes(own, first - 1)
    if 2 * grown < total - grown:
        return False
    count, size = snapshots.frontier_size(own)
    return 2 * total >= 3 * (size + count * ITEM_ROOM)


def write_snapshot(context: Context) -> int:
    """Append a snapshot of the own feed; returns how many entries it took (0: not now)."""
    snapshots, own = context.catalog.snapshots, context.own_feed
    with context.tree, context.catalog.transaction():
        state = context.catalog.feeds.state(own)
        after = (snapshots.newest(own) or (1, 0))[0] - 1
        role = context.membership.role_of(context.device.identity_key)
        if context.unsure or role is None or not after < state.seq or snapshots.unbroken_from(own) > after + 1:
            return 0  # what came before is not here to be summed up, or nobody would take it
        contents, deletions = _Contents(context), Deletions(context)
        parts = _Parts(context)
        for statement in _said(context, after, state.seq):
            if statement.number in _ALWAYS or statement.number >= OPTIONAL_FROM:
                parts.add(statement)
        for dot, time_ms, data in snapshots.frontier_of(own):
            version = recall_version(data, dot)
            if version.live or not deletions.may_go(version):
                kind = RecordType.FILE if version.live else RecordType.TOMBSTONE
                parts.add(Statement(kind, dot, time_ms, 0, data, None))
        for statement in _said(context, after, state.seq):
            if _keeps_behind(context, statement, contents):
                parts.add(statement)
        last = parts.end()
        first = state.seq + 1
        snapshots.note(own, Underway(first, state.seq, last - state.seq), last)
        context.catalog.locations.leave_out(own, first)
        contents.pack_anew()
        context.catalog.needed_chunks.end()
        settle_snapshots(context)
        return last - state.seq


class _Parts:
    """Cuts items into parts, one an entry."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writer = EntryWriter(context)
        self._number, self._size, self._items = 0, 0, list[Statement]()

    def add(self, statement: Statement) -> None:
        size = len(statement.data) + ITEM_ROOM
        if self._items and self._size + size > RECORDS_ROOM:
            self._flush(last=False)
        self._items.append(statement)
        self._size += size

    def end(self) -> int:
        """Write the last part; returns its entry's number."""
        return self._flush(last=True)

    def _flush(self, last: bool) -> int:
        context, seq = self._context, self._writer.seq
        catalog, own = context.catalog, context.own_feed
        seen = catalog.feeds.seen(own) if self._number == 0 else {}
        self._writer.add_record(encode_part(self._number, last, [each.item for each in self._items], seen))
        self._writer.flush(everything=self._number == 0, completes=seq - self._number if last else 0)
        if self._number == 0:
            catalog.snapshots.note_seen(own, seq, catalog.feeds.seen(own))
        for place, each in enumerate(self._items):
            if each.number == RecordType.CHUNK:
                catalog.locations.add_inline(_chunk_id(context, each.data), own, seq, place, restated=True)
            elif each.number == RecordType.PACK:
                catalog.locations.tell(decode_pack(each.data).name, own, seq, restated=True)
        versions = (RecordType.FILE, RecordType.TOMBSTONE)
        catalog.snapshots.note_restated(
            ((each.dot, place) for place, each in enumerate(self._items) if each.number in versions), seq
        )
        self._number, self._size, self._items = self._number + 1, 0, []
        return seq


def _chunk_id(context: Context, data: bytes) -> ChunkId:
    inline = decode_inline(data)
    return context.secrets.generations[inline.generation].chunk_id(inline.plain)


def _said(context: Context, after: int, until: int) -> Iterator[Statement]:
    """Everything the own feed says behind `after`, its last snapshot's items among it."""
    while after < until:
        page = context.catalog.feeds.entries_after(context.own_feed, after, min(_PAGE, until - after))
        for _, _, data in page:
            yield from held_statements(context, data).statements
        after = page[-1][0]


def _keeps_behind(context: Context, statement: Statement, contents: _Contents) -> bool:
    """Of what is covered or no version: whether a frontier, a conflict copy or a file still needs to know it."""
    snapshots, data = context.catalog.snapshots, statement.data
    match statement.number:
        case RecordType.FILE | RecordType.TOMBSTONE:
            version = version_of(data, statement.values, statement.dot)
            if snapshots.in_frontier(version.path, version.dot.feed, version.dot.seq) is not None:
                return False  # restated already
            origin = version.origin
            if origin is not None and origin.path != version.path:
                loser = snapshots.in_frontier(origin.path, origin.dot.feed, origin.dot.seq)
                if loser is not None and loser[0] == origin.dot:
                    return True  # it gives a loser that still competes a name of its own
            return snapshots.reaches_beyond(version.path)
        case RecordType.CHUNK:
            return contents.keeps_chunk(_chunk_id(context, data))
        case RecordType.PACK:
            return contents.keeps_pack(decode_pack(data))
    return False


class _Contents:
    """Which content a snapshot tells of. A pack of which little is needed any more is left out too if files here hold all
    that is: it goes into a new pack, so that a newcomer need not pick a folder out of all the packs there ever were."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._all_told = list_needed(context)
        self._sparse: dict[ChunkId, int] = {}
        """Chunks with their sizes."""

    def keeps_chunk(self, chunk: ChunkId) -> bool:
        return not self._all_told or bool(self._context.catalog.needed_chunks.of([chunk]))

    def keeps_pack(self, pack: PackLocations) -> bool:
        if not self._all_told:
            return True
        sizes = {frame.chunk: frame.plain_size for frame in locate(pack.table)}
        needed = {chunk: sizes[chunk] for chunk in self._context.catalog.needed_chunks.of(list(sizes))}
        if len(needed) * SPARSE > len(sizes) or sum(needed.values()) * SPARSE > sum(sizes.values()):
            return True
        if self._context.catalog.placed.holders_of_all(list(needed)).keys() != needed.keys():
            return True
        self._sparse |= needed
        return False

    def pack_anew(self) -> None:
        """Queue for upload what was left out although it is needed."""
        locations = self._context.catalog.locations
        left_out = locations.all_left_out(list(self._sparse))
        locations.queue_upload((chunk, size) for chunk, size in self._sparse.items() if chunk in left_out)
