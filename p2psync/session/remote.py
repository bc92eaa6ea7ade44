"""A blind store behind a link: the store's verbs as requests on one channel of a relay.

Owns the splitting of calls into requests of bounded size and the reading of answers; garbage from the relay is a
PeerError. It holds no objects, retries nothing, and leaves out what a reader verifies anyway. A batch that fits one
request is all or nothing; a larger one is so piece by piece, in the order given.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Sequence

from p2psync.errors import PeerError
from p2psync.ids import Ciphertext, EntryHash, FeedId
from p2psync.limits import KEYS_PER_REQUEST, LIST_PAGE, PACK_MAX
from p2psync.sealed.keys import PACKS, ObjectKey, parse_key
from p2psync.session.asking import Asker
from p2psync.session.lanes import Lane
from p2psync.store.batch import check_keys, check_position
from p2psync.store.interface import BlindStore, Flag, Head, Listed, Usage, Watched
from p2psync.wire.bodies import (
    REPORT_MAX,
    TABLE_MAX,
    decode_heads,
    decode_keys,
    decode_listing,
    decode_usage,
    encode_keys,
    encode_table,
)
from p2psync.wire.messages import (
    KEY_BYTES_MAX,
    Answer,
    Delete,
    Done,
    Get,
    GetUsage,
    Heads,
    List,
    Missing,
    Put,
    Restore,
    Watch,
)

PUT_BYTES_MAX = 2 * PACK_MAX
"""Object bytes in one put request: the relay holds them in memory until they are durable."""
Object = tuple[ObjectKey, Ciphertext]
_OFFSET_MAX = 1 << 50


class RemoteStore(BlindStore):
    """One namespace at one relay, with the right its channel was opened with. Made by `RelayLink.login`."""

    def __init__(self, asker: Asker, channel: int) -> None:
        self._asker = asker
        self.channel = channel

    async def put(self, objects: Sequence[Object]) -> None:
        for batch in _batches(objects):
            await self._put_batch(batch)

    async def _put_batch(self, batch: Sequence[Object]) -> None:
        table = encode_table([(key, len(data)) for key, data in batch])
        size = len(table) + sum(len(data) for _, data in batch)
        bulk = any(key.startswith(PACKS) for key, _ in batch)
        await self._asker.ask(
            lambda request: Put(request=request, channel=self.channel, size=size, table=len(table), bulk=bulk),
            Done,
            body=[table, *(data for _, data in batch)],
            lane=Lane.BULK if bulk else Lane.URGENT,
        )

    async def get(self, key: ObjectKey, offset: int = 0, length: int | None = None) -> Ciphertext:
        parse_key(key)
        if not 0 <= offset <= _OFFSET_MAX or (length is not None and not 0 <= length <= _OFFSET_MAX):
            raise PeerError(f"range {offset}+{length} lies outside any object")
        _, data = await self._asker.ask(
            lambda request: Get(request=request, channel=self.channel, key=key, offset=offset, length=length),
            Answer,
            most=PACK_MAX if length is None else min(length, PACK_MAX),
        )
        if length is not None and len(data) != length:
            raise PeerError("the relay sent another range than was asked for")
        return Ciphertext(data)

    async def list(self, prefix: str, after: str = "", limit: int = LIST_PAGE) -> Sequence[Listed]:
        check_position(prefix, after)
        # Keys are shorter: nothing starts with a longer prefix, and a cut position still sorts after the same keys.
        rows: builtins.list[Listed] = []
        if len(prefix) > KEY_BYTES_MAX:
            limit = 0
            prefix = ""
        after = after[:KEY_BYTES_MAX]
        while True:
            page = await self._page(prefix, after, min(max(limit - len(rows), 0), LIST_PAGE))
            rows += page
            if len(rows) >= limit or len(page) < LIST_PAGE:
                return rows
            after = page[-1].key

    async def _page(self, prefix: str, after: str, limit: int) -> builtins.list[Listed]:
        _, data = await self._asker.ask(
            lambda request: List(request=request, channel=self.channel, prefix=prefix, after=after, limit=limit),
            Answer,
            most=LIST_PAGE * (KEY_BYTES_MAX + 16),
        )
        rows = [Listed(ObjectKey(key), size) for key, size in decode_listing(data)]
        before = after
        for row in rows:
            if not row.key.startswith(prefix) or row.key <= before:
                raise PeerError("the relay listed keys that were not asked for")
            before = row.key
        if len(rows) > limit:
            raise PeerError("the relay listed more keys than were asked for")
        return rows

    async def missing(self, keys: Iterable[ObjectKey]) -> set[ObjectKey]:
        absent: set[ObjectKey] = set()
        for some in _pages(check_keys(keys)):
            absent |= await self._missing_page(some)
        return absent

    async def _missing_page(self, keys: Sequence[ObjectKey]) -> set[ObjectKey]:
        body = encode_keys(keys)
        _, data = await self._asker.ask(
            lambda request: Missing(request=request, channel=self.channel, size=len(body)),
            Answer,
            body=[body],
            most=TABLE_MAX,
        )
        found = {ObjectKey(key) for key in decode_keys(data)}
        if not found <= set(keys):
            raise PeerError("the relay lacks keys that nobody asked for")
        return found

    async def heads(self) -> dict[FeedId, Head]:
        _, data = await self._asker.ask(
            lambda request: Heads(request=request, channel=self.channel), Answer, most=REPORT_MAX
        )
        return _read_heads(data)[1]

    async def watch(self, seen: int) -> Watched:
        _, data = await self._asker.ask(
            lambda request: Watch(request=request, channel=self.channel, seen=max(seen, -1)),
            Answer,
            most=REPORT_MAX,
            waits=True,
        )
        return Watched(*_read_heads(data))

    async def delete(self, keys: Iterable[ObjectKey]) -> None:
        for some in _pages(check_keys(keys)):
            await self._change(Delete, some)

    async def restore(self, keys: Iterable[ObjectKey]) -> None:
        for some in _pages(check_keys(keys)):
            await self._change(Restore, some)

    async def _change(self, kind: type[Delete] | type[Restore], keys: Sequence[ObjectKey]) -> None:
        body = encode_keys(keys)
        await self._asker.ask(
            lambda request: kind(request=request, channel=self.channel, size=len(body)), Done, body=[body]
        )

    async def usage(self) -> Usage:
        _, data = await self._asker.ask(
            lambda request: GetUsage(request=request, channel=self.channel), Answer, most=REPORT_MAX
        )
        objects, stored, quota, flagged = decode_usage(data)
        try:
            return Usage(objects, stored, quota, {ObjectKey(key): Flag(flag) for key, flag in flagged})
        except ValueError:
            raise PeerError("the relay reports a flag that is not known here") from None


def _read_heads(data: bytes) -> tuple[int, dict[FeedId, Head]]:
    revision, rows = decode_heads(data)
    return revision, {FeedId(feed): Head(seq, EntryHash(entry_hash)) for feed, seq, entry_hash in rows}


def _pages(keys: Sequence[ObjectKey]) -> Iterator[Sequence[ObjectKey]]:
    for start in range(0, max(len(keys), 1), KEYS_PER_REQUEST):
        yield keys[start : start + KEYS_PER_REQUEST]


def _batches(objects: Sequence[Object]) -> Iterator[Sequence[Object]]:
    """Cut a batch at KEYS_PER_REQUEST objects and PUT_BYTES_MAX bytes; PeerError for what no request can carry."""
    batch: list[Object] = []
    size = 0
    for key, data in objects:
        parse_key(key)
        if len(data) > PACK_MAX:
            raise PeerError(f"an object of {len(data)} bytes is larger than any pack")
        if len(batch) == KEYS_PER_REQUEST or size + len(data) > PUT_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append((key, data))
        size += len(data)
    yield batch
