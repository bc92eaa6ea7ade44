"""How paths, vectors and contents stand in SQL columns: the one place that knows.

A path is two columns, its parent joined by `/` and its last name. Vectors and contents are msgpack blobs. A chunk id is
indexed by its first 8 bytes as a signed integer; whoever finds a row by prefix verifies the content against the full id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from p2psync.crypto.hashing import content_hash
from p2psync.encoding import decode_own, encode
from p2psync.ids import ChunkId, FeedId, RecordHash
from p2psync.index.paths import Path, join, split
from p2psync.index.versions import NO_CONTENT, Content, Dot, Kind, Vector, Version
from p2psync.index.xattrs import Xattrs
from p2psync.planner.xattrs import NOTHING_HELD, HeldXattrs, Look


class Fingerprint(NamedTuple):
    """A file as it was when this device last agreed with it."""

    dev: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def same_file(self, other: Fingerprint) -> bool:
        """Equal but for ctime, which a rename changes."""
        return (self.dev, self.inode, self.size, self.mtime_ns) == (other.dev, other.inode, other.size, other.mtime_ns)


NOTHING = Fingerprint(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What this disk holds at a path."""

    path: Path
    dot: Dot
    hash: RecordHash
    kind: Kind
    vector: Vector
    fingerprint: Fingerprint
    mode: int = 0
    target: bytes | None = None
    content: Content = NO_CONTENT
    xattrs: HeldXattrs = NOTHING_HELD

    @property
    def live(self) -> bool:
        return self.kind is not Kind.DELETED

    def same_state(self, version: Version) -> bool:
        """Whether a user would see no difference but for mode and modification time."""
        if self.kind is not version.kind:
            return False
        if self.kind is Kind.FILE:
            mine, yours = self.content, version.content
            return (mine.generation, mine.depth, mine.chunks) == (yours.generation, yours.depth, yours.chunks)
        return self.target == version.target


def prefix(chunk: ChunkId | bytes) -> int:
    return int.from_bytes(chunk[:8], "big", signed=True)


def columns(path: Path) -> tuple[bytes, bytes]:
    return join(path[:-1]), path[-1]


def path_of(directory: bytes, name: bytes) -> Path:
    return (*split(directory), name)


def encode_vector(vector: Vector) -> bytes:
    return _encoded_vector(tuple(vector.items()))


@lru_cache(maxsize=256)
def _encoded_vector(rows: tuple[tuple[FeedId, int], ...]) -> bytes:
    """The versions of one entry mostly have the same vector, and each writes it twice."""
    return encode([[feed, seq] for feed, seq in sorted(rows)])


def decode_vector(data: bytes) -> Vector:
    return {FeedId(feed): seq for feed, seq in decode_own(data)}


def encode_content(content: Content) -> bytes | None:
    if not content.chunks and not content.parameters[1]:
        return None
    return encode([content.generation, content.parameters, content.depth, content.chunks])


def decode_content(data: bytes | None) -> Content:
    if data is None:
        return NO_CONTENT
    generation, parameters, depth, chunks = decode_own(data)
    return Content(generation=generation, parameters=parameters, depth=depth, chunks=chunks)


def content_key(content: Content) -> bytes:
    """What content is looked up by: 16 bytes that two versions share exactly when their chunk lists are equal."""
    return content_hash(encode([content.generation, content.depth, content.chunks]))[:16]


PLACED_COLUMNS = (
    "dir, name, feed, seq, idx, hash, kind, vector, dev, inode, size, mtime_ns, ctime_ns, mode, target, content,"
    " xattrs, shown, look"
)
CONTENT_AT = 15
"""Where among these `content` stands."""
_COLUMNS_ONCE = 16
"""As many had the rows in blobs written before there were extended attributes."""


def placed_row(placed: Placed) -> tuple[object, ...]:
    vector = encode_vector(placed.vector)
    return placed_values(
        columns(placed.path), placed.dot, placed.hash, placed.kind, vector, placed.fingerprint, placed.mode,
        placed.target, placed.content, placed.xattrs,
    )  # fmt: skip


def placed_values(
    place: tuple[bytes, bytes], dot: Dot, record: RecordHash, kind: Kind, vector: bytes, seen: Fingerprint, mode: int,
    target: bytes | None, content: Content, xattrs: HeldXattrs,
) -> tuple[object, ...]:  # fmt: skip
    """The columns of a placed row, in order."""
    held = _NO_XATTRS if xattrs is NOTHING_HELD else xattrs_row(xattrs)
    return (
        *place, dot.feed, dot.seq, dot.index, record, kind, vector, seen.dev, signed(seen.inode), seen.size,
        seen.mtime_ns, seen.ctime_ns, mode, target, encode_content(content), *held,
    )  # fmt: skip


def xattrs_row(held: HeldXattrs) -> tuple[object, ...]:
    """The three columns of a path's extended attributes."""
    shown = None if held.shown is None else encode(held.shown)
    return encode(held.agreed) if held.agreed else None, shown, held.look


def _xattrs_of(agreed: bytes | None, shown: bytes | None, look: int) -> HeldXattrs:
    seen: Xattrs | None = None if shown is None else decode_own(shown)
    return HeldXattrs(() if agreed is None else decode_own(agreed), seen, Look(look))


def placed_of(row: tuple[object, ...]) -> Placed:
    directory, name, feed, seq, index, record, kind, vector, dev, inode, size, mtime, ctime, mode, target, content = (
        row[:_COLUMNS_ONCE]
    )
    held = row[_COLUMNS_ONCE:]
    return Placed(
        path=path_of(directory, name), dot=Dot(FeedId(feed), seq, index), hash=RecordHash(record),  # type: ignore[arg-type]
        kind=Kind(kind), vector=decode_vector(vector),  # type: ignore[arg-type]
        fingerprint=Fingerprint(dev, unsigned(inode), size, mtime, ctime),  # type: ignore[arg-type]
        mode=mode, target=target, content=decode_content(content),  # type: ignore[arg-type]
        xattrs=_xattrs_of(*held) if held and held != _NO_XATTRS else NOTHING_HELD,  # type: ignore[arg-type]
    )  # fmt: skip


_NO_XATTRS = (None, None, 0)


class Outline:
    """A placed row of which only what a scan compares was read; `whole` reads the rest."""

    __slots__ = ("_row", "kind")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self._row, self.kind = row, Kind(row[6])

    @property
    def dev(self) -> int:
        return self._row[8]  # type: ignore[no-any-return]

    @property
    def mode(self) -> int:
        return self._row[13]  # type: ignore[no-any-return]

    @property
    def looked_at(self) -> bool:
        """Whether its extended attributes were, since this device syncs them."""
        return self._row[18] != 0  # type: ignore[no-any-return]

    def shows(self, fingerprint: tuple[int, int, int, int, int]) -> bool:
        """Whether the fingerprint is this one: dev, inode, size, mtime, ctime."""
        row = self._row
        return (row[8], unsigned(row[9]), row[10], row[11], row[12]) == fingerprint

    def whole(self) -> Placed:
        return placed_of(self._row)


def signed(inode: int) -> int:
    """SQLite integers are signed 64 bit, inode numbers unsigned."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def unsigned(inode: int) -> int:
    return inode + (1 << 64) if inode < 0 else inode


def encode_placed(placed: Placed | None) -> bytes | None:
    """A placed row as one blob, for intents."""
    return None if placed is None else encode([*placed_row(placed)])


def decode_placed(data: bytes | None) -> Placed | None:
    return None if data is None else placed_of(decode_own(data))
