"""The exchange with one other device over a link: show heads, pull what it has, push what is written here.

Both devices run the same. Catching up is pulling: the other's heads (level-triggered) say what is missing, and entries
are asked for feed by feed. What this device writes while the other is up to date is pushed the moment it is committed,
which spares the round trip; heads are shown again after that, so that nothing is sent twice. Chunks are the fetcher's
(it finds the channel in `context.peers`). When the other device closes the folder, the channel is opened again once
it is back. When a better link serves the same device, this one asks nothing more but goes on answering until it ends,
so that nothing is sent twice; ends with LinkLost when the link does.
"""

from __future__ import annotations

from functools import partial

import trio

from p2psync.errors import NotFound
from p2psync.ids import FeedId
from p2psync.replica.context import Context, Signal
from p2psync.replica.elsewhere import notice_branches
from p2psync.replica.exchange import all_here
from p2psync.replica.pulling import Page, pull_feed
from p2psync.replica.serving import FolderAnswers, admit_entries
from p2psync.sealed.entry import Entry, parse
from p2psync.session.peer_channel import PeerChannel
from p2psync.session.peer_link import PeerLink
from p2psync.store.interface import Head, Watched
from p2psync.vault.channel import FolderProver

_PUSH_MOST = 8
"""Entries pushed at once: at most 8 MiB, what an entry list holds. More is pulled, at the other's pace."""


class PeerEntries:
    """Entries of the other device (see `FeedsElsewhere`)."""

    def __init__(self, context: Context, channel: PeerChannel) -> None:
        self._context, self._channel = context, channel

    async def entry_behind(self, feed: FeedId, seq: int) -> Entry | None:
        entries = await self._channel.entries(feed, seq)
        return parse(entries[0]) if entries else None

    async def page_behind(self, feed: FeedId, seq: int) -> Page | None:
        entries = await self._channel.entries(feed, seq)
        return Page(parse(entries[0]).seq, partial(admit_entries, self._context, entries, feed)) if entries else None


