"""Records: the statements inside an entry, their numbers, bytes and bounds.

A record is a canonical msgpack array that starts with its type number; its hash is BLAKE3(RECORD_HASH, bytes). Numbers
below 128 that this code does not know hold the feed (a newer p2psync wrote something that matters); from 128 on they are
ignored, kept and passed on. A record of a known type that breaks its rules is *refused*: flagged, while the chain goes
on. Membership records stand in `index/membership.py`. Source: formats, "Entry" and "Versions".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.encoding import Fields, decode, decode_own, encode
from p2psync.errors import P2psyncError, PeerError
from p2psync.ids import EpochId, FeedId, PackName, Plaintext, RecordHash
from p2psync.index.paths import Path, refuse_reason
from p2psync.index.versions import NO_CONTENT, Content, Dot, Kind, Origin, Vector, Version
from p2psync.index.xattrs import as_recalled, read_xattrs
from p2psync.limits import (
    CHUNK_LIST_INLINE,
    CHUNK_MAX,
    ENTRY_MAX,
    FILE_CHUNKS_MAX,
    INLINE_MAX,
    MTIME_MAX,
    PACK_FRAMES_MAX,
    PACK_MAX,
    PATH_DEPTH_MAX,
    SEQ_MAX,
    SYMLINK_TARGET_MAX,
    VECTOR_MAX,
)
from p2psync.sealed.pack import padme

CHUNK_ROW = 36
"""One row of a chunk list: chunk id (32) ‖ length (4)."""
_ROWS = struct.Struct(">32sI")
PACK_ROW = 40
"""One row of a pack's table; `vault/pack.py` reads it."""


class RecordType(IntEnum):
    """All numbers given out; those without a class in this code are reserved and hold a feed that uses them."""

    BIND = 1
    GENESIS = 2
    FILE = 3
    TOMBSTONE = 4
    CHUNK = 5
    PACK = 6
    RETIRE = 7
    BAD = 8
    SNAPSHOT = 9
    CLOSE = 10
    FORK = 11
    ADD = 16
    ROLE = 17
    REMOVE = 18
    ROTATE = 19
    GRANT = 20
    STORE = 21
    KEYS = 22


OPTIONAL_FROM = 128

_USUAL_TYPES = frozenset(
    (int, tuple, int, int, int, int, type(None), tuple, int, tuple, int, bytes, replaces, type(None))
    for replaces in (type(None), bytes)
)
"""Of the fields of a file record without target, origin and extended attributes."""
_THREE_NUMBERS = (int, int, int)
_BYTES = frozenset({bytes})
_KINDS = tuple(Kind)


class UnknownRecord(P2psyncError):
    """A record type below 128 this code does not know: written by a newer p2psync. Reaction: hold that feed."""


@dataclass(frozen=True, slots=True)
class InlineChunk:
    generation: int
    plain: Plaintext


@dataclass(frozen=True, slots=True)
class PackLocations:
    """A pack some store holds, with the table of its chunks (rows of 40 bytes, see `vault/pack.py`)."""

    name: PackName
    epoch: EpochId
    salt: bytes
    size: int
    generation: int
    table: bytes


def record_hash(data: bytes) -> RecordHash:
    return RecordHash(labelled_hash(domains.RECORD_HASH, data))


def read_record(data: bytes) -> tuple[int, Any]:
    """The type number and all fields; PeerError when the bytes are no record."""
    values = decode(data, ENTRY_MAX)
    return Fields(values, "record").integer("type", 1, 255), values


def record_type(data: bytes) -> int:
    """The type number; PeerError when the bytes are no record."""
    return read_record(data)[0]


def peek_type(data: bytes) -> int:
    """The type number of what may be a record, before it is decoded; 0 when it begins like none."""
    header = 1 if data[:1] < b"\xdc" else 3  # an array of up to 15 fields, or of more
    number = data[header : header + 2]
    return number[0] if number[:1] < b"\x80" and number else number[-1] if number[:1] == b"\xcc" else 0


def encode_version(version: Version) -> bytes:
    """File or tombstone record of a version (its dot is where it stands, not part of the bytes)."""
    vector = [[feed, seq] for feed, seq in sorted(version.vector.items())]
    origin = version.origin and [
        version.origin.path, version.origin.dot.feed, version.origin.dot.seq, version.origin.dot.index,
    ]  # fmt: skip
    if version.kind is Kind.DELETED:
        return encode([RecordType.TOMBSTONE, version.path, vector, version.replaces, origin])
    content = version.content
    return encode(
        [
            RecordType.FILE, version.path, version.kind, version.size, version.mtime_ns, version.mode, version.target,
            vector, content.generation, content.parameters, content.depth, content.chunks, version.replaces, origin,
            *([version.xattrs] if version.xattrs else []),
        ]
    )  # fmt: skip


