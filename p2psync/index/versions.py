"""A version: one state of one path, with its dot and version vector.

A dot (feed, seq, index) is a version's id. The vector maps feeds to sequence numbers; its author's own component is
exactly the seq of its entry, so nobody can inflate another's. Version A is covered by B when B's vector reaches A's dot.
Clocks have no say. Source: formats, "Versions".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from p2psync.ids import FeedId, RecordHash
from p2psync.index.paths import Path
from p2psync.index.xattrs import Xattrs

Vector = dict[FeedId, int]


class Kind(IntEnum):
    """What stands at a path; the numbers are those of the file record."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    DELETED = 3
    """A tombstone (its own record type on the wire)."""


@dataclass(frozen=True, slots=True, order=True)
class Dot:
    feed: FeedId
    seq: int
    index: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a renamed, copied or conflict-copied version came from."""

    path: Path
    dot: Dot


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """How a file's bytes are named. `chunks` is rows of chunk id (32) ‖ length (4).

    With depth 0 the rows are the file's chunks; with depth 1 they are the chunks of the list of rows.
    """

    generation: int = 0
    parameters: tuple[int, int, int] = (0, 0, 0)
    depth: int = 0
    chunks: bytes = b""


NO_CONTENT = Content()
_UNHASHED = RecordHash(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    path: Path
    dot: Dot
    kind: Kind
    vector: Vector
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0
    target: bytes | None = None
    content: Content = NO_CONTENT
    xattrs: Xattrs = ()
    replaces: RecordHash | None = None
    origin: Origin | None = None
    hash: RecordHash = _UNHASHED

    @property
    def live(self) -> bool:
        return self.kind is not Kind.DELETED

    def covers(self, other: Version) -> bool:
        """Whether this version's author had seen `other` when writing it."""
        return self.dot != other.dot and self.vector.get(other.dot.feed, 0) >= other.dot.seq

    def same_state(self, other: Version) -> bool:
        """Identical content: two such versions make no conflict. Permission bits, times and extended attributes do not count:
        one side wins."""
        if self.kind is not other.kind:
            return False
        if self.kind is Kind.FILE:
            mine, yours = self.content, other.content
            return (self.size, mine.generation, mine.depth, mine.chunks) == (
                other.size, yours.generation, yours.depth, yours.chunks,
            )  # fmt: skip
        return self.target == other.target


def hashed(version: Version, record: RecordHash) -> Version:
    """The version itself, just made and nobody else's, with the hash of its record. Making another one took a twentieth of
    what a new file costs."""
    object.__setattr__(version, "hash", record)
    return version


def join_vectors(vectors: Iterable[Vector]) -> Vector:
    """Component-wise maximum."""
    joined: Vector = {}
    for vector in vectors:
        for feed, seq in vector.items():
            if seq > joined.get(feed, 0):
                joined[feed] = seq
    return joined
