"""Merging concurrent versions: pure functions every device computes alike without talking.

The frontier of a path is the set of its versions that no other covers. One of them wins; of the others, files and
symlinks become *derived* conflict copies: virtual versions at their own path that nobody publishes until someone touches
them. The table of outcomes stands in `docs/formats.md`. Clocks decide nothing: a modification time only shapes a name.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from p2psync.crypto.hashing import content_hash
from p2psync.index.paths import Path
from p2psync.index.versions import Dot, Kind, Vector, Version, join_vectors
from p2psync.limits import NAME_MAX

_RANK = {Kind.DIRECTORY: 3, Kind.FILE: 2, Kind.SYMLINK: 1, Kind.DELETED: 0}
"""A directory beats a file (it may have children), anything beats a delete (edits survive)."""
_SECONDS_MAX = 253402300799
"""9999-12-31T23:59:59Z."""
CONFLICT_MARK = b".sync-conflict-"
_MARK_SIZE = 17
"""`~` and 16 hex digits."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`winner` stands at the path with `vector`, which covers every version of identical state."""

    winner: Version
    vector: Vector
    losers: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The versions of a path that no other covers, and what has been covered beyond what these say themselves.

    A version is in it or not by the set of versions that were ever applied, never by their order. For vectors that take
    in those of what they cover, `beyond` stays empty; only a member who publishes other vectors can make it grow. Liars
    who claim to have seen each other's future leave what is known standing: a path never loses its last version.
    """

    versions: tuple[Version, ...] = ()
    beyond: Vector = field(default_factory=dict)

    def add(self, new: Version) -> Frontier:
        """The frontier after `new` became known; itself when `new` is known already."""
        if not self.versions and not self.beyond:
            return Frontier((new,))
        if any(held.dot == new.dot for held in self.versions):
            return self
        known = (*self.versions, new)
        covered = join_vectors([self.beyond, *map(_covered_by, known)])
        versions = tuple(v for v in known if covered.get(v.dot.feed, 0) < v.dot.seq) or known
        said = join_vectors(map(_covered_by, versions))
        return Frontier(versions, {feed: seq for feed, seq in covered.items() if seq > said.get(feed, 0)})


def _covered_by(version: Version) -> Vector:
    """Up to where a version covers each feed's versions of its path: of its own feed, those before itself."""
    return {feed: seq - (feed == version.dot.feed) for feed, seq in version.vector.items()}


def decide(frontier: Sequence[Version]) -> Outcome:
    """Choose the winner of a non-empty frontier: highest rank of kind, then highest version hash, then dot."""
    if len(frontier) == 1:
        return Outcome(frontier[0], frontier[0].vector, ())
    ordered = sorted(frontier, key=lambda v: (_RANK[v.kind], v.hash, v.dot), reverse=True)
    winner = ordered[0]
    equal = [v for v in ordered if v.same_state(winner)]
    losers, seen = [], list(equal[:1])
    for version in ordered:
        if version.kind in (Kind.FILE, Kind.SYMLINK) and not any(version.same_state(other) for other in seen):
            losers.append(version)
            seen.append(version)
    return Outcome(winner, join_vectors(v.vector for v in equal), tuple(sorted(losers, key=lambda v: v.dot)))


def conflict_name(name: bytes, mtime_ns: int, short_device: str, later: int = 0) -> bytes:
    """`<name>.sync-conflict-<YYYYMMDD>-<HHMMSS>-<7-char device>.<ext>`, cut to what a filesystem takes.

    `later` seconds are added to the time, which is first brought between 1970 and 9999; behind 9999 follows 1970, so
    that every next name is another one. A name that is cut keeps a hash of the whole, so that no two of them meet.
    """
    seconds = (max(0, min(mtime_ns // 10**9, _SECONDS_MAX)) + later) % (_SECONDS_MAX + 1)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    stem, dot, extension = name.rpartition(b".")
    if not dot or not stem:
        stem, extension = name, b""
    tail = CONFLICT_MARK + f"{moment:%Y%m%d-%H%M%S}-{short_device}".encode() + (b"." + extension if extension else b"")
    if len(tail) + _MARK_SIZE > NAME_MAX:  # too long for an extension
        stem, tail = name, tail[: -len(extension) - 1]
    room = NAME_MAX - len(tail)
    if len(stem) <= room:
        return stem + tail
    mark = b"~" + content_hash(name)[: _MARK_SIZE // 2].hex().encode()
    room -= _MARK_SIZE
    while room and stem[room] & 0xC0 == 0x80:
        room -= 1  # not in the middle of a UTF-8 character
    return stem[:room] + mark + tail


@dataclass(frozen=True, slots=True)
class DerivedCopy:
    """A loser at the path every device gives it."""

    path: Path
    loser: Version


def derive_copies(
    losers: Iterable[Version], short_device: Callable[[Version], str], taken: Callable[[Path], bool], settled: set[Dot]
) -> list[DerivedCopy]:
    """Name the conflict copies of one path's losers, in dot order.

    `short_device` gives the author's short id, `taken` whether a published version lives at a path; dots in `settled`
    were touched by somebody and are published under their own name already.
    """
    copies: list[DerivedCopy] = []
    used: set[Path] = set()
    for loser in losers:
        if loser.dot in settled:
            continue
        later = 0
        while True:
            name = conflict_name(loser.path[-1], loser.mtime_ns, short_device(loser), later)
            path = (*loser.path[:-1], name)
            if path not in used and not taken(path):
                break
            later += 1
        used.add(path)
        copies.append(DerivedCopy(path, loser))
    return copies
