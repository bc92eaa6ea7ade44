"""A replica without disk, catalog and keys: what an author must do (formats, "Versions and merging"), in pure merges.

Every decision about versions is the product's own (`p2psync.index`): frontiers, winners, names of conflict copies, text
merges, and the bytes of records, whose hashes decide. What the product keeps in SQL stands here in dicts, and a user's
change is published the moment it is made. `placed` is what the disk holds; it may lag behind what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from p2psync.crypto.hashing import content_hash
from p2psync.ids import FeedId
from p2psync.index.merge import Frontier, decide, derive_copies
from p2psync.index.paths import Path
from p2psync.index.records import decode_version, encode_version
from p2psync.index.text_merging import common_ancestor, may_merge, merge_text
from p2psync.index.versions import NO_CONTENT, Content, Dot, Kind, Origin, Vector, Version, join_vectors

CONTENTS: dict[bytes, bytes] = {b"": b""}
"""Bytes by their chunk list: as if every chunk could be had at any time."""
_STEPS = 100
"""Claims and merges that one replica may have to make at once, by far."""


@dataclass(frozen=True)
class Standing:
    """What stands or should stand at a path; `source` names the path whose loser a derived copy is."""

    version: Version
    vector: Vector
    source: Path | None = None


@dataclass(frozen=True)
class Entry:
    versions: tuple[Version, ...]
    seen: Vector
    """How far its author knew each feed when writing it, his own included."""


@dataclass(frozen=True)
class Change:
    """What a user made of a path. `data` is a file's content or a symlink's target."""

    path: Path
    kind: Kind
    data: bytes = b""
    mode: int = 0o644
    origin: Version | None = None


@dataclass
class ModelReplica:
    feed: FeedId
    entries: dict[FeedId, list[Entry]] = field(default_factory=dict)
    wanted: dict[Path, Standing] = field(default_factory=dict)
    placed: dict[Path, Standing] = field(default_factory=dict)
    """Live rows, and tombstones of what this disk has held."""
    _frontiers: dict[Path, Frontier] = field(default_factory=dict)
    _settled: dict[Path, set[Dot]] = field(default_factory=dict)

    # What a user sees and does.

    def tree(self) -> dict[Path, Version]:
        return {path: held.version for path, held in self.placed.items() if held.version.live}

    def below(self, path: Path) -> list[Path]:
        """What stands at a path and below it, deepest first."""
        return sorted((p for p in self.tree() if p[: len(path)] == path), key=len, reverse=True)

    def can_hold(self, path: Path) -> bool:
        """Whether nothing but directories stands above a path."""
        tree = self.tree()
        return all(tree[above].kind is Kind.DIRECTORY for above in _parents(path) if above in tree)

    def put(self, *unit: Change) -> None:
        """Publish changes that belong together, after the directories that the last one needs."""
        self._make_parents(unit[-1].path)
        self._publish(unit)

    def remove(self, path: Path) -> None:
        for each in self.below(path):
            self._publish([Change(each, Kind.DELETED)])

    def move(self, source: Path, target: Path) -> None:
        """Rename what stands at `source` and below it; the two sides of each file stand in one entry."""
        for old in reversed(self.below(source)):
            version = self.tree()[old]
            made = Change((*target, *old[len(source) :]), version.kind, data_of(version), version.mode)
            if version.kind is Kind.DIRECTORY:
                self.put(made)
            else:
                self.put(Change(old, Kind.DELETED), replace(made, origin=version))
        self.remove(source)

    # What comes from others, and what follows.

    def head(self, feed: FeedId) -> int:
        return len(self.entries.get(feed, []))

    def hear(self, other: ModelReplica, most: dict[FeedId, int] | None = None) -> None:
        """Take in what another replica knows, in feed order: of each feed all, or `most` entries."""
        for feed, known in other.entries.items():
            new = known[self.head(feed) :]
            for entry in new if most is None else new[: most.get(feed, 0)]:
                self._take_in(feed, entry)
        self._decide()

    def apply_one(self, path: Path) -> None:
        """Bring one file to the disk, or take it away, ahead of everything else that waits."""
        held, wanted = self.placed.get(path), self.wanted.get(path)
        kinds = {held.version.kind if held else Kind.DELETED, wanted.version.kind if wanted else Kind.DELETED}
        if wanted is None or Kind.DIRECTORY in kinds or (wanted.version.live and not self._has_room(path)):
            return
        if wanted.version.live or held is not None:
            self.placed[path] = wanted

    def apply(self) -> None:
        """Bring everything to the disk, claim directories, merge texts; nothing waits afterwards."""
        for _ in range(_STEPS):
            if not (self._claim() or self._merge_texts()):
                break
        else:
            raise AssertionError("claiming and merging come to no end")
        for path in [path for path in self.placed if path not in self.wanted]:
            del self.placed[path]  # a derived copy that is none any more
        for path, wanted in self.wanted.items():
            if wanted.version.live or path in self.placed:
                self.placed[path] = wanted
        for path in sorted(self.tree(), key=len):
            self._make_parents(path)

    def _make_parents(self, path: Path) -> None:
        for above in _parents(path):
            if above not in self.tree():
                self._publish([Change(above, Kind.DIRECTORY, mode=0o755)])

    def _has_room(self, path: Path) -> bool:
        tree = self.tree()
        return all(above in tree and tree[above].kind is Kind.DIRECTORY for above in _parents(path))

    def _take_in(self, feed: FeedId, entry: Entry) -> None:
        self.entries.setdefault(feed, []).append(entry)
        for version in entry.versions:
            assert all(seq <= entry.seen[feed] for feed, seq in version.vector.items()), "a vector says too much"
            self._frontiers[version.path] = self._frontiers.get(version.path, Frontier()).add(version)
            if version.origin is not None and version.origin.path != version.path:
                self._settled.setdefault(version.origin.path, set()).add(version.origin.dot)

    def _decide(self) -> None:
        """Winners take their paths first, then their losers get names that are free."""
        outcomes = {path: decide(frontier.versions) for path, frontier in sorted(self._frontiers.items())}
        self.wanted = {path: Standing(outcome.winner, outcome.vector) for path, outcome in outcomes.items()}
        for path, outcome in outcomes.items():
            for copy in self._copies(path, outcome.losers, self._settled.get(path, set())):
                self.wanted[copy[0]] = Standing(copy[1], copy[1].vector, path)

    def _copies(self, path: Path, losers: Sequence[Version], settled: set[Dot]) -> list[tuple[Path, Version]]:
        def taken(at: Path) -> bool:
            return at in self.wanted and self.wanted[at].source != path

        return [(copy.path, copy.loser) for copy in derive_copies(losers, _short_device, taken, settled)]

    # Publishing.

    def _publish(self, unit: Sequence[Change]) -> None:
        """One entry with these changes. What the folder wants already is adopted instead."""
        made: dict[Path, Version] = {}
        entry: list[Version] = []
        changing = {change.path for change in unit}
        for change in unit:
            if not self._adopt(change):
                made[change.path] = self._make(change, entry, changing)
                entry.append(made[change.path])
        self._append(entry)
        for path, version in made.items():
            self.placed[path] = Standing(version, version.vector)

    def _append(self, versions: Sequence[Version]) -> None:
        if versions:
            seen = {feed: len(known) for feed, known in self.entries.items()}
            self._take_in(self.feed, Entry(tuple(versions), {**seen, self.feed: self.head(self.feed) + 1}))
            self._decide()

    def _adopt(self, change: Change) -> bool:
        wanted = self.wanted.get(change.path)
        if wanted is None or wanted.version.kind is not change.kind or data_of(wanted.version) != change.data:
            return False
        if wanted.version.live and wanted.version.mode != change.mode:
            return False
        self.placed[change.path] = wanted
        return True

    def _make(self, change: Change, entry: list[Version], changing: set[Path]) -> Version:
        """The version of a change; conflict copies that it would cover are published before it."""
        path, base, wanted = change.path, self.placed.get(change.path), self.wanted.get(change.path)
        previous = self._own(path)
        if previous is not None and (base is None or not _reaches(base.vector, previous)):
            self._keep_copy(previous, entry, changing)
        losers = [loser for loser in self._losers(path) if previous is None or loser.dot != previous.dot]
        for loser in losers:
            self._keep_copy(loser, entry, changing)
        origin = Origin(change.origin.path, change.origin.dot) if change.origin is not None else None
        if origin is None and base is not None and wanted is not None and wanted.source is not None:
            origin = Origin(wanted.source, base.version.dot)
        seen = [version.vector for version in self._lost_with(path, losers)]
        seen += [previous.vector] if previous is not None else []
        seen += [base.vector] if base is not None else []
        replaces = base.version.hash if base is not None else None
        return self._sealed(replace(_version_of(change), origin=origin, replaces=replaces), seen, entry)

    def _keep_copy(self, lost: Version, entry: list[Version], changing: set[Path]) -> None:
        path = self._copy_path(lost)
        if path is not None and path not in changing and path not in {version.path for version in entry}:
            kept = replace(lost, path=path, replaces=lost.hash, origin=Origin(lost.path, lost.dot))
            entry.append(self._sealed(kept, [lost.vector], entry))

    def _copy_path(self, version: Version) -> Path | None:
        """Where the conflict copy of a version stands, or would if another took its place."""
        if version.kind not in (Kind.FILE, Kind.SYMLINK):
            return None
        for path, wanted in self.wanted.items():
            if wanted.source == version.path and wanted.version.dot == version.dot:
                return path
        if self.wanted[version.path].version.dot != version.dot:
            return None
        return self._copies(version.path, [version], set())[0][0]

    def _sealed(self, version: Version, seen: Sequence[Vector], entry: Sequence[Version]) -> Version:
        """As others will read it: with its dot, its vector and the hash of its record."""
        dot = Dot(self.feed, self.head(self.feed) + 1, len(entry))
        vector = {**join_vectors(seen), dot.feed: dot.seq}
        return decode_version(encode_version(replace(version, dot=dot, vector=vector)), dot)

    def _own(self, path: Path) -> Version | None:
        return next((v for v in self._frontier(path) if v.dot.feed == self.feed), None)

    def _frontier(self, path: Path) -> tuple[Version, ...]:
        return self._frontiers.get(path, Frontier()).versions

    def _losers(self, path: Path) -> list[Version]:
        return [wanted.version for wanted in self.wanted.values() if wanted.source == path]

    def _lost_with(self, path: Path, losers: Sequence[Version]) -> list[Version]:
        """These losers, those that have names of their own already, and every version of the same state as one of them."""
        frontier, settled = self._frontier(path), self._settled.get(path, set())
        named = [loser for loser in decide(frontier).losers if loser.dot in settled] if frontier else []
        return [v for v in frontier if any(v.same_state(lost) for lost in (*losers, *named))]

    def _claim(self) -> bool:
        """Publish a directory where a file or symlink is wanted although something is wanted below it."""
        ways = {above for path, wanted in self.wanted.items() if wanted.version.live for above in _parents(path)}
        claimed = False
        for path in sorted(ways & self.wanted.keys()):
            if self.wanted[path].version.kind in (Kind.FILE, Kind.SYMLINK):
                entry: list[Version] = []
                previous = self._own(path)
                if previous is not None:
                    self._keep_copy(previous, entry, set())
                directory = _version_of(Change(path, Kind.DIRECTORY, mode=0o755))
                entry.append(self._sealed(directory, [previous.vector] if previous is not None else [], entry))
                self._append(entry)
                claimed = True
        return claimed

    # Merging texts.

    def _merge_texts(self) -> bool:
        sources = {wanted.source for wanted in self.wanted.values() if wanted.source is not None}
        return any(self._merge_at(path) for path in sorted(sources))

    def _merge_at(self, path: Path) -> bool:
        wanted = self.wanted[path]
        for loser in self._losers(path):
            winner = wanted.version
            if not may_merge(path, winner, loser) or self.feed not in (winner.dot.feed, loser.dot.feed):
                continue
            merged = self._merged(winner, loser)
            if merged is not None:
                change = Change(path, Kind.FILE, merged, winner.mode)
                seen = [wanted.vector, *(version.vector for version in self._lost_with(path, [loser]))]
                self._append_decided(change, winner, seen)
                return True
        return False

    def _merged(self, winner: Version, loser: Version) -> bytes | None:
        if any(self.head(feed) < seq for feed, seq in join_vectors([winner.vector, loser.vector]).items()):
            return None  # a later common ancestor may be on its way
        base = common_ancestor(winner, loser, self._past(winner.path))
        if base is None and winner.origin is not None and winner.origin == loser.origin:
            base = next(v for v in self._past(winner.origin.path) if v.dot == winner.origin.dot)
        if base is None or not may_merge(base.path, base):
            return None
        return merge_text(data_of(base), data_of(winner), data_of(loser))

    def _past(self, path: Path) -> Iterator[Version]:
        return (v for known in self.entries.values() for entry in known for v in entry.versions if v.path == path)

    def _append_decided(self, change: Change, winner: Version, seen: list[Vector]) -> None:
        entry: list[Version] = []
        previous = self._own(change.path)
        if previous is not None:
            if not _reaches(join_vectors(seen), previous):
                self._keep_copy(previous, entry, set())
            seen.append(previous.vector)
        entry.append(self._sealed(replace(_version_of(change), replaces=winner.hash), seen, entry))
        self._append(entry)


def data_of(version: Version) -> bytes:
    """A file's content or a symlink's target."""
    return CONTENTS[version.content.chunks] if version.kind is Kind.FILE else version.target or b""


def _version_of(change: Change) -> Version:
    """Without vector and dot."""
    path, kind, data = change.path, change.kind, change.data
    dot = Dot(FeedId(b""), 0, 0)
    if kind is Kind.DELETED:
        return Version(path=path, dot=dot, kind=kind, vector={})
    if kind is not Kind.FILE:
        target = data if kind is Kind.SYMLINK else None
        return Version(path=path, dot=dot, kind=kind, vector={}, mode=change.mode, target=target)
    rows = content_hash(data) + len(data).to_bytes(4, "big") if data else b""
    CONTENTS[rows] = data
    content = Content(chunks=rows) if rows else NO_CONTENT
    return Version(path=path, dot=dot, kind=kind, vector={}, size=len(data), mode=change.mode, content=content)


def _parents(path: Path) -> list[Path]:
    return [path[:depth] for depth in range(1, len(path))]


def _reaches(vector: Vector, version: Version) -> bool:
    return vector.get(version.dot.feed, 0) >= version.dot.seq


def _short_device(version: Version) -> str:
    return f"DEVICE{version.dot.feed[0]}"
