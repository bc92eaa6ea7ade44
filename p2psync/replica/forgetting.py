"""Forgetting: when entries that a snapshot replaced, and deletions everybody has seen, may go.

Whatever goes has been seen by every member that is not lapsed: their own entries say how far they have read. Entries go no
earlier than this device's history does, since they tell of what was. Source: formats, "Snapshots".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from p2psync.catalog.settings import load_settings
from p2psync.ids import FeedId, IdentityKey
from p2psync.index.membership import Role
from p2psync.index.merge import CONFLICT_MARK
from p2psync.index.versions import Version
from p2psync.planner.retention import KeepRules
from p2psync.replica.attendance import silences
from p2psync.replica.context import Context
from p2psync.replica.needed_chunks import list_needed
from p2psync.sealed.keys import ObjectKey, after_seq, entry_prefix, seq_of
from p2psync.store.interface import BlindStore

_PAGE = 1000


def seen_by_all(context: Context, feed: FeedId) -> int:
    """Up to where every member that is not lapsed has said that it has read a feed; its author needs not say so.

    Blocking, like all that is not async here.
    """
    catalog, silent = context.catalog, silences(context)
    author = catalog.feeds.state(feed).identity
    read: dict[IdentityKey, int] = {
        member: 0
        for member in context.membership.members
        if member not in (author, context.device.identity_key) and not (member in silent and silent[member].lapsed)
    }
    for state in catalog.feeds.states():
        if state.identity in read:
            read[state.identity] = max(read[state.identity], catalog.feeds.seen(state.feed).get(feed, 0))
    return min(read.values(), default=catalog.feeds.state(feed).seq)


def replaced_entries(context: Context, least: int = 0) -> dict[FeedId, tuple[int, int]]:
    """(first, last) entry of the snapshots of which everything before may go, after as long as history is kept here and
    at least so many seconds."""
    seconds = load_settings(context.catalog).keep.seconds
    if not seconds:
        return {}
    found = context.catalog.snapshots.settled_for(max(seconds, least))
    return {feed: (first, last) for feed, (first, last) in found.items() if seen_by_all(context, feed) >= last}


def forget_entries(context: Context) -> int:
    """Delete from the catalog what snapshots replaced, as far as it may go; returns how many entries."""
    snapshots = context.catalog.snapshots
    with context.tree, context.catalog.transaction():
        replaced = [
            (feed, first)
            for feed, (first, _) in replaced_entries(context).items()
            if snapshots.holds_before(feed, first)
        ]
        forgotten = 0
        with _not_needed(context, replaced) as gone:
            for feed, first in gone:
                context.catalog.needed_chunks.forget_packs(feed, first)
                forgotten += snapshots.forget(feed, first)
        return forgotten


@contextmanager
def _not_needed(context: Context, replaced: list[tuple[FeedId, int]]) -> Iterator[list[tuple[FeedId, int]]]:
    """Those (feed, first entry of a snapshot) before which no entry carries content that is needed and nowhere else; what
    is needed stays listed meanwhile."""
    if not replaced:
        yield []
        return
    needed = context.catalog.needed_chunks
    yield [each for each in replaced if not needed.only_in_entries(*each)] if list_needed(context) else []
    needed.end()


async def forget_in_store(context: Context, store: BlindStore) -> int:
    """The same for a store that holds the whole snapshot, if this device is an admin; returns how many entries.

    Others restore from it what they do not hold: nobody shortens that for them below the year that is usual.
    """
    if context.membership.role_of(context.device.identity_key) is not Role.ADMIN:
        return 0
    replaced = []
    for feed, (first, last) in (await context.workers.run(replaced_entries, context, KeepRules().seconds)).items():
        if await _replaced_page(store, feed, first) and await _holds_all(store, feed, first, last):
            replaced.append((feed, first))
    forgotten = 0
    for feed, first in await context.workers.run(_not_needed_now, context, replaced):
        while keys := await _replaced_page(store, feed, first):
            await store.delete(keys)
            forgotten += len(keys)
    return forgotten


def _not_needed_now(context: Context, replaced: list[tuple[FeedId, int]]) -> list[tuple[FeedId, int]]:
    with context.tree, context.catalog.transaction(), _not_needed(context, replaced) as gone:
        return gone


async def _replaced_page(store: BlindStore, feed: FeedId, first: int) -> list[ObjectKey]:
    """Keys of some entries of a feed before this one that a store holds."""
    page = await store.list(entry_prefix(feed), "", _PAGE)
    return [listed.key for listed in page if seq_of(listed.key) < first]


async def _holds_all(store: BlindStore, feed: FeedId, first: int, last: int) -> bool:
    """Whether a store holds all these entries."""
    while first <= last:
        page = await store.list(entry_prefix(feed), after_seq(feed, first - 1), _PAGE)
        held = {seq_of(listed.key) for listed in page}
        if first not in held:
            return False
        while first in held:
            first += 1
    return True


@dataclass(frozen=True, slots=True)
class _Summed:
    first: int
    seen: int
    """How far its author had seen this device's feed."""


class Deletions:
    """Which of this device's deletions its next snapshot may leave out."""

    def __init__(self, context: Context) -> None:
        self._context, snapshots = context, context.catalog.snapshots
        self._seen = seen_by_all(context, context.own_feed)
        self._summed = {
            feed: _Summed(first, snapshots.seen(feed, first).get(context.own_feed, 0))
            for feed, (first, _) in snapshots.all_newest().items()
        }

    def may_go(self, version: Version) -> bool:
        """Whether nothing that this deletion covers can come back, from whatever snapshots a newcomer begins to read.

        Each author of what it covers has summed up its feed having seen it. The name of a conflict copy stays taken.
        """
        catalog, own = self._context.catalog, self._context.own_feed
        path, dot = version.path, version.dot
        if version.live or version.origin is not None or dot.seq > self._seen or CONFLICT_MARK in path[-1]:
            return False
        for feed, seq in version.vector.items():
            summed = self._summed.get(feed)
            if feed != own and (summed is None or summed.first <= seq or summed.seen < dot.seq):
                return False
        placed = catalog.placed.get(path)
        if (placed is not None and placed.live) or catalog.snapshots.reaches_beyond(path):
            return False
        return not any(each.live for each in catalog.versions.frontier(path))
