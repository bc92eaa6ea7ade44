"""The publisher: turns local changes into entries of this device's own feed, durably and in groups.

A commit takes what the scanner found, checks under the tree lock that the catalog still says what the scanner compared
with, and appends entries of at most 1 MiB. A local edit's vector is what was *placed* plus its own dot. Content that is
the folder's already is adopted silently. New content of up to 64 KiB rides inside; the rest is queued for upload.
Synchronous: it runs in a worker. Source: formats, "Entry", "Versions", "On disk".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from p2psync.catalog.first_versions import First
from p2psync.catalog.rows import Placed
from p2psync.catalog.versions import Wanted
from p2psync.ids import ChunkId, IdentityKey, Plaintext, RecordHash
from p2psync.index.body import ALL_HEADS_EVERY, Body, FeedHead, encode_body
from p2psync.index.paths import Path
from p2psync.index.records import (
    CHUNK_ROW,
    InlineChunk,
    encode_inline,
    encode_version,
    iterate_chunks,
    record_hash,
)
from p2psync.index.versions import NO_CONTENT, Content, Dot, Kind, Origin, Vector, Version, hashed, join_vectors
from p2psync.index.xattrs import Xattrs
from p2psync.limits import CHUNK_LIST_INLINE, ENTRY_BODY_MAX, INLINE_MAX, XATTRS_MAX
from p2psync.planner.xattrs import Look
from p2psync.replica.changes import LocalChange, Unit
from p2psync.replica.chunk_lists import content_of, file_rows, is_listed
from p2psync.replica.context import Context
from p2psync.replica.predecessors import Predecessors
from p2psync.replica.standing import Standing
from p2psync.replica.xattrs import take_over
from p2psync.vault.entry import seal_entry

RECORDS_ROOM = ENTRY_BODY_MAX - 96 * 1024
"""Bytes of records in one entry; the rest is for heads (100 devices: 8 KiB) and headers."""
_RECORD_HEADER = 5
_RECORD_FIELDS = 512
"""What a record takes beside paths, chunk list and vector."""
_VECTOR_ROW = 48
_CLAIMED_MODE = 0o755
_KEPT_MAX = 12
"""Conflict copies of one path published in one entry; each may carry 36 KiB of chunk list and 16 KiB of extended attributes."""


@dataclass(slots=True)
class Committed:
    versions: int = 0
    adopted: int = 0
    stale: int = 0
    """Changes dropped because the catalog moved meanwhile; their directories must be scanned again."""
    queued: bool = False
    """Whether content waits to go to a store now."""


def commit(context: Context, units: Sequence[Unit]) -> Committed:
    """Publish these changes. On return they are durable in this device's feed (stores get them later)."""
    result = Committed()
    with context.tree, context.catalog.transaction():
        if context.unsure:
            return result  # what was compared is looked at again once the past is here
        standing = Standing(context, [change.path for unit in units for change in unit])
        before = Predecessors(context, standing.wanted_ahead())
        writer = EntryWriter(context, {change.path for unit in units for change in unit}, before)
        fresh = _new_chunks(context, units)
        queued: list[tuple[ChunkId, int]] = []
        inline = sum(size for _, size in fresh.values()) <= INLINE_MAX and all(plain for plain, _ in fresh.values())
        for unit in units:
            if not all(still_holds(context, change, standing.placed(change.path)) for change in unit):
                result.stale += 1
                context.dirty |= {change.path[:-1] for change in unit}
                continue
            remaining = [
                (change, wanted)
                for change, wanted in ((change, standing.wanted(change.path)) for change in unit)
                if not adopt(context, change, wanted)
            ]
            result.adopted += len(unit) - len(remaining)
            if remaining:
                writer.begin_unit(sum(room_of(before, change, wanted, inline) for change, wanted in remaining))
            for change, wanted in remaining:
                chunks = _chunks_to_send(change, fresh)
                if not inline:
                    queued += [(chunk, size) for chunk, _, size in chunks]
                writer.add_version(
                    change, wanted, [(chunk, plain) for chunk, plain, _ in chunks if plain] if inline else []
                )
                result.versions += 1
                result.queued |= is_listed(change.rows)  # its list may be new although its content is not
        writer.flush()
        context.catalog.locations.queue_upload(queued)
        result.queued |= bool(queued)
    return result


def _losers_kept(before: Predecessors, change: LocalChange, wanted: Wanted | None) -> list[Version]:
    """Conflict copies that get names of their own because the path they hang on changes under the user's hands.

    Else the new version would compete with the losers again, and one of them could take the winner's name. A path where
    nothing is wanted has had no version yet.
    """
    return before.losers(change.path)[:_KEPT_MAX] if wanted is not None else []


