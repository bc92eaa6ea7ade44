"""The exchange with one connected store: pull what it has, push what it lacks, upload content.

Three tasks over one link. Pulling follows the store's heads (level-triggered) and admits entries feed by feed; a feed
that must wait for membership is tried again when another one moved. Pushing hands on every entry this device holds and
the store lacks, whoever wrote it. Content uploads are `uploading.py`'s. Ends with LinkLost when the link does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from p2psync.errors import NotFound
from p2psync.ids import Ciphertext, FeedId
from p2psync.limits import SEQ_MAX
from p2psync.replica.admission import Admitted
from p2psync.replica.context import Context, Signal
from p2psync.replica.elsewhere import notice_branches
from p2psync.replica.forking import take_in
from p2psync.replica.pulling import Page, pull_feed
from p2psync.replica.uploading import Uploading
from p2psync.sealed.entry import Entry
from p2psync.sealed.keys import ObjectKey, after_seq, entry_prefix, seq_of
from p2psync.sealed.objects import check_object
from p2psync.store.interface import BlindStore, Head, Listed

_PAGE = 64
"""Entries asked for at once and admitted in one transaction; at most 64 MiB, usually 256 KiB."""
_PAGE_BYTES = 8 << 20
_SIBLINGS = 4
"""Entries of one place that are looked at: two prove a fork."""


class StoreExchange:
    def __init__(self, context: Context, name: str, store: BlindStore) -> None:
        self._context, self.name, self._store = context, name, store
        self._uploading = Uploading(context, name, store)
        self.held: dict[FeedId, int] = {}
        """How far the store holds each feed, as far as we know."""
        self.heard = False
        """Whether everything the store showed at its last word was taken in."""
        self.moved = Signal()

    async def run(self) -> None:
        context = self._context
        watched = await self._store.watch(-1)
        await self._note_heads(watched.heads)
        context.stores[self.name] = self._store
        context.work_arrived.notify()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pull, watched.revision, watched.heads)
                nursery.start_soon(self._push)
                nursery.start_soon(self._uploading.run)
        finally:
            if context.stores.get(self.name) is self._store:
                del context.stores[self.name]
            context.changed.notify()

    def has(self, heads: dict[FeedId, int]) -> bool:
        """Whether the store holds these feeds this far."""
        return all(self.held.get(feed, 0) >= seq for feed, seq in heads.items())

    async def _note_heads(self, heads: dict[FeedId, Head]) -> None:
        for feed, head in heads.items():
            self.held[feed] = max(head.seq, self.held.get(feed, 0))
        await notice_branches(self._context, self, heads)
        self.moved.notify()

    async def asked(self) -> bool:
        """Ask the store now: whether it shows nothing that is not here (feeds held back for a reason do not count)."""
        heads = await self._store.heads()
        await self._note_heads(heads)
        return await all_here(self._context, heads)

    # Pull.

    async def _pull(self, revision: int, heads: dict[FeedId, Head]) -> None:
        while True:
            self.heard = False
            await self._pull_all(heads)
            self.heard = True
            self._context.changed.notify()
            watched = await self._store.watch(revision)
            revision, heads = watched.revision, watched.heads
            await self._note_heads(heads)

    async def _pull_all(self, heads: dict[FeedId, Head]) -> None:
        """Until nothing moves any more: one feed's entries may be what another waits for."""
        moved = True
        while moved:
            moved = False
            for feed, head in sorted(heads.items()):
                moved |= await pull_feed(self._context, self, self.name, feed, head.seq)

    async def page_behind(self, feed: FeedId, seq: int) -> Page | None:
        """See `FeedsElsewhere`."""
        page = await self._store.list(entry_prefix(feed), after_seq(feed, seq), _PAGE)
        if not page:
            return None
        return Page(seq_of(page[0].key), partial(self._admit, await self._get_all(_bounded(page))))

    def _admit(self, objects: Sequence[tuple[ObjectKey, Ciphertext]]) -> Admitted:
        entries = []
        for key, data in objects:
            found = check_object(key, data)
            if isinstance(found, Entry):
                entries.append(found)
        return take_in(self._context, entries)

    async def entry_behind(self, feed: FeedId, seq: int) -> Entry | None:
        """See `Elsewhere`."""
        page = await self._store.list(entry_prefix(feed), after_seq(feed, seq), _SIBLINGS)
        objects = [check_object(key, data) for key, data in await self._get_all(page)]
        entries = [each for each in objects if isinstance(each, Entry)]
        if not entries:
            return None
        held = await self._context.workers.run(self._context.catalog.feeds.entry, feed, entries[0].seq)
        siblings = (each for each in entries if each.seq == entries[0].seq and each.data != held)
        return next(siblings, entries[0])

    async def _get_all(self, page: Sequence[Listed]) -> list[tuple[ObjectKey, Ciphertext]]:
        got: dict[ObjectKey, Ciphertext] = {}

        async def get(key: ObjectKey) -> None:
            try:
                got[key] = await self._store.get(key)
            except NotFound:
                return  # listed but gone: what follows will not chain, and is asked for again

        async with trio.open_nursery() as nursery:
            for listed in page:
                nursery.start_soon(get, listed.key)
        return [(listed.key, got[listed.key]) for listed in page if listed.key in got]

    # Push.

    async def _push(self) -> None:
        context = self._context
        await self._push_objects()
        while True:
            seen = context.feeds_grew.count
            if await self._push_once():
                self.moved.notify()
                context.changed.notify()
            else:
                await context.feeds_grew.wait(seen)

    async def _push_objects(self) -> None:
        objects = dict(await self._context.workers.run(self._context.catalog.feeds.objects))
        missing = await self._store.missing(objects)
        if missing:
            await self._store.put([(key, objects[key]) for key in sorted(missing)])

    async def _push_once(self) -> bool:
        context, pushed = self._context, False
        for state in await context.workers.run(context.catalog.feeds.states):
            held = self.held.get(state.feed, 0)
            if state.seq <= held:
                continue
            entries = await context.workers.run(context.catalog.feeds.entries_after, state.feed, held, _PAGE)
            batch: list[tuple[ObjectKey, Ciphertext]] = []
            size = 0
            for number, key, data in entries:
                if batch and size + len(data) > _PAGE_BYTES:
                    break
                batch.append((key, data))
                held, size = number, size + len(data)
            await self._store.put(batch)
            self.held[state.feed] = max(held, self.held.get(state.feed, 0))
            pushed = True
        return pushed


async def all_here(context: Context, heads: dict[FeedId, Head]) -> bool:
    """Whether heads show nothing that is not here (feeds held back for a reason do not count)."""
    states = await context.workers.run(context.catalog.feeds.states)
    known = {state.feed: (SEQ_MAX if state.held else state.seq) for state in states}
    return all(known.get(feed, 0) >= head.seq for feed, head in heads.items())


def _bounded(page: Sequence[Listed]) -> list[Listed]:
    """The first of these objects that together stay within a page's bytes; at least one."""
    chosen: list[Listed] = []
    size = 0
    for listed in page:
        if chosen and size + listed.size > _PAGE_BYTES:
            break
        chosen.append(listed)
        size += listed.size
    return chosen
