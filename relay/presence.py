"""Presence slots: small sealed notes of a namespace's members, in memory only, gone when their time is over.

A slot is an opaque id with one content per access key, so that no member can overwrite what another says; whoever reads
gets all of them and judges. Nothing here is understood. Bounds: slots per namespace and bytes in all. Time is trio's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import trio

from p2psync.errors import AccessRefused, BugError, QuotaExceeded
from p2psync.ids import AccessKey, NamespaceId
from p2psync.limits import MIB, SLOT_BYTES, SLOTS_PER_NAMESPACE
from p2psync.session.budget import Budget
from p2psync.session.serving import RequestBody, Response, joined
from p2psync.wire.bodies import TABLE_MAX, decode_slot_ids, encode_slots
from p2psync.wire.login import Right
from p2psync.wire.messages import Answer, Done, GetSlots, PutSlot, WatchSlots
from relay.namespaces import Channel

SLOTS_PER_KEY = 8
TOTAL_BYTES = 64 * MIB
SLOT_OVERHEAD = 256
"""What a slot costs beside its content: nobody fills the memory with empty ones."""

SlotRequest = PutSlot | GetSlots | WatchSlots


@dataclass(frozen=True, slots=True)
class _Slot:
    content: bytes
    expires_at: float


@dataclass(eq=False, slots=True)
class _Board:
    """The slots of one namespace."""

    revision: int
    slots: dict[tuple[bytes, AccessKey], _Slot] = field(default_factory=dict)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)


class Presence:
    """All slots of a relay."""

    def __init__(self) -> None:
        self._boards: dict[NamespaceId, _Board] = {}
        self._bytes = 0
        self._revision = 0
        """One for all boards, so that a board that was dropped and made again never repeats one."""
        self._swept_at = -math.inf

    async def serve(self, request: SlotRequest, body: RequestBody, channel: Channel, budget: Budget) -> Response:
        """Carry out one request; any right will do."""
        with channel.use(Right.GET):
            match request:
                case PutSlot(slot=slot, seconds=seconds):
                    if body.size > SLOT_BYTES:
                        raise AccessRefused(f"a presence slot holds at most {SLOT_BYTES} bytes")
                    async with body.received(budget) as parts:
                        self.put(channel.namespace, channel.key, slot, joined(parts), seconds)
                    return Done(request=request.request)
                case GetSlots():
                    if not 0 < body.size <= TABLE_MAX:
                        raise AccessRefused("a list of slots of this size is not served")
                    async with body.received(budget) as parts:
                        wanted = set(decode_slot_ids(joined(parts)))
                    rows = self.present(channel.namespace, wanted)
                    return _answer(request.request, 0, rows)
                case WatchSlots(seen=seen):
                    return _answer(request.request, *await self.watch(channel.namespace, seen))
        raise BugError("a channel's use was cancelled without a reason")

    def put(self, namespace: NamespaceId, key: AccessKey, slot: bytes, content: bytes, seconds: int) -> None:
        """Keep what `key` says in `slot` for `seconds`; empty content takes it away. The same again only lasts longer."""
        self._sweep()
        board = self._boards.setdefault(namespace, _Board(self._revision))
        held = board.slots.get((slot, key))
        if content:
            self._check_room(board, key, held, len(content))
            board.slots[slot, key] = _Slot(content, trio.current_time() + seconds)
            self._bytes += len(content) + SLOT_OVERHEAD
        elif held is not None:
            del board.slots[slot, key]
        if held is not None:
            self._bytes -= len(held.content) + SLOT_OVERHEAD
        if content != (held.content if held else b""):
            self._tell(board)

    def forget(self, namespace: NamespaceId, key: AccessKey) -> None:
        """`key` lost its access: what it said goes."""
        board = self._boards.get(namespace)
        for slot, owner in list(board.slots) if board else ():
            if owner == key:
                self.put(namespace, key, slot, b"", 0)

    def present(self, namespace: NamespaceId, wanted: set[bytes] | None = None) -> list[tuple[bytes, bytes, int]]:
        """(id, content, seconds left) of what is there now: all, or what stands in `wanted`."""
        self._sweep()
        board, now = self._boards.get(namespace), trio.current_time()
        return [
            (slot, held.content, math.ceil(held.expires_at - now))
            for (slot, _), held in (board.slots.items() if board else ())
            if held.expires_at > now and (wanted is None or slot in wanted)
        ]

    async def watch(self, namespace: NamespaceId, seen: int) -> tuple[int, list[tuple[bytes, bytes, int]]]:
        """Wait until the namespace's revision is another than `seen`; the whole present state, never a queue.

        Slots whose time is over go without a change of revision: whoever knows them knows when.
        """
        board = self._boards.setdefault(namespace, _Board(self._revision))
        await trio.lowlevel.checkpoint()
        while board.revision == seen:
            await board.changed.park()
        return board.revision, self.present(namespace)

    def __len__(self) -> int:
        self._sweep()
        return sum(len(board.slots) for board in self._boards.values())

    def _check_room(self, board: _Board, key: AccessKey, held: _Slot | None, size: int) -> None:
        if held is None:
            if sum(owner == key for _, owner in board.slots) >= SLOTS_PER_KEY:
                raise AccessRefused(f"a device holds at most {SLOTS_PER_KEY} presence slots")
            if len(board.slots) >= SLOTS_PER_NAMESPACE:
                raise QuotaExceeded(f"a folder has at most {SLOTS_PER_NAMESPACE} presence slots at a relay")
        freed = 0 if held is None else len(held.content) + SLOT_OVERHEAD
        if self._bytes - freed + size + SLOT_OVERHEAD > TOTAL_BYTES:
            raise QuotaExceeded("this relay has no room for presence now; try again in a few minutes")

    def _tell(self, board: _Board) -> None:
        self._revision += 1
        board.revision = self._revision
        board.changed.unpark_all()

    def _sweep(self) -> None:
        """Drop what has expired, and boards that nobody needs: at most once a second, since it looks at all of them."""
        now = trio.current_time()
        if now < self._swept_at + 1:
            return
        self._swept_at = now
        for namespace, board in list(self._boards.items()):
            for name, held in list(board.slots.items()):
                if held.expires_at <= now:
                    self._bytes -= len(held.content) + SLOT_OVERHEAD
                    del board.slots[name]
            if not board.slots and not board.changed:
                del self._boards[namespace]


def _answer(number: int, revision: int, rows: list[tuple[bytes, bytes, int]]) -> Response:
    data = encode_slots(revision, rows)
    return Answer(request=number, size=len(data), bulk=False), data