def room_of(before: Predecessors, change: LocalChange, wanted: Wanted | None, inline: bool) -> int:
    """At most the bytes of the records a change makes: its own, conflict copies kept, and its content."""
    vector = len(change.base.vector) + 2 if change.base is not None else 1
    one = 2 * (sum(map(len, change.path)) + 4 * len(change.path)) + vector * _VECTOR_ROW + _RECORD_FIELDS
    rows = min(len(change.rows), CHUNK_LIST_INLINE * CHUNK_ROW)
    kept = 0
    for loser in _losers_kept(before, change, wanted):
        kept += len(loser.content.chunks) + _xattrs_room(loser.xattrs) + len(loser.vector) * _VECTOR_ROW + one
    return 2 * (one + rows + _xattrs_room(change.xattrs.agreed)) + kept + (len(change.inline or b"") if inline else 0)


def _xattrs_room(xattrs: Xattrs) -> int:
    return XATTRS_MAX if xattrs else 0


def still_holds(context: Context, change: LocalChange, held: Placed | None) -> bool:
    """Whether the path is not ignored, and the catalog still says of it (`held`) what the scanner compared with."""
    base = change.base
    kind = base.kind if change.kind is Kind.DELETED and base is not None else change.kind
    if context.shape.ignores(change.path, kind):
        return False
    if change.base is None:
        return held is None
    return held is not None and (held.dot, held.vector, held.fingerprint, held.xattrs) == (
        change.base.dot, change.base.vector, change.base.fingerprint, change.base.xattrs,
    )  # fmt: skip


def _new_chunks(context: Context, units: Sequence[Unit]) -> dict[ChunkId, tuple[Plaintext | None, int]]:
    """Chunks of these changes that nothing covers yet, with their bytes where the scanner kept them."""
    fresh: dict[ChunkId, tuple[Plaintext | None, int]] = {}
    for change in (change for unit in units for change in unit):
        rows = list(iterate_chunks(change.rows))
        for chunk, size in rows:
            fresh.setdefault(ChunkId(chunk), (change.inline if len(rows) == 1 else None, size))
    for known in context.catalog.locations.all_known(list(fresh)):
        del fresh[known]
    return fresh


def _chunks_to_send(
    change: LocalChange, fresh: dict[ChunkId, tuple[Plaintext | None, int]]
) -> list[tuple[ChunkId, Plaintext | None, int]]:
    found = []
    for chunk, _ in iterate_chunks(change.rows):
        held = fresh.pop(ChunkId(chunk), None)
        if held is not None:
            found.append((ChunkId(chunk), *held))
    return found


def adopt(context: Context, change: LocalChange, wanted: Wanted | None) -> bool:
    """If the folder already wants the content the disk shows, take the folder's version over without publishing.

    A file the folder never placed here also takes the folder's mode and time; where something was placed before, other
    mode or time is the user's change and is published.
    """
    versions = context.catalog.versions
    if wanted is None or wanted.kind is not change.kind:
        return False
    version = versions.wanted_version(wanted)
    if (change.kind is Kind.FILE and file_rows(context, version) != change.rows) or version.target != change.target:
        return False
    same_meta = version.mode == change.mode and (
        change.kind is not Kind.FILE or version.mtime_ns == change.fingerprint.mtime_ns
    )
    live = change.base is not None and change.base.live
    xattrs = take_over(context, change.xattrs, version, live=live)
    if xattrs is None or (not same_meta and live):
        return False
    # With an empty vector the path stays queued until mode and time are the folder's too.
    vector = wanted.vector if same_meta or change.kind is Kind.SYMLINK else {}
    if change.xattrs.known and xattrs.look is Look.UNSEEN:
        vector = wanted.vector  # it says more than the folder: that is published next, with all it is here
        context.dirty.add(change.path[:-1])
    context.catalog.placed.put(
        Placed(
            path=change.path, dot=wanted.dot, hash=version.hash, kind=change.kind, vector=vector,
            fingerprint=change.fingerprint, mode=change.mode, target=change.target, content=version.content, xattrs=xattrs,
        ),
        change.rows,
    )  # fmt: skip
    versions.check_need(change.path)
    return True


