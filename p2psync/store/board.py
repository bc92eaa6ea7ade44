"""The board of a store: its revision and the head of every feed, with those who wait for the next change.

Level-triggered: a waiter that was slow sees the latest state once, never a queue of states. Lives on the event loop's
thread only. Does not know how a store finds its heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import trio

from p2psync.ids import FeedId
from p2psync.store.interface import Head, Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a write did: the new revision, and for every feed touched its head now (None: nothing of it is held)."""

    revision: int
    heads: Mapping[FeedId, Head | None]


class Board:
    def __init__(self, revision: int, heads: Mapping[FeedId, Head]) -> None:
        self._revision = revision
        self._heads = dict(heads)
        self._changed = trio.Event()

    @property
    def heads(self) -> dict[FeedId, Head]:
        """A copy, the caller's own."""
        return dict(self._heads)

    def post(self, change: Change) -> None:
        """Show a change and wake everyone who waits."""
        if change.revision == self._revision:
            return
        self._revision = change.revision
        for feed, head in change.heads.items():
            if head is None:
                self._heads.pop(feed, None)
            else:
                self._heads[feed] = head
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self, seen: int) -> Watched:
        """Wait until the revision differs from `seen`."""
        await trio.lowlevel.checkpoint()
        while self._revision == seen:
            await self._changed.wait()
        return Watched(self._revision, self.heads)
