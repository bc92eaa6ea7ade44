"""Merging texts: a conflict whose two sides changed different lines becomes one ordinary version that covers both.

Only the devices that wrote the two sides merge, so that a conflict brings at most two new versions; both make the same
one, and equal content is no conflict. Nothing is written here: the version is published with its content, and applying
brings it to the disk as it would another device's. What cannot be merged stays a conflict copy.
Synchronous; runs in a worker. Source: formats, "Text merges".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from p2psync.catalog.versions import Wanted
from p2psync.chunking.chunker import Parameters
from p2psync.ids import ChunkId, Plaintext
from p2psync.index.paths import Path
from p2psync.index.records import CHUNK_ROW, InlineChunk, encode_inline, iterate_chunks
from p2psync.index.text_merging import common_ancestor, may_merge, merge_text
from p2psync.index.versions import Content, Dot, Vector, Version
from p2psync.index.xattrs import merged as merged_xattrs
from p2psync.limits import CHUNK_LIST_INLINE, INLINE_MAX
from p2psync.replica import bases
from p2psync.replica.context import Context
from p2psync.replica.history import Records
from p2psync.replica.plans import as_placed
from p2psync.replica.publisher import EntryWriter
from p2psync.replica.reader import describe_whole

TEXT_MERGE = "text-merge"
"""Catalog value: b"off" when the user wants conflict copies only."""
_PATHS = 200
"""Conflicts looked at in one go."""
_PAST = 1000
"""Versions of a path among which the common ancestor is looked for."""
RECORD_ROOM = CHUNK_LIST_INLINE * CHUNK_ROW + 64 * 1024
"""Bytes of a version with its path and vector, at most, as far as anything sane goes."""


class Merging:
    def __init__(self, context: Context, may_apply: Callable[[Dot], bool]) -> None:
        """`may_apply` says whether a version may come to this disk now: what the brake holds is merged into nothing."""
        self._context, self._may_apply = context, may_apply
        self._settled: set[tuple[Dot, Dot]] = set()
        """Pairs that need no second look: others merge them, or nobody can."""

    def run(self) -> int:
        """Merge what can be merged now; returns how many versions were published."""
        context = self._context
        if context.catalog.get(TEXT_MERGE) == b"off" or not may_write(context):
            return 0
        return sum(self._merge_at(path) for path in context.catalog.conflicts.sources(_PATHS))

    def _merge_at(self, path: Path) -> bool:
        versions = self._context.catalog.versions
        with self._context.catalog.reading():
            wanted = versions.wanted(path)
            if wanted is None or wanted.source is not None:
                return False
            winner, losers = versions.wanted_version(wanted), versions.losers(path)
        for loser in losers:
            pair = (winner.dot, loser.dot)
            if pair in self._settled:
                continue
            if not may_merge(path, winner, loser) or not self._is_ours(winner, loser):
                self._settled.add(pair)
                continue
            may_apply = self._may_apply(winner.dot) and self._may_apply(loser.dot)
            merged = self._merge(winner, loser) if may_apply else None
            if merged is not None and self._publish(wanted, winner, loser, *merged):
                return True
        return False

    def _is_ours(self, *sides: Version) -> bool:
        own, feeds = self._context.device.identity_key, self._context.catalog.feeds
        return any(feeds.state(side.dot.feed).identity == own for side in sides)

    def _merge(self, winner: Version, loser: Version) -> tuple[Version, bytes] | None:
        """The ancestor and the merged text; None when there is none, or not all of it is here yet."""
        if not self._all_seen_is_here(winner) or not self._all_seen_is_here(loser):
            return None
        base = base_of(self._context, winner, loser)
        if base is None or not may_merge(base.path, base):
            self._settled.add((winner.dot, loser.dot))
            return None
        texts = [bases.content_of(self._context, version) for version in (base, winner, loser)]
        known = [text for text in texts if text is not None]
        if len(known) < len(texts):
            return None
        merged = merge_text(*known)
        if merged is None:
            self._settled.add((winner.dot, loser.dot))
            return None
        return base, merged

    def _all_seen_is_here(self, version: Version) -> bool:
        """Entries come in any order between feeds: a later common ancestor may still be on its way."""
        feeds = self._context.catalog.feeds
        return all(feeds.state(feed).seq >= seq for feed, seq in version.vector.items())

    def _publish(self, wanted: Wanted, winner: Version, loser: Version, base: Version, text: bytes) -> bool:
        """Publish the merged version, unless the folder or the disk moved on meanwhile."""
        context, path, versions = self._context, wanted.path, self._context.catalog.versions
        with context.tree, context.catalog.transaction():
            if versions.wanted(path) != wanted or versions.version(path, loser.dot) is None:
                return False
            if not may_settle(context, path):
                return False
            writer = EntryWriter(context)
            merged = replace(
                winner, mtime_ns=max(winner.mtime_ns, loser.mtime_ns), mode=_mode(base, winner, loser),
                xattrs=merged_xattrs(base.xattrs, winner.xattrs, loser.xattrs), replaces=winner.hash, origin=None,
            )  # fmt: skip
            add_merged(context, writer, merged, text, [wanted.vector, *vectors_of(versions.lost_with(path, [loser]))])
            writer.flush()
        return True


def add_merged(context: Context, writer: EntryWriter, version: Version, text: bytes, seen: Sequence[Vector]) -> None:
    """Add a version with this text as its content. The transaction is the caller's."""
    generation = context.secrets.generation
    parameters, rows = describe_whole(text, generation.chunk_key, generation.seed)
    writer.begin_unit(RECORD_ROOM)
    _keep_content(context, writer, text, rows)
    merged = replace(version, size=len(text), content=_content(generation.number, parameters, rows))
    writer.add_decided(merged, seen)
    bases.keep(context, merged, text)


