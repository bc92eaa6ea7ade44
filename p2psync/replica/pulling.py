"""Pulling: a feed is read from a store or another device up to where it ends there, and taken in page by page.

It begins at a snapshot where that spares reading, and passes over entries that the other side does not hold any more.
Which feeds are read and when is the exchanges'; what an entry means is `admission.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import FeedId
from p2psync.replica.admission import Admitted
from p2psync.replica.context import Context
from p2psync.replica.elsewhere import Elsewhere, first_to_read, seek_fork, snapshot_start
from p2psync.replica.forking import renewal_noticed

GATHER_SECONDS = 5.0
"""Of a feed that takes longer to read, what has come is told this often."""


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries of a feed as they came: the number of the first, and what takes them in (in a worker)."""

    first: int
    admit: Callable[[], Admitted]


class FeedsElsewhere(Elsewhere, Protocol):
    async def page_behind(self, feed: FeedId, seq: int) -> Page | None:
        """The next entries held there behind `seq`; None when there are none."""


async def pull_feed(context: Context, there: FeedsElsewhere, name: str, feed: FeedId, head: int) -> bool:
    """Read a feed up to its entry `head`, as `name` shows it; whether that brought anything."""
    moved, subject = False, f"feed {feed.hex()[:8]}"
    held = (await context.workers.run(context.catalog.feeds.state, feed)).seq
    seq = await first_to_read(context, there, feed, held, head)
    jumped = seq != held
    with _gathering(context) as announce:
        while seq < head:
            try:
                page = await there.page_behind(feed, seq)
                if page is None:
                    break
                if not jumped and page.first > seq + 1:  # what follows is gone there
                    jumped, seq = True, await snapshot_start(context, there, feed, seq, head)
                    continue
                with renewal_noticed(context):
                    result = await context.workers.run(page.admit)
            except (IntegrityError, PeerError) as error:
                if seq != held:  # no snapshot begins where the feed's last entry said
                    seq = held
                    continue
                if isinstance(error, IntegrityError) and await seek_fork(context, there, feed):
                    return True
                context.set_trouble(subject, f"{name}: {error}")
                break
            announce(result)
            moved |= bool(result.entries or result.forks) or result.membership
            if result.waiting or not result.entries:
                break
            context.trouble.pop(subject, None)
            seq = held = (await context.workers.run(context.catalog.feeds.state, feed)).seq
    return moved


@contextmanager
def _gathering(context: Context) -> Iterator[Callable[[Admitted], None]]:
    """Gives what is to be called with what each page brought. Whoever carries it out is told when no more comes: what the
    first entries of a feed ask for its last ones often replace, and it would be fetched and placed for nothing."""
    found, due = False, trio.current_time() + GATHER_SECONDS

    def announce(result: Admitted) -> None:
        nonlocal found, due
        found |= bool(result.entries or result.forks)
        if found and trio.current_time() >= due:
            found, due = False, trio.current_time() + GATHER_SECONDS
            context.wake_for_entries()

    try:
        yield announce
    finally:
        if found:
            context.wake_for_entries()