class EntryWriter:
    """Collects records and appends them to the own feed as few entries as fit. Use inside a transaction."""

    def __init__(self, context: Context, changing: Collection[Path] = (), before: Predecessors | None = None) -> None:
        """`changing` are the paths whose changes are about to be added."""
        self._context, self._changing = context, changing
        self.before = before or Predecessors(context)
        self._state = context.catalog.feeds.state(context.own_feed)
        self._records: list[bytes] = []
        self._size = 0
        self._versions: list[tuple[Version, bytes, LocalChange | None]] = []
        self._first: list[First] = []
        """Those of paths where neither the folder nor this disk had anything before."""

    @property
    def seq(self) -> int:
        """The number the next entry will have."""
        return self._state.seq + 1

    def begin_unit(self, size: int) -> None:
        """Make sure that what follows, about `size` bytes, goes into one entry."""
        if self._records and self._size + size > RECORDS_ROOM:
            self.flush()

    def add_record(self, data: bytes) -> int:
        """Add a record; returns its index in the entry. Records that must stand together need `begin_unit`."""
        self.begin_unit(len(data) + _RECORD_HEADER)
        return self._append(data)

    def _append(self, data: bytes) -> int:
        self._records.append(data)
        self._size += len(data) + _RECORD_HEADER
        return len(self._records) - 1

    def add_version(
        self, change: LocalChange, wanted: Wanted | None, inline: Sequence[tuple[ChunkId, Plaintext]]
    ) -> None:
        """Add the version a change makes; `wanted` is what was wanted at its path, None if nothing ever was."""
        context = self._context
        number = context.secrets.generation.number
        for chunk, plain in inline:
            index = self.add_record(encode_inline(InlineChunk(number, plain)))
            context.catalog.locations.add_inline(chunk, context.own_feed, self.seq, index)
        first = change.base is None and wanted is None and change.origin is None
        self._add(self._made(change, wanted), change, first=first)

    def add_restored(self, change: LocalChange, wanted: Wanted | None, content: Content, seen: Vector) -> None:
        """A version that this disk does not show yet: applying brings it here as it would another device's.

        `seen` is what the change knowingly overrules beside what was placed.
        """
        version = self._made(change, wanted)
        self._add(replace(version, content=content, vector=join_vectors([seen, version.vector])), None)

    def _made(self, change: LocalChange, wanted: Wanted | None) -> Version:
        """The version of a change, with the conflict copies it would cover published first."""
        context = self._context
        if wanted is None:  # nothing ever was, so there is nothing to cover
            return _version_of(context, change, None, Dot(context.own_feed, self.seq, len(self._records)), ())
        previous = self.before.own(change.path)
        if previous is not None and (change.base is None or not _covers(change.base.vector, previous)):
            self.keep_copy(previous)
        losers = [
            loser for loser in _losers_kept(self.before, change, wanted)
            if previous is None or loser.dot != previous.dot
        ]  # fmt: skip
        for loser in losers:
            self.keep_copy(loser)
        dot = Dot(context.own_feed, self.seq, len(self._records))
        covered = self.before.lost_with(change.path, losers)
        self.before.changed(change.path)
        return _version_of(context, change, wanted, dot, [*covered, previous] if previous is not None else covered)

    def add_decided(self, version: Version, seen: Sequence[Vector]) -> None:
        """A version that settles a conflict, with its dot and vector still to be set: it covers what `seen` says.

        The disk need not show it yet: applying brings it there as it would another device's.
        """
        context, covered = self._context, join_vectors(seen)
        previous = context.catalog.versions.of_feed(version.path, context.own_feed)
        if previous is not None:
            if not _covers(covered, previous):
                self.keep_copy(previous)
            covered = join_vectors([covered, previous.vector])
        dot = Dot(context.own_feed, self.seq, len(self._records))
        self._add(replace(version, dot=dot, vector={**covered, dot.feed: dot.seq}), None)

    def claim_directory(self, path: Path) -> None:
        """Say that a directory stands here, because something lives below: whatever competes becomes a conflict copy."""
        context = self._context
        previous = context.catalog.versions.of_feed(path, context.own_feed)
        if previous is not None:
            self.keep_copy(previous)
        dot = Dot(context.own_feed, self.seq, len(self._records))
        vector = {**(previous.vector if previous is not None else {}), dot.feed: dot.seq}
        self._add(Version(path=path, dot=dot, kind=Kind.DIRECTORY, vector=vector, mode=_CLAIMED_MODE), None)

    def keep_copy(self, previous: Version) -> None:
        """Publish the conflict copy of a losing version before the version that is about to be added covers it.

        For this device's own earlier version: one counter a feed cannot say "this one, but not my earlier one".
        """
        context = self._context
        path = context.catalog.versions.copy_path(previous) if previous.kind in (Kind.FILE, Kind.SYMLINK) else None
        if path is None or path in self._changing or path in [version.path for version in self._made_here()]:
            return
        dot = Dot(context.own_feed, self.seq, len(self._records))
        kept = replace(
            previous, path=path, dot=dot, vector={**previous.vector, dot.feed: dot.seq}, replaces=previous.hash,
            origin=Origin(previous.path, previous.dot),
        )  # fmt: skip
        self._add(kept, None)

    def _add(self, version: Version, change: LocalChange | None, *, first: bool = False) -> None:
        """The version's dot names this entry, so its record never moves on to the next: `begin_unit` made room."""
        data = encode_version(version)
        self._append(data)
        version = hashed(version, record_hash(data))
        if first and change is not None:
            self._first.append(First(version, data, change.fingerprint, change.rows, change.xattrs))
        else:
            self._versions.append((version, data, change))

    def flush(self, everything: bool = False, heartbeat: bool = False, completes: int = 0) -> FeedHead | None:
        """Seal and append what was collected; returns where the feed now ends (None: nothing was written).

        With `everything` the entry lists all heads, as an admission needs. `completes` is where the snapshot begins
        whose last part this is.
        """
        context = self._context
        if not self._records and not heartbeat:
            return None
        feeds = context.catalog.feeds
        heads = feeds.unannounced(context.own_feed, everything or self.seq % ALL_HEADS_EVERY == 0)
        body = Body(
            membership=context.membership.heads, time_ms=int(context.clock.now() * 1000), heads=heads,
            records=tuple(self._records), snapshot=completes or (context.catalog.snapshots.newest(context.own_feed) or (0, 0))[0],
        )  # fmt: skip
        entry = seal_entry(
            folder=context.folder, secret=context.secrets.writing, feed_key=context.keys.feed, seq=self.seq,
            previous=self._state.hash, body=encode_body(body), salt=context.randomness.bytes(32),
        )  # fmt: skip
        feeds.append(entry, IdentityKey(context.device.identity_key))
        feeds.note_seen(context.own_feed, {head.feed: head.seq for head in heads})
        feeds.mark_announced(heads)
        self._place(body.time_ms)
        self._state = feeds.state(context.own_feed)
        self._records, self._size = [], 0
        return FeedHead(context.own_feed, entry.seq, entry.hash)

    def _made_here(self) -> list[Version]:
        """The versions of the entry that is being collected."""
        return [*(first.version for first in self._first), *(version for version, _, _ in self._versions)]

    def _place(self, time_ms: int) -> None:
        catalog = self._context.catalog
        catalog.first_versions.begin(self._first)
        new: list[tuple[Placed, bytes | None]] = []
        changed: list[tuple[Placed, bytes | None]] = []
        for version, _, change in self._versions:
            if change is not None:
                (new if change.base is None else changed).append(_placed(version, change))
        catalog.placed.put_all(changed)
        catalog.placed.put_new(new)
        catalog.history.note([(version, time_ms) for version in self._made_here()])
        if self._versions:
            written = {placed.path: placed for placed, _ in (*new, *changed)}
            catalog.versions.refresh(catalog.versions.apply([(v, data) for v, data, _ in self._versions]), written)
        self._versions, self._first = [], []