def decode_version(data: bytes, dot: Dot) -> Version:
    """Read a file or tombstone record; PeerError names the rule it breaks."""
    return version_of(data, decode(data, ENTRY_MAX), dot)


def version_of(data: bytes, values: Any, dot: Dot) -> Version:
    """`decode_version` for whoever has read the record: `values` are its fields."""
    return _usual(data, values, dot) or _read_version(data, values, dot)


def _usual(data: bytes, values: Any, dot: Dot) -> Version | None:
    """What most records are, a directory or a file of at most one chunk that nobody but its author wrote, checked at once.

    None for everything else: whether that is good, or what is wrong with it, is found out field by field.
    """
    if type(values) is not tuple or tuple(map(type, values)) not in _USUAL_TYPES:
        return None
    number, path, kind, size, mtime_ns, mode, _, vector, generation, parameters, depth, chunks, replaces, _ = values
    if not (
        number == RecordType.FILE and kind <= Kind.DIRECTORY and depth == 0
        and kind >= 0 and 0 <= size <= CHUNK_MAX and -MTIME_MAX <= mtime_ns <= MTIME_MAX and 0 <= mode <= 0o777
        and vector == ((dot.feed, dot.seq),) and type(vector[0][1]) is int and 1 <= dot.seq <= SEQ_MAX
        and 0 <= generation <= 65535 and tuple(map(type, parameters)) == _THREE_NUMBERS
        and min(parameters) >= 0 and max(parameters) <= PACK_MAX
        and (replaces is None or len(replaces) == 32)
        and _BYTES.issuperset(map(type, path)) and refuse_reason(path) is None
    ):  # fmt: skip
        return None
    if chunks:
        if kind != Kind.FILE or len(chunks) != CHUNK_ROW or size == 0 or size.to_bytes(4, "big") != chunks[32:]:
            return None
        content = Content(generation=generation, parameters=parameters, chunks=chunks)
    elif size:
        return None
    else:
        content = Content(generation=generation, parameters=parameters) if generation or any(parameters) else NO_CONTENT
    return Version(
        path=path, dot=dot, kind=_KINDS[kind], vector=dict(vector), size=size, mtime_ns=mtime_ns, mode=mode,
        content=content, replaces=replaces, hash=record_hash(data),
    )  # fmt: skip


def _read_version(data: bytes, values: Any, dot: Dot) -> Version:
    fields = Fields(values, "version")
    kind_of_record = fields.integer("type")
    path = _path(fields.array("path", PATH_DEPTH_MAX))
    if kind_of_record == RecordType.TOMBSTONE:
        vector = _vector(fields.array("vector", VECTOR_MAX), dot)
        replaces, origin = _replaces(fields), _origin(fields)
        fields.end()
        return Version(
            path=path, dot=dot, kind=Kind.DELETED, vector=vector, replaces=replaces, origin=origin,
            hash=record_hash(data),
        )  # fmt: skip
    kind = Kind(fields.integer("kind", 0, 2))
    size = fields.integer("size")
    mtime_ns = fields.integer("mtime", -MTIME_MAX, MTIME_MAX)
    mode = fields.integer("mode", 0, 0o777)
    target = fields.optional_data("target", most=SYMLINK_TARGET_MAX)
    vector = _vector(fields.array("vector", VECTOR_MAX), dot)
    content = _content(fields, kind, size)
    replaces, origin = _replaces(fields), _origin(fields)
    xattrs = read_xattrs(fields)
    fields.end()
    if xattrs and kind is Kind.SYMLINK:
        raise PeerError("version: a symlink has extended attributes")
    if (kind is Kind.SYMLINK) != (target is not None) or target == b"" or b"\0" in (target or b""):
        raise PeerError("version: symlink target and kind do not fit")
    return Version(
        path=path, dot=dot, kind=kind, vector=vector, size=size, mtime_ns=mtime_ns, mode=mode, target=target,
        content=content, xattrs=xattrs, replaces=replaces, origin=origin, hash=record_hash(data),
    )  # fmt: skip


def recall_version(data: bytes, dot: Dot) -> Version:
    """`decode_version` of a record that this device has checked before, or has written itself: nothing is checked again."""
    values = decode_own(data)
    if values[0] == RecordType.TOMBSTONE:
        _, path, vector, replaces, origin = values
        return Version(
            path=path, dot=dot, kind=Kind.DELETED, vector=dict(vector), replaces=replaces, origin=_recalled(origin),
            hash=record_hash(data),
        )  # fmt: skip
    _, path, kind, size, mtime_ns, mode, target, vector, generation, parameters, depth, chunks, *last = values
    replaces, origin, *behind = last
    return Version(
        path=path, dot=dot, kind=Kind(kind), vector=dict(vector), size=size, mtime_ns=mtime_ns, mode=mode, target=target,
        content=Content(generation=generation, parameters=parameters, depth=depth, chunks=chunks),
        xattrs=as_recalled(behind), replaces=replaces, origin=_recalled(origin), hash=record_hash(data),
    )  # fmt: skip


