"""What an exchange asks of the other side beyond following it: single entries, to look before it reads.

Three questions are answered with them. Is this device's own feed longer or different there, so that its home was
restored or copied? Where does a feed part that goes on differently there? And where does a feed's newest snapshot begin,
so that what it replaced need not be read? Heads are claims; the answers rest on entries whose signature holds. Source:
formats, "Incarnations", "Forks", "Snapshots".
"""

from __future__ import annotations

from typing import Protocol

from p2psync.errors import IntegrityError, NotFound, PeerError
from p2psync.ids import FeedId
from p2psync.replica.context import Context
from p2psync.replica.forking import renewal_noticed, saying_again, take_in
from p2psync.replica.incarnation import begin_incarnation
from p2psync.replica.rebuilding import all_or_nothing, rebuild
from p2psync.replica.statements import open_statements
from p2psync.sealed.entry import Entry
from p2psync.store.interface import Head

LOOK_FROM = 8
"""So many entries behind, a device that holds nothing of a feed asks whether a snapshot spares it reading them: two round
trips against what may be pages."""


class Elsewhere(Protocol):
    """A store or another device, as far as single entries go."""

    async def entry_behind(self, feed: FeedId, seq: int) -> Entry | None:
        """The first entry held there behind `seq`, its signature checked; None when there is none.

        Of several at one place, one that is not held here.
        """


async def first_to_read(context: Context, there: Elsewhere, feed: FeedId, seq: int, head: int) -> int:
    """Behind which entry to begin with a feed of which `seq` entries are here.

    A snapshot spares reading to who holds nothing of the feed. Who can read on does: what a snapshot left out is missing
    in histories and merges. A new incarnation reads everything: every version it knows of is one more that it may recognize
    on its disk.
    """
    return seq if seq or head < LOOK_FROM or context.unsure else await snapshot_start(context, there, feed, seq, head)


async def snapshot_start(context: Context, there: Elsewhere, feed: FeedId, seq: int, head: int) -> int:
    """Just before the newest snapshot that the last entry there names; `seq` when it names none behind that entry.

    Of a feed that forked, what counts is before the fork.
    """
    cut = await context.workers.run(context.catalog.forks.cut, feed)
    last = head if cut is None else min(head, cut - 1)
    try:
        entry = await there.entry_behind(feed, last - 1)
        if entry is None or entry.feed != feed or entry.seq > last:
            return seq
        opened = await context.workers.run(open_statements, context, entry)
        start = min(opened.body.snapshot, last) - 1
        if start <= seq or (seq and await _parted(context, there, feed, seq)):
            return seq
    except (IntegrityError, PeerError, NotFound):
        return seq  # what is wrong with it will be said when its turn comes
    return start


async def _parted(context: Context, there: Elsewhere, feed: FeedId, seq: int) -> bool:
    """Whether the other side holds another entry where the feed ends here: reading on from here will prove the fork, which
    a snapshot would pass over."""
    entry = await there.entry_behind(feed, seq - 1)
    return entry is not None and entry.seq == seq and not await context.workers.run(_holds, context, entry)


async def seek_fork(context: Context, there: Elsewhere, feed: FeedId) -> bool:
    """A feed does not go on there as it does here: find the place where it parted. True when that proved a fork."""
    entry = await there.entry_behind(feed, await _last_common(context, there, feed))
    if entry is None or entry.feed != feed:
        return False
    try:
        with renewal_noticed(context):
            result = await context.workers.run(take_in, context, [entry])
    except (IntegrityError, PeerError):
        return False
    return bool(result.forks)


async def notice_branches(context: Context, there: Elsewhere, heads: dict[FeedId, Head]) -> None:
    """Look at heads for what does not fit what is held here: of this device's own feed, or of another's."""
    await _notice_own_feed(context, there, heads)
    for feed in await context.workers.run(_other_branches, context, heads):
        await seek_fork(context, there, feed)


def _other_branches(context: Context, heads: dict[FeedId, Head]) -> list[FeedId]:
    """Feeds of others that show, at a place that is held here, another entry."""
    feeds, forks = context.catalog.feeds, context.catalog.forks
    return [
        feed
        for feed, head in heads.items()
        if feed != context.own_feed
        and feeds.hash_at(feed, head.seq) not in (None, head.hash)
        and forks.cut(feed) is None
    ]


async def _notice_own_feed(context: Context, there: Elsewhere, heads: dict[FeedId, Head]) -> None:
    """Begin a new incarnation if this device's own feed is longer or different there than here.

    What this device wrote since its lives parted was shown to nobody the other side knows; it leaves the catalog, and
    what it said of the disk is found there again.
    """
    own = context.own_feed
    head = heads.get(own)
    if head is None or await context.workers.run(_is_ours, context, own, head):
        return
    shown = await there.entry_behind(own, head.seq - 1)
    if shown is None or shown.feed != own or await context.workers.run(_holds, context, shown):
        return  # a claim without an entry
    parted = await _last_common(context, there, own)

    def begin() -> None:
        with all_or_nothing(context):
            if context.own_feed != own:
                return  # another exchange was faster
            void = rebuild(context, own, parted) if context.catalog.feeds.state(own).seq > parted else []
            with saying_again(context, void):
                begin_incarnation(context, own, shown.seq)

    with renewal_noticed(context):
        await context.workers.run(begin)


async def _last_common(context: Context, there: Elsewhere, feed: FeedId) -> int:
    """The last entry of a feed that this device and the other side both hold: both are chains, so it is bisected.

    What a snapshot replaced may be missing on either side; before the entries held here it is taken for common.
    """
    state = await context.workers.run(context.catalog.feeds.state, feed)
    unbroken = await context.workers.run(context.catalog.snapshots.unbroken_from, feed)
    low, high = max(0, unbroken - 1), state.seq
    while low < high:
        middle = (low + high + 1) // 2
        entry = await there.entry_behind(feed, middle - 1)
        if entry is not None and entry.seq <= high and await context.workers.run(_holds, context, entry):
            low = entry.seq
        else:
            high = middle - 1
    return low


def _is_ours(context: Context, own: FeedId, head: Head) -> bool:
    state = context.catalog.feeds.state(own)
    return head.seq <= state.seq and context.catalog.feeds.hash_at(own, head.seq) in (None, head.hash)


def _holds(context: Context, entry: Entry) -> bool:
    return context.catalog.feeds.entry(entry.feed, entry.seq) == entry.data
