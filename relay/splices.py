"""Splices: two connections whose bytes go to each other, once both named the same meeting point.

Owns who waits for whom, the passing on, and the bounds: splices in all and per namespace, time to wait, silence. The
bytes are the two devices' own TLS; a slow reader slows its writer, and nothing piles up here. Each connection's task
carries its own direction. How one got as far as asking for a splice is `splicing`'s concern.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from p2psync.errors import AccessRefused, LinkLost, PeerError
from p2psync.ids import AccessKey, NamespaceId
from p2psync.limits import SPLICE_WAIT_SECONDS
from p2psync.net.tls_stream import READ_BYTES
from p2psync.wire.messages import SpliceSide

SPLICES_MAX = 1_000
"""Ends in all, waiting or spliced."""
SPLICES_PER_NAMESPACE = 64
SILENCE_SECONDS = 600
"""Devices ask each other for a sign of life far more often."""
LINGER_SECONDS = 5
"""When one device has left, what it sent last may still be on its way to the other."""

log = logging.getLogger(__name__)

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True, slots=True)
class MeetingPoint:
    namespace: NamespaceId
    rendezvous: bytes
    side: SpliceSide

    @property
    def opposite(self) -> MeetingPoint:
        other = SpliceSide.ANSWERS if self.side is SpliceSide.DIALS else SpliceSide.DIALS
        return MeetingPoint(self.namespace, self.rendezvous, other)


@dataclass(eq=False, slots=True)
class End:
    """One device's connection: the stream its bytes come in, and the transport below that, to hang up on."""

    point: MeetingPoint
    key: AccessKey
    stream: trio.abc.Stream
    transport: trio.abc.Stream
    partner: End | None = None
    met: trio.Event = field(default_factory=trio.Event)
    ready: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Splices:
    """All splices of a relay; `carried` counts bytes per namespace since the start, both directions."""

    def __init__(self) -> None:
        self.carried: Counter[NamespaceId] = Counter()
        self._waiting: dict[MeetingPoint, End] = {}
        self._ends: set[End] = set()

    async def join(self, end: End, welcome: Callable[[], Awaitable[None]]) -> None:
        """Wait for the other device, `welcome` this one, and carry its bytes until either leaves.

        LinkLost when nobody comes. AccessRefused when there is no room. Who names the same point and side again takes
        the place of the one who waits there: it is the same device, whose first connection broke.
        """
        self._check_room(end)
        self._ends.add(end)
        left = False
        try:
            with end.scope:
                await self._meet(end)
                assert end.partner is not None
                await welcome()
                end.ready.set()
                await end.partner.ready.wait()
                await self._carry(end, end.partner)
                left = True
        finally:
            self._ends.discard(end)
            if end.partner is not None:
                # It may still be reading what came last; what was broken off is over at once.
                linger = LINGER_SECONDS if left else 0
                end.partner.scope.deadline = min(end.partner.scope.deadline, trio.current_time() + linger)

    def revoke(self, namespace: NamespaceId, key: AccessKey) -> None:
        """`key` lost its access: its splices end."""
        for end in self._ends:
            if end.point.namespace == namespace and end.key == key:
                end.scope.cancel()

    def __len__(self) -> int:
        return len(self._ends)

    def _check_room(self, end: End) -> None:
        point = end.point
        if len(self._ends) >= SPLICES_MAX:
            raise AccessRefused("this relay carries as many direct streams as it can; use the store meanwhile")
        if sum(other.point.namespace == point.namespace for other in self._ends) >= SPLICES_PER_NAMESPACE:
            raise AccessRefused(f"a folder has at most {SPLICES_PER_NAMESPACE} stream ends at this relay")

    async def _meet(self, end: End) -> None:
        partner = self._waiting.pop(end.point.opposite, None)
        if partner is not None:
            end.partner, partner.partner = partner, end
            partner.met.set()
            await trio.lowlevel.checkpoint()
            return
        if (former := self._waiting.get(end.point)) is not None:
            former.scope.cancel()
        self._waiting[end.point] = end
        try:
            with trio.move_on_after(SPLICE_WAIT_SECONDS):
                await _unless_it_leaves(end)
        finally:
            if self._waiting.get(end.point) is end:
                del self._waiting[end.point]
        if end.partner is None:
            raise LinkLost(f"the other device did not come within {SPLICE_WAIT_SECONDS} seconds")

    async def _carry(self, end: End, partner: End) -> None:
        """Pass on what `end` sends, until it leaves or is silent for too long."""
        wanted = True
        while True:
            with trio.move_on_after(SILENCE_SECONDS) as patience:
                try:
                    data = await end.stream.receive_some(READ_BYTES)
                except _GONE:
                    data = b""
            if patience.cancelled_caught or not data:
                break
            if not wanted:
                continue  # its partner has left; reading on lets what it was sent arrive
            try:
                await partner.stream.send_all(data)
            except _GONE:
                wanted = False
                continue
            self.carried[end.point.namespace] += len(data)
        log.debug("namespace %s: a splice ended", end.point.namespace.hex()[:8])
        await _hang_up(partner.transport)


async def _hang_up(transport: trio.abc.Stream) -> None:
    """No more comes for this device; it may still read what has. The devices' own framing says whether that was all."""
    if isinstance(transport, trio.abc.HalfCloseableStream):
        try:
            await transport.send_eof()
        except (*_GONE, trio.BusyResourceError):
            return  # it left too


async def _unless_it_leaves(end: End) -> None:
    """Wait for the meeting, and notice when the device leaves or talks before its time."""
    failure: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            try:
                data = await end.stream.receive_some(1)
            except _GONE:
                data = b""
            failure.append(PeerError("bytes came before the devices met") if data else LinkLost("the device left"))
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await end.met.wait()
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]
