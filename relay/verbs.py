"""The blind store's verbs, served on a channel: rights, memory budget, bodies in and out.

It moves bytes between link and store and reads none: objects are checked by the store, as anyone can check them.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2psync.errors import BugError, NotFound, PeerError
from p2psync.ids import Ciphertext
from p2psync.limits import MIB
from p2psync.sealed.keys import PACKS, ObjectKey, parse_key
from p2psync.session.budget import Budget
from p2psync.session.outbox import Slices
from p2psync.session.remote import PUT_BYTES_MAX
from p2psync.session.serving import PIECE_BYTES, RequestBody, Response, Stream, joined
from p2psync.store.batch import check_range
from p2psync.store.interface import BlindStore, Watched
from p2psync.wire.bodies import (
    TABLE_MAX,
    decode_keys,
    decode_table,
    encode_heads,
    encode_keys,
    encode_listing,
    encode_usage,
)
from p2psync.wire.frames import Buffer
from p2psync.wire.login import Right
from p2psync.wire.messages import (
    Answer,
    Delete,
    Done,
    Get,
    GetUsage,
    Heads,
    List,
    Missing,
    Put,
    Request,
    Restore,
    Watch,
)
from relay.namespaces import Channel

ChannelRequest = Put | Get | List | Missing | Heads | Watch | Delete | Restore | GetUsage


class Memory:
    """What all connections together may hold: packs and entries apart, so that packs never delay an entry."""

    def __init__(self) -> None:
        self.bulk_in = Budget(128 * MIB)  # eight pack bodies being assembled
        self.urgent_in = Budget(16 * MIB)
        self.out = Budget(32 * MIB)

    def incoming(self, request: Put) -> Budget:
        return self.bulk_in if request.bulk else self.urgent_in


class Verbs:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def serve(self, request: Request, body: RequestBody, channel: Channel) -> Response:
        """Carry out one request with the rights of its channel."""
        with channel.use(_needed(request)):
            return await self._serve(request, body, channel.store)
        raise BugError("a channel's use was cancelled without a reason")

    async def _serve(self, request: Request, body: RequestBody, store: BlindStore) -> Response:
        number = request.request
        match request:
            case Put():
                return await self._put(request, body, store)
            case Get():
                return await self._get(request, store)
            case List(prefix=prefix, after=after, limit=limit):
                rows = await store.list(prefix, after, limit)
                return _report(number, encode_listing((row.key, row.size) for row in rows))
            case Missing():
                absent = await store.missing(await self._keys(body))
                return _report(number, encode_keys(sorted(absent)))
            case Heads():
                return _report(number, _heads(Watched(0, await store.heads())))
            case Watch(seen=seen):
                return _report(number, _heads(await store.watch(seen)))
            case Delete():
                await store.delete(await self._keys(body))
            case Restore():
                await store.restore(await self._keys(body))
            case GetUsage():
                usage = await store.usage()
                flags = ((key, flag.value) for key, flag in usage.flagged.items())
                return _report(number, encode_usage(usage.objects, usage.stored_bytes, usage.quota, flags))
        return Done(request=number)

    async def _put(self, request: Put, body: RequestBody, store: BlindStore) -> Response:
        if not 0 < request.table <= min(request.size, TABLE_MAX) or request.size - request.table > PUT_BYTES_MAX:
            raise PeerError("a put of this size is not served")
        async with body.received(self._memory.incoming(request)) as parts:
            slices = Slices(parts)
            parts.clear()
            table = decode_table(b"".join(slices.take(request.table)))
            await store.put(_objects(slices, table))
        return Done(request=request.request)

    async def _get(self, request: Get, store: BlindStore) -> Response:
        key, bulk = ObjectKey(request.key), request.key.startswith(PACKS)
        if request.length is not None and request.length <= PIECE_BYTES:
            async with self._memory.out.hold(request.length):
                data = await store.get(key, request.offset, request.length)
            return Answer(request=request.request, size=len(data), bulk=bulk), data
        parse_key(key)
        held = [row for row in await store.list(key, "", 1) if row.key == key]
        if not held:
            raise NotFound("this object is not held here")
        size = check_range(held[0].size, request.offset, request.length)

        async def read(start: int, count: int) -> Buffer:
            return await store.get(key, request.offset + start, count)

        return Answer(request=request.request, size=size, bulk=bulk), Stream(size, read, self._memory.out)

    async def _keys(self, body: RequestBody) -> list[ObjectKey]:
        if not 0 < body.size <= TABLE_MAX:
            raise PeerError("a key list of this size is not served")
        async with body.received(self._memory.urgent_in) as parts:
            return [ObjectKey(key) for key in decode_keys(joined(parts))]


def _objects(slices: Slices, table: Sequence[tuple[str, int]]) -> list[tuple[ObjectKey, Ciphertext]]:
    if sum(size for _, size in table) != slices.left:
        raise PeerError("a put's sizes do not add up to its body")
    return [(ObjectKey(key), Ciphertext(b"".join(slices.take(size)))) for key, size in table]


def _needed(request: Request) -> Right:
    if isinstance(request, (Delete, Restore)):
        return Right.OWN
    return Right.PUT if isinstance(request, Put) else Right.GET


def _heads(watched: Watched) -> bytes:
    return encode_heads(watched.revision, ((feed, head.seq, head.hash) for feed, head in watched.heads.items()))


def _report(number: int, data: bytes) -> Response:
    return Answer(request=number, size=len(data), bulk=False), data
