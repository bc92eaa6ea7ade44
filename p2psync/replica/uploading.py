"""Uploading: queued chunks become packs, packs go to a store, and their locations are published after that.

The next pack is sealed while one travels, but bodies are sent one after the other: a kill loses at most what one pack
had under way. A pack is written down before it is sent, so after a restart the store is asked whether it arrived.
Chunks are read again from the files that hold them and re-hashed: what changed meanwhile is dropped, its successor is
queued by the scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from p2psync.errors import QuotaExceeded
from p2psync.ids import ChunkId, Plaintext
from p2psync.index.records import PackLocations, encode_pack
from p2psync.limits import MIB
from p2psync.replica.assembly import read_chunk
from p2psync.replica.context import Context
from p2psync.replica.publisher import EntryWriter
from p2psync.sealed.keys import pack_key
from p2psync.store.interface import BlindStore
from p2psync.vault.pack import PackWriter, SealedPack

PACK_TARGET = 6 * MIB
"""Closed from here on: between 4 and 16 MiB. Three of them are in memory: one travels, and one is joined from its frames."""
_QUOTA_RETRY_SECONDS = 30.0
_UNREADABLE_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Batch:
    """One turn of the sealer: a pack if anything could be read, and whether something could not."""

    pack: SealedPack | None
    skipped: bool


class Uploading:
    def __init__(self, context: Context, name: str, store: BlindStore) -> None:
        self._context, self._name, self._store = context, name, store

    async def run(self) -> None:
        """Upload until cancelled. One store at a time takes new content; the others get it by copying."""
        async with self._context.uploader:
            await self._reconcile()
            sender, receiver = trio.open_memory_channel[SealedPack](0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._seal_packs, sender)
                nursery.start_soon(self._send_packs, receiver)

    async def _reconcile(self) -> None:
        """Packs sealed before a restart: those that arrived are published, the others go back to the queue."""
        context = self._context
        packs = await context.workers.run(context.catalog.locations.packs, 1)
        missing = await self._store.missing([pack_key(pack.name) for pack in packs]) if packs else set()
        for pack in packs:
            if pack_key(pack.name) in missing:
                await context.workers.run(context.catalog.locations.abandon, pack.name)
            else:
                await context.workers.run(self._confirm, pack.name)
        if packs:
            context.feeds_grew.notify()

    async def _seal_packs(self, sender: trio.MemorySendChannel[SealedPack]) -> None:
        context = self._context
        while True:
            seen = context.uploads_grew.count
            batch = await context.workers.run(self._seal)
            if batch.pack is not None:
                pack, batch = batch.pack, Batch(None, False)
                await sender.send(pack)
                del pack  # not kept alive while the next one is sealed
                continue
            context.changed.notify()  # chunks of files that changed meanwhile have left the queue
            with trio.move_on_after(_UNREADABLE_RETRY_SECONDS if batch.skipped else float("inf")):
                await context.uploads_grew.wait(seen)

    async def _send_packs(self, receiver: trio.MemoryReceiveChannel[SealedPack]) -> None:
        context = self._context
        async for pack in receiver:
            while True:
                try:
                    await self._store.put([(pack_key(pack.name), pack.data)])
                    break
                except QuotaExceeded as error:
                    context.set_trouble(f"store {self._name}", f"{self._name} is full: {error}")
                    await trio.sleep(_QUOTA_RETRY_SECONDS)
            name = pack.name
            del pack
            context.set_trouble(f"store {self._name}", None)
            await context.workers.run(self._confirm, name)
            context.wake_for_entries()

    def _confirm(self, name: bytes) -> None:
        """The store holds the pack: publish where its chunks lie."""
        with self._context.tree, self._context.catalog.transaction():
            record = self._context.catalog.locations.confirm(name)  # type: ignore[arg-type]
            if record is not None:
                writer = EntryWriter(self._context)
                self._context.catalog.locations.tell(record.name, self._context.own_feed, writer.seq)
                writer.add_record(encode_pack(record))
                writer.flush()

    def _seal(self) -> Batch:
        """Fill one pack from the queue, write it down, and return it."""
        context = self._context
        writer = PackWriter(context.folder, context.secrets.writing, context.randomness.bytes(32))
        taken: list[int] = []
        gone: list[int] = []
        skipped, after, full = False, 0, False
        while not full:
            queued = context.catalog.locations.uploads(after)
            if not queued:
                break
            for number, chunk, size in queued:
                if writer.count and not writer.fits(size):
                    full = True
                    break
                after = number
                plain = self._read(chunk, size)
                if plain is not None:
                    writer.add(chunk, plain)
                    taken.append(number)
                elif context.catalog.placed.holders(chunk, 1):
                    skipped = True
                else:
                    gone.append(number)
                del plain  # not kept while the next is read
                if writer.size >= PACK_TARGET:
                    full = True
                    break
        pack = writer.finish() if writer.count else None
        with context.catalog.transaction():
            context.catalog.locations.drop_uploads(gone)
            if pack is not None:
                generation = context.secrets.generation.number
                record = PackLocations(pack.name, pack.epoch, pack.salt, len(pack.data), generation, pack.table)
                context.catalog.locations.seal(record, taken)
        return Batch(pack, skipped)

    def _read(self, chunk: ChunkId, size: int) -> Plaintext | None:
        context = self._context
        listed = context.catalog.locations.list_chunk(chunk)
        if listed is not None:
            return Plaintext(listed)
        for holder, offset in context.catalog.placed.holders(chunk):
            plain = read_chunk(context, holder, offset, size, chunk, context.secrets.generation)
            if plain is not None:
                return plain
        return None
