"""Rebuilding: all that follows from entries worked out anew from those held, without some that do not count any more.

Needed when entries that were taken in turn out to be void (a fork, a branch this device wrote in a past life): what
they covered comes back. The disk is not touched. A file placed by a void version stays where it is and becomes this
device's own change over what that version replaced, so that its content is published again. Blocking; inside
`all_or_nothing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from p2psync.catalog.rows import NOTHING, Placed
from p2psync.ids import ChunkId, FeedId
from p2psync.index.records import RecordType, iterate_chunks, record_hash
from p2psync.index.versions import NO_CONTENT, Kind, Vector
from p2psync.replica.admission import admit
from p2psync.replica.context import Context
from p2psync.replica.scanner import placed_rows
from p2psync.replica.statements import held_statements
from p2psync.sealed.entry import parse

_PAGE = 64
"""Entries admitted at once."""


@contextmanager
def all_or_nothing(context: Context) -> Iterator[None]:
    """One transaction; if it fails, what the context knows beside the catalog goes back as well."""
    keys, unsure = context.keys, context.unsure
    with context.tree:
        try:
            with context.catalog.transaction():
                yield
        except BaseException:
            context.keys, context.unsure, context.membership = keys, unsure, context.catalog.membership()
            raise


def rebuild(context: Context, feed: FeedId, after: int) -> list[bytes]:
    """Work everything out from the entries held, without those of `feed` behind `after`.

    Returns the `add` records among what goes: they count here still, but nobody can learn of them from that feed any more.
    """
    catalog = context.catalog
    with catalog.transaction():
        void = _admissions_behind(context, feed, after)
        _free_placed(context, feed, catalog.snapshots.known_up_to(feed, after))
        catalog.forks.begin_replay(feed, after)
        feeds = catalog.forks.replay_feeds()
        moved = True
        while moved:
            moved = False
            for each in feeds:
                moved |= _replay(context, each)
        catalog.forks.end_replay(context.own_feed)
        _check_needs(context)
        context.dirty.add(())
        context.rebuilds += 1
        return void


def _admissions_behind(context: Context, feed: FeedId, after: int) -> list[bytes]:
    found, void_from = list[bytes](), after
    while page := context.catalog.feeds.entries_after(feed, after, _PAGE):
        for _, _, data in page:
            said = held_statements(context, data).statements  # what a snapshot restates may count where it stood first
            found += [s.data for s in said if s.number == RecordType.ADD and s.dot.seq > void_from]
        after = page[-1][0]
    return [each for each in found if record_hash(each) in context.membership.known]


def _replay(context: Context, feed: FeedId) -> bool:
    moved = False
    while True:
        state = context.catalog.feeds.state(feed)
        page = context.catalog.forks.replay_after(feed, state.seq, _PAGE)
        if not page:
            return moved
        result = admit(context, [parse(data) for data in page], replayed=True)
        moved |= bool(result.entries) or result.membership
        if not result.entries:
            return moved


def _free_placed(context: Context, feed: FeedId, after: int) -> None:
    for row in _all_placed(context):
        if row.vector.get(feed, 0) <= after and (row.dot.feed, row.dot.seq <= after) != (feed, False):
            continue
        vector = {**row.vector, feed: after}
        if not after:
            del vector[feed]
        _free(context, row, vector)


def _free(context: Context, row: Placed, vector: Vector) -> None:
    """Let the scanner publish what it finds at this path, over what `vector` covers."""
    placed = context.catalog.placed
    if row.kind in (Kind.FILE, Kind.SYMLINK):
        # Nothing on the disk looks like this row.
        placed.put(replace(row, vector=vector, fingerprint=NOTHING, content=NO_CONTENT, target=None), b"")
    else:
        placed.forget(row.path)  # a deletion that does not count, or a directory, which nothing competes with


def _check_needs(context: Context) -> None:
    """Queue what the disk lacks now, and for upload what the disk holds and nothing that counts tells where to find.

    What stands here by a version that only a snapshot told of, which is void now, was replaced by nobody: it is
    published again.
    """
    locations = context.catalog.locations
    for row in _all_placed(context):
        if row.live and _is_unheard_of(context, row):
            _free(context, row, row.vector)
        context.catalog.versions.check_need(row.path)
        if row.kind is Kind.FILE:
            rows = iterate_chunks(placed_rows(context, row) or b"")
            locations.queue_upload([(ChunkId(c), size) for c, size in rows if not locations.known(ChunkId(c))])


def _is_unheard_of(context: Context, row: Placed) -> bool:
    """Whether no entry held tells of what stands here, or of anything that replaced it."""
    catalog, dot = context.catalog, row.dot
    if catalog.feeds.entry(dot.feed, dot.seq) is not None or catalog.snapshots.restated_at(dot) is not None:
        return False
    return not any(each.vector.get(dot.feed, 0) >= dot.seq for each in catalog.versions.frontier(row.path))


def _all_placed(context: Context) -> list[Placed]:
    found: list[Placed] = []
    while page := context.catalog.placed.page(found[-1].path if found else None):
        found += page
    return found
