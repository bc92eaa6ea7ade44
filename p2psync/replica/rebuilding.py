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
from p2psync.index.body import decode_body
from p2psync.index.records import RecordType, iterate_chunks, record_hash, record_type
from p2psync.index.versions import NO_CONTENT, Kind
from p2psync.replica.admission import admit
from p2psync.replica.context import Context
from p2psync.replica.scanner import placed_rows
from p2psync.sealed.entry import parse
from p2psync.vault.entry import open_entry

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
        _free_placed(context, feed, after)
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
    found: list[bytes] = []
    while page := context.catalog.feeds.entries_after(feed, after, _PAGE):
        for _, _, data in page:
            entry = parse(data)
            body = decode_body(open_entry(context.folder, context.secrets.epoch(entry.epoch), entry))
            found += [each for each in body.records if record_type(each) == RecordType.ADD]
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
    placed = context.catalog.placed
    for row in _all_placed(context):
        if row.vector.get(feed, 0) <= after and (row.dot.feed, row.dot.seq <= after) != (feed, False):
            continue
        if row.kind in (Kind.FILE, Kind.SYMLINK):
            vector = {**row.vector, feed: after}
            if not after:
                del vector[feed]
            # Nothing on the disk looks like this row: the scanner publishes what it finds, over what `vector` covers.
            placed.put(replace(row, vector=vector, fingerprint=NOTHING, content=NO_CONTENT, target=None), b"")
        else:
            placed.forget(row.path)  # a deletion that does not count, or a directory, which nothing competes with


def _check_needs(context: Context) -> None:
    """Queue what the disk lacks now, and for upload what the disk holds and nothing that counts tells where to find."""
    locations = context.catalog.locations
    for row in _all_placed(context):
        context.catalog.versions.check_need(row.path)
        if row.kind is Kind.FILE:
            rows = iterate_chunks(placed_rows(context, row) or b"")
            locations.queue_upload([(ChunkId(c), size) for c, size in rows if not locations.known(ChunkId(c))])


def _all_placed(context: Context) -> list[Placed]:
    found: list[Placed] = []
    while page := context.catalog.placed.page(found[-1].path if found else None):
        found += page
    return found