def _recalled(origin: Any) -> Origin | None:
    return None if origin is None else Origin(origin[0], Dot(*origin[1:]))


def _path(components: Iterable[Any]) -> Path:
    path = tuple(components)
    if not all(isinstance(name, bytes) for name in path):
        raise PeerError("version: path components are not bytes")
    if reason := refuse_reason(path):
        raise PeerError(f"version: its path {reason}")
    return path


def _vector(pairs: Iterable[Any], dot: Dot) -> Vector:
    vector: Vector = {}
    last = b""
    for pair in pairs:
        fields = Fields(pair, "vector")
        feed = FeedId(fields.data("feed", size=32))
        vector[feed] = fields.integer("seq", 1, SEQ_MAX)
        if feed <= last:
            raise PeerError("version: vector is not sorted")
        last = feed
        fields.end()
    if vector.get(dot.feed) != dot.seq:
        raise PeerError("version: its author's own component is not the entry's number")
    return vector


def _content(fields: Fields, kind: Kind, size: int) -> Content:
    generation = fields.integer("generation", 0, 65535)
    parameters = fields.array("parameters", 3)
    depth = fields.integer("depth", 0, 1)
    chunks = fields.data("chunks", most=CHUNK_LIST_INLINE * CHUNK_ROW)
    if len(parameters) != 3 or not all(type(p) is int and 0 <= p <= PACK_MAX for p in parameters):
        raise PeerError("version: chunk parameters have the wrong form")
    total = sum(length for _, length in iterate_chunks(chunks))
    if kind is not Kind.FILE:
        fits = size == 0 and not chunks
    elif depth == 0:
        fits = total == size
    else:
        count, rest = divmod(total, CHUNK_ROW)
        fits = not rest and 0 < count <= FILE_CHUNKS_MAX and count <= size <= count * CHUNK_MAX
    if not fits:
        raise PeerError("version: chunk lengths do not add up to its size")
    return Content(generation=generation, parameters=parameters, depth=depth, chunks=chunks)


def iterate_chunks(rows: bytes) -> Iterable[tuple[bytes, int]]:
    """(chunk id, length) of a chunk list; PeerError when it is not whole rows of possible lengths."""
    if len(rows) % CHUNK_ROW:
        raise PeerError("a chunk list is not made of whole rows")
    found = list(_ROWS.iter_unpack(rows))
    for _, length in found:
        if not 0 < length <= CHUNK_MAX:
            raise PeerError("a chunk list has an impossible length")
    return found


def _replaces(fields: Fields) -> RecordHash | None:
    value = fields.optional_data("replaces", size=32)
    return None if value is None else RecordHash(value)


def _origin(fields: Fields) -> Origin | None:
    values = fields.optional_array("origin", 4)
    if values is None:
        return None
    inner = Fields(values, "origin")
    path = _path(inner.array("path", PATH_DEPTH_MAX))
    dot = Dot(
        FeedId(inner.data("feed", size=32)), inner.integer("seq", 1, SEQ_MAX), inner.integer("index", 0, ENTRY_MAX)
    )
    inner.end()
    return Origin(path, dot)


def encode_inline(chunk: InlineChunk) -> bytes:
    return encode([RecordType.CHUNK, chunk.generation, chunk.plain])


def decode_inline(data: bytes) -> InlineChunk:
    fields = Fields(decode(data, ENTRY_MAX), "inline chunk")
    fields.integer("type")
    chunk = InlineChunk(fields.integer("generation", 0, 65535), Plaintext(fields.data("plain", most=INLINE_MAX)))
    fields.end()
    return chunk


def encode_pack(pack: PackLocations) -> bytes:
    return encode([RecordType.PACK, pack.name, pack.epoch, pack.salt, pack.size, pack.generation, pack.table])


def decode_pack(data: bytes) -> PackLocations:
    fields = Fields(decode(data, ENTRY_MAX), "pack record")
    fields.integer("type")
    pack = PackLocations(
        name=PackName(fields.data("name", size=32)), epoch=EpochId(fields.data("epoch", size=16)),
        salt=fields.data("salt", size=32), size=fields.integer("size", 0, PACK_MAX),
        generation=fields.integer("generation", 0, 65535), table=fields.data("table", most=PACK_FRAMES_MAX * PACK_ROW),
    )  # fmt: skip
    fields.end()
    if padme(pack.size) != pack.size or len(pack.table) % PACK_ROW:
        raise PeerError("pack record: its size or its table is not of an allowed length")
    return pack