class PeerExchange:
    def __init__(self, context: Context, name: str, link: PeerLink) -> None:
        self._context, self.name, self._link = context, name, link
        self.held: dict[FeedId, int] = {}
        """How far the other device was given each feed; what it took in is what it shows."""
        self.heard = False
        """Whether everything it showed at its last word was taken in."""
        self._shown = Signal()
        self._news = Signal()
        self._theirs: dict[FeedId, Head] = {}
        self._pushed_from = (FeedId(b""), 0)
        self._channel: PeerChannel | None = None

    async def run(self) -> None:
        """Until LinkLost. A device that is not a member yet is waited for."""
        context = self._context
        answers = FolderAnswers(context, self._shown)
        prover = FolderProver(context.secrets)
        while not answers.permits(self._link.identity):
            await self._wait_for_membership()
        async with self._link.offer(prover, answers) as offer:
            replaced = False
            while not replaced:
                channel = await offer.open()
                try:
                    await self._exchange(channel)
                    replaced = True
                except* NotFound:
                    pass  # its folder was closed: it is opened again when it is back
            await self._link.closed()
        raise self._link.lost()

    async def _wait_for_membership(self) -> None:
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await self._link.closed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            await self._context.feeds_grew.wait(self._context.feeds_grew.count)
            nursery.cancel_scope.cancel()
        if self._link.error is not None:
            raise self._link.lost()

    @property
    def active(self) -> bool:
        """Whether the other device serves the folder now."""
        return self._channel is not None

    def has(self, heads: dict[FeedId, int]) -> bool:
        """Whether the other device holds these feeds this far."""
        return self.active and all(
            feed in self._theirs and self._theirs[feed].seq >= seq for feed, seq in heads.items()
        )

    async def asked(self) -> bool:
        """Ask the other device now: whether it shows nothing that is not here."""
        if self._channel is None:
            await trio.lowlevel.checkpoint()
            return False
        channel = self._channel
        watched = await channel.watch(-1)
        await self._note(channel, watched)
        return await all_here(self._context, watched.heads)

    async def _exchange(self, channel: PeerChannel) -> None:
        """Until another link serves the device instead, or an error."""
        context = self._context
        self.held.clear()
        self._theirs.clear()
        watched = await channel.watch(-1)
        await self._note(channel, watched)
        own = await context.workers.run(context.catalog.feeds.state, context.own_feed)
        self._pushed_from = (own.feed, own.seq)
        if self._link.retiring and self.name in context.peers:
            return  # the link that took this one's place was faster
        self._channel = channel
        self._serve(channel)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, channel, watched.revision)
                nursery.start_soon(self._pull, channel)
                nursery.start_soon(self._push, channel)
                nursery.start_soon(self._pass_on)
                await self._replaced(channel)
                nursery.cancel_scope.cancel()
        finally:
            self._channel, self.heard = None, False
            if context.peers.get(self.name) is channel:
                del context.peers[self.name]
            context.peers_moved.notify()
            context.changed.notify()

    def _serve(self, channel: PeerChannel) -> None:
        """From now on the fetcher asks this channel."""
        self._context.peers[self.name] = channel
        self._context.peers_moved.notify()
        self._context.work_arrived.notify()

    async def _replaced(self, channel: PeerChannel) -> None:
        """Until another link has taken this one's place and serves the folder.

        Links follow each other quickly, and what an older one had begun may come last: it passes, and this one goes on.
        """
        peers, moved = self._context.peers, self._context.peers_moved
        while True:
            seen, held = moved.count, peers.get(self.name)
            if held is None:
                self._serve(channel)
                seen = moved.count
            elif held is not channel and self._link.retiring:
                await trio.lowlevel.checkpoint()
                return
            await moved.wait(seen)

    async def _note(self, channel: PeerChannel, watched: Watched) -> None:
        moved = False
        for feed, head in watched.heads.items():
            self.held[feed] = max(head.seq, self.held.get(feed, 0))
            if feed not in self._theirs or self._theirs[feed].seq < head.seq:
                self._theirs[feed] = head
                moved = True
        await notice_branches(self._context, PeerEntries(self._context, channel), watched.heads)
        if moved:
            self._news.notify()
            self._context.changed.notify()

    async def _watch(self, channel: PeerChannel, revision: int) -> None:
        """Follow what the other device shows: new heads, or content it has placed since."""
        while True:
            watched = await channel.watch(revision)
            revision = watched.revision
            await self._note(channel, watched)
            self._context.work_arrived.notify()

    async def _pass_on(self) -> None:
        """What was placed here may be what the other device lacks: let it look again."""
        grew = self._context.content_grew
        while True:
            await grew.wait(grew.count)
            self._shown.notify()

    # Pull.

    async def _pull(self, channel: PeerChannel) -> None:
        context, entries = self._context, PeerEntries(self._context, channel)
        while True:
            news, grew = self._news.count, context.feeds_grew.count
            self.heard = False
            heads = dict(self._theirs)
            moved = True
            while moved:
                moved = False
                for feed, head in sorted(heads.items()):
                    moved |= await pull_feed(context, entries, self.name, feed, head.seq)
            self.heard = True
            context.changed.notify()
            if await self._behind(heads):
                await self._wait_either(news, grew)
            else:
                await self._news.wait(news)

    async def _behind(self, heads: dict[FeedId, Head]) -> bool:
        """Whether some feed must wait for another: then whatever moves it, from whomever, is reason to try again."""
        states = await self._context.workers.run(self._context.catalog.feeds.states)
        known = {state.feed: state.seq for state in states}
        return any(known.get(feed, 0) < head.seq for feed, head in heads.items())

    async def _wait_either(self, news: int, grew: int) -> None:
        async with trio.open_nursery() as nursery:

            async def wait(signal: Signal, seen: int) -> None:
                await signal.wait(seen)
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait, self._news, news)
            nursery.start_soon(wait, self._context.feeds_grew, grew)

    # Push.

    async def _push(self, channel: PeerChannel) -> None:
        context = self._context
        while True:
            seen = context.feeds_grew.count
            await self._push_own(channel)
            self._shown.notify()
            await context.feeds_grew.wait(seen)

    async def _push_own(self, channel: PeerChannel) -> None:
        """Hand over what was written here since the exchange began, if the other device has all that was before."""
        context, own = self._context, self._context.own_feed
        state = await context.workers.run(context.catalog.feeds.state, own)
        held = self.held.get(own, 0)
        feed, begun = self._pushed_from
        if not (begun if feed == own else 0) <= held < state.seq <= held + _PUSH_MOST:
            return
        entries = await context.workers.run(context.catalog.feeds.entries_after, own, held, _PUSH_MOST)
        await channel.put_entries([data for _, _, data in entries])
        self.held[own] = max(entries[-1][0], self.held.get(own, 0))
