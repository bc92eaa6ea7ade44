"""Presence slots of one namespace at one relay: what members leave for each other to be found by.

Owns the requests and the reading of answers. Contents are opaque here and at the relay: whoever uses this seals and
signs them, and judges what others left. A slot may come back with several contents, one of each access key that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2psync.errors import PeerError
from p2psync.ids import Ciphertext
from p2psync.limits import SLOT_BYTES
from p2psync.session.asking import Asker
from p2psync.wire.bodies import SLOTS_MAX, decode_slots, encode_slot_ids
from p2psync.wire.messages import Answer, Done, GetSlots, PutSlot, WatchSlots


@dataclass(frozen=True, slots=True)
class Slot:
    """`id` is 16 bytes; `seconds` is how long the relay goes on keeping it."""

    id: bytes
    content: Ciphertext
    seconds: int


@dataclass(frozen=True, slots=True)
class PresentSlots:
    """All slots of the namespace at one revision."""

    revision: int
    slots: tuple[Slot, ...]


class Presence:
    """Made by `RelayLink.presence`; usable while its link lives. Any right of the login will do."""

    def __init__(self, asker: Asker, channel: int) -> None:
        self._asker, self._channel = asker, channel

    async def put_slot(self, slot: bytes, content: Ciphertext, seconds: int) -> None:
        """Leave `content` (≤ 4 KiB) in our `slot` for `seconds` (1…86400); empty content takes ours away.

        AccessRefused: this device holds too many slots. QuotaExceeded: the namespace or the relay does.
        """
        if len(content) > SLOT_BYTES:
            raise PeerError(f"a presence slot holds at most {SLOT_BYTES} bytes, not {len(content)}")
        await self._asker.ask(
            lambda request: PutSlot(
                request=request, channel=self._channel, slot=slot, seconds=seconds, size=len(content)
            ),
            Done,
            body=[content] if content else [],
        )

    async def get_slots(self, slots: Iterable[bytes]) -> tuple[Slot, ...]:
        """What stands in these slots now (at most 256 are asked for at once); an empty one is left out."""
        wanted = list(slots)
        body = encode_slot_ids(wanted)
        _, data = await self._asker.ask(
            lambda request: GetSlots(request=request, channel=self._channel, size=len(body)),
            Answer,
            body=[body],
            most=SLOTS_MAX,
        )
        _, found = _read(data)
        if not {slot.id for slot in found} <= set(wanted):
            raise PeerError("the relay tells of slots that were not asked for")
        return found

    async def watch_slots(self, seen: int) -> PresentSlots:
        """Wait until the revision is another than `seen` and return all slots. Begin with -1 on every new link.

        Level-triggered: what happened between two calls is seen in the second. A slot whose time runs out goes without
        a new revision.
        """
        _, data = await self._asker.ask(
            lambda request: WatchSlots(request=request, channel=self._channel, seen=max(seen, -1)),
            Answer,
            most=SLOTS_MAX,
            waits=True,
        )
        return PresentSlots(*_read(data))


def _read(data: bytes) -> tuple[int, tuple[Slot, ...]]:
    revision, rows = decode_slots(data)
    return revision, tuple(Slot(slot, Ciphertext(content), seconds) for slot, content, seconds in rows)
