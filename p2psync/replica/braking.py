"""Braking: holds what one device's changes would take away from this disk until a person has looked.

Before each batch of needs the changes known by then are judged (`planner/brake.py`), feed by feed; only what was judged is
applied. A held feed's changes, all of them, wait in the queue; those of other devices go on. It is durable in the catalog,
ends when nothing is to be taken any more (the changes were undone, or all of it has come under other names), or when they
are accepted. Synchronous.
"""

from __future__ import annotations

from p2psync.catalog.brake import Held
from p2psync.catalog.settings import load_settings
from p2psync.ids import FeedId
from p2psync.index.versions import Dot
from p2psync.planner.brake import WINDOW_SECONDS, BrakeLimits, least_that_trips, trips
from p2psync.replica.context import Context


class Braking:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._judged: dict[FeedId, int] = {}
        """Up to which entry of each feed its changes were judged in this process."""
        self._held: dict[FeedId, Held] = {}
        self._passed: dict[FeedId, int] = {}
        """Up to which entry a feed that takes things away was found to take few enough, or to be accepted."""

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def may_apply(self, dot: Dot) -> bool:
        """Whether a version may be brought to the disk now: it was judged, and its feed is not held."""
        if dot.feed == self._context.own_feed:
            return True
        held = self._held.get(dot.feed)
        return dot.seq <= self._judged.get(dot.feed, 0) and (held is None or dot.seq <= held.accepted)

    def judge(self) -> None:
        """Judge all that is known now."""
        context, brake = self._context, self._context.catalog.brake
        with context.catalog.reading():
            heads = {state.feed: state.seq for state in context.catalog.feeds.states()}
            takers = {feed: count for feed, count in brake.takers() if feed != context.own_feed}
            if not context.shape.type.writes:
                takers = {}  # nothing is taken from this disk
            held = brake.held()
            if takers or held:
                self._judge_takers(heads, takers, held)
                held = brake.held()
            self._held = {each.feed: each for each in held}
            self._judged = heads

    def _judge_takers(self, heads: dict[FeedId, int], takers: dict[FeedId, int], held: list[Held]) -> None:
        with self._context.catalog.transaction():
            for each in held:
                if each.feed not in takers:
                    self._context.catalog.brake.release(each.feed)
            for feed, count in takers.items():
                if heads.get(feed, 0) > self._passed.get(feed, 0):
                    self._judge_one(feed, count, heads.get(feed, 0))

    def _judge_one(self, feed: FeedId, count: int, head: int) -> None:
        context, brake = self._context, self._context.catalog.brake
        limits: BrakeLimits = load_settings(context.catalog).brake
        now_ms, accepted = int(context.clock.now() * 1000), brake.accepted(feed)
        held = {each.feed for each in brake.held()}
        window = WINDOW_SECONDS * 1000
        within = (feed, accepted, now_ms - window, now_ms + window)
        lately = context.catalog.kept.taken_by(*within)
        if feed in held or count >= least_that_trips(lately, limits):
            pending, again = self._pending(*within)
            standing = context.catalog.placed.count_files() + context.catalog.kept.gone_by(*within)
            trip = trips(pending=pending, lately=lately - again, standing=standing, limits=limits)
            if trip or (feed in held and pending):  # what is held stays so, even if part of it was taken back
                brake.hold(feed, pending, now_ms)
                return
            if feed in held:
                brake.release(feed)  # the other side of a rename has come: nothing is lost any more
        self._passed[feed] = head

    def _pending(self, feed: FeedId, accepted: int, since_ms: int, until_ms: int) -> tuple[int, int]:
        """Queued paths where this feed's versions would take content away that stands nowhere else here, and how many of
        them it took content from between these times already."""
        catalog, after, count, again = self._context.catalog, 0, 0, 0
        while page := catalog.brake.taken_paths(feed, accepted, after):
            after, count = page[-1][0], count + len(page)
            again += sum(catalog.kept.is_taken_by(path, feed, accepted, since_ms, until_ms) for _, path in page)
        return count, again

    def accept(self) -> list[Held]:
        """Let go what is held now, whatever it takes; what the same devices change later is judged anew."""
        context = self._context
        with context.catalog.transaction():
            held = context.catalog.brake.held()
            for each in held:
                context.catalog.brake.release(each.feed, context.catalog.feeds.state(each.feed).seq)
        self._passed.clear()
        return held