def vectors_of(versions: Iterable[Version]) -> list[Vector]:
    return [version.vector for version in versions]


def base_of(context: Context, winner: Version, loser: Version) -> Version | None:
    """The last common version of the path, or the one file that both were renamed from."""
    records, path = Records(context), winner.path
    rows = context.catalog.history.of_path(path, _PAST)
    past = [version for row in rows if (version := records.version(path, row.dot)) is not None]
    found = common_ancestor(winner, loser, past)
    if found is None and winner.origin is not None and winner.origin == loser.origin:
        found = records.version(winner.origin.path, winner.origin.dot)
    return None if found is not None and _may_hide_later(context, found, winner, loser) else found


def _may_hide_later(context: Context, base: Version, winner: Version, loser: Version) -> bool:
    """Whether a later common version may have stood in entries that a snapshot replaced before this device read them."""
    for feed, seq in winner.vector.items():
        common, known = min(seq, loser.vector.get(feed, 0)), base.vector.get(feed, 0)
        if common > known and context.catalog.snapshots.unbroken_from(feed) > known + 1:
            return True
    return False


def may_settle(context: Context, path: Path) -> bool:
    """Whether a path and its conflict copies stand on the disk as placed, so that no edit of the user is overruled."""
    if context.unsure:
        return False
    for each in (path, *(copy.path for copy in context.catalog.conflicts.of(path))):
        placed, stat = context.catalog.placed.get(each), context.filesystem.stat(each)
        held = placed is not None and placed.live
        if held != (stat is not None) or (placed is not None and stat is not None and not as_placed(placed, stat)):
            context.dirty.add(each[:-1])
            return False
    return True


def may_write(context: Context) -> bool:
    """Whether this device both publishes changes and brings those of others to its disk: a merge is one of each."""
    return context.publishes and context.shape.type.writes


def _keep_content(context: Context, writer: EntryWriter, text: bytes, rows: bytes) -> None:
    """New chunks ride in the entry when they are few; else they are kept in the catalog until a store has them."""
    locations, place, fresh = context.catalog.locations, 0, dict[ChunkId, Plaintext]()
    for chunk, length in iterate_chunks(rows):
        if not locations.known(ChunkId(chunk)):
            fresh[ChunkId(chunk)] = Plaintext(text[place : place + length])
        place += length
    if sum(map(len, fresh.values())) > INLINE_MAX:
        locations.queue_upload((chunk, len(plain)) for chunk, plain in fresh.items())
        for chunk, plain in fresh.items():
            locations.add_list_chunk(chunk, plain)
        return
    for chunk, plain in fresh.items():
        index = writer.add_record(encode_inline(InlineChunk(context.secrets.generation.number, plain)))
        locations.add_inline(chunk, context.own_feed, writer.seq, index)


def _content(generation: int, parameters: Parameters, rows: bytes) -> Content:
    limits = (parameters.minimum, parameters.average, parameters.maximum)
    return Content(generation=generation, parameters=limits, depth=0, chunks=rows)


def _mode(base: Version, winner: Version, loser: Version) -> int:
    """That of the side that changed it; of two the winner's."""
    return loser.mode if winner.mode == base.mode else winner.mode