def _placed(version: Version, change: LocalChange) -> tuple[Placed, bytes | None]:
    """The row of what a change published, and its chunk list."""
    placed = Placed(
        path=version.path, dot=version.dot, hash=version.hash, kind=version.kind, vector=version.vector,
        fingerprint=change.fingerprint, mode=change.mode, target=change.target, content=version.content,
        xattrs=change.xattrs,
    )  # fmt: skip
    return placed, change.rows


def _covers(vector: Vector, version: Version) -> bool:
    return vector.get(version.dot.feed, 0) >= version.dot.seq


def _version_of(
    context: Context, change: LocalChange, wanted: Wanted | None, dot: Dot, covered: Sequence[Version]
) -> Version:
    """The version a change makes. Its vector takes in those of `covered`: this device's previous version of the path
    (what that one covered must stay covered, in whatever order the three arrive) and losers kept under other names."""
    base, origin = change.base, change.origin
    came_from = Origin(origin.path, origin.dot) if origin is not None else None
    if came_from is None and wanted is not None and wanted.source is not None and base is not None:
        came_from = Origin(wanted.source, base.dot)  # a derived conflict copy is touched for the first time
    seen = [held.vector for held in covered] + ([base.vector] if base is not None else [])
    content = content_of(context, change.rows, change.parameters) if change.kind is Kind.FILE else NO_CONTENT
    return Version(
        path=change.path, dot=dot, kind=change.kind,
        vector={**join_vectors(seen), dot.feed: dot.seq},
        size=change.fingerprint.size if change.kind is Kind.FILE else 0,
        mtime_ns=change.fingerprint.mtime_ns if change.kind is not Kind.DIRECTORY else 0,
        mode=change.mode, target=change.target, content=content, xattrs=change.xattrs.agreed,
        replaces=RecordHash(base.hash) if base is not None else None, origin=came_from,
    )  # fmt: skip
