"""What a folder answers to another device: heads, entries, and chunks sealed on the fly.

A chunk is looked for in the entries that carry it, among the chunks of chunk lists in the catalog, and in the placed
files that should hold it; a file is re-hashed while it is read, so one that changed since gives nothing, never wrong
bytes. Only sealed things leave this module. Who asks was proven on the link; whether it is a member is asked here.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import ChunkId, Ciphertext, FeedId, IdentityKey, Plaintext
from p2psync.limits import INLINE_MAX
from p2psync.replica.admission import Admitted
from p2psync.replica.assembly import read_chunk
from p2psync.replica.context import Context, Signal
from p2psync.replica.forking import renewal_noticed, take_in
from p2psync.replica.statements import held_records, inline_plain
from p2psync.sealed.entry import Entry, parse
from p2psync.store.interface import Head, Watched
from p2psync.vault.secrets import Generation
from p2psync.vault.stream import seal_stream
from p2psync.wire.peer_bodies import ENTRIES_BYTES_MAX, ENTRIES_MAX, WantedChunk

_STEP = 4
"""Entries read from the catalog at a time: at most 4 MiB beyond what is sent."""


class FolderAnswers:
    """The folder's side of a channel. `shown` is the revision of what is told: whoever raises it tells the peer."""

    def __init__(self, context: Context, shown: Signal) -> None:
        self._context, self._shown = context, shown

    def permits(self, peer: IdentityKey) -> bool:
        """A member may ask. A device whose own admission has not arrived knows no members yet: whoever has proven to
        hold the folder's secret may give it the entries it waits for."""
        membership = self._context.membership
        if membership.role_of(self._context.device.identity_key) is None:
            return True
        return membership.role_of(peer) is not None

    async def watch(self, seen: int) -> Watched:
        if self._shown.count == seen:
            await self._shown.wait(seen)
        revision = self._shown.count
        states = await self._context.workers.run(self._context.catalog.feeds.states)
        return Watched(revision, {state.feed: Head(state.seq, state.hash) for state in states if state.seq})

    async def entries(self, feed: FeedId, after: int) -> Sequence[Ciphertext]:
        return await self._context.workers.run(self._entries, feed, after)

    def _entries(self, feed: FeedId, after: int) -> list[Ciphertext]:
        found: list[Ciphertext] = []
        size = 0
        while len(found) < ENTRIES_MAX:
            page = self._context.catalog.feeds.entries_after(feed, after, _STEP)
            for seq, _, data in page:
                if found and (size + len(data) > ENTRIES_BYTES_MAX or len(found) == ENTRIES_MAX):
                    return found
                found.append(data)
                size += len(data)
                after = seq
            if len(page) < _STEP:
                break
        return found

    async def take_entries(self, entries: Sequence[Ciphertext]) -> None:
        context = self._context
        try:
            with renewal_noticed(context):
                result = await context.workers.run(admit_entries, context, entries)
        except (IntegrityError, PeerError) as error:
            context.set_trouble("entries of a peer", str(error))
            return
        announce(context, result)

    async def chunks(self, generation: int, wanted: Sequence[WantedChunk]) -> Sequence[Ciphertext]:
        return await self._context.workers.run(self._seal, generation, wanted)

    def _seal(self, number: int, wanted: Sequence[WantedChunk]) -> list[Ciphertext]:
        context = self._context
        generation = context.secrets.generations.get(number)

        def read(each: WantedChunk) -> Plaintext | None:
            if generation is None:
                return None
            holder = holders.get(each.chunk)
            plain = None if holder is None else read_chunk(context, *holder, each.length, each.chunk, generation)
            return find_chunk(context, each, generation) if plain is None else plain

        with context.turn_over(len(wanted), sum(each.length for each in wanted)):
            holders = context.catalog.placed.holders_of_all([each.chunk for each in wanted])
            return seal_stream(
                context.folder, context.secrets.writing, context.randomness.bytes(32), wanted, read
            )  # fmt: skip


def admit_entries(context: Context, entries: Sequence[Ciphertext], feed: FeedId | None = None) -> Admitted:
    """Parse and admit entries as they came from a device; with `feed`, only that feed's. Synchronous."""
    parsed: list[Entry] = []
    for data in entries:
        entry = parse(data)
        if feed is None:
            feed = entry.feed
        if entry.feed != feed:
            raise PeerError("entries of several feeds in one list")
        parsed.append(entry)
    return take_in(context, parsed)


def announce(context: Context, result: Admitted) -> None:
    """Wake whoever waits for what entries bring."""
    if result.entries or result.forks:
        context.wake_for_entries()


def find_chunk(context: Context, wanted: WantedChunk, generation: Generation) -> Plaintext | None:
    """The chunk as it is here now, verified; None when nothing here holds it any more."""
    for holder, offset in context.catalog.placed.holders(wanted.chunk):
        plain = read_chunk(context, holder, offset, wanted.length, wanted.chunk, generation)
        if plain is not None:
            return plain
    listed = context.catalog.locations.list_chunk(wanted.chunk)
    if listed is not None and len(listed) == wanted.length and generation.chunk_id(listed) == wanted.chunk:
        return Plaintext(listed)
    return _inline(context, wanted, generation) if wanted.length <= INLINE_MAX else None


def _inline(context: Context, wanted: WantedChunk, generation: Generation) -> Plaintext | None:
    place = context.catalog.locations.find_inline(wanted.chunk)
    data = None if place is None else context.catalog.feeds.entry(place[0], place[1])
    if place is None or data is None:
        return None
    plain = inline_plain(held_records(context, data), place[2])
    good = len(plain) == wanted.length and generation.chunk_id(plain) == ChunkId(wanted.chunk)
    return plain if good else None
