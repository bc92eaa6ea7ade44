"""Meeting another device through a relay when neither can dial the other: a splice, as long as nothing better exists.

Both devices try while the other one is present and there is no session; the relay brings two tries together that name
the same meeting point within half a minute. Inside they run the very link they would run directly, so the relay passes
on ciphertext of ciphertext. A direct link that comes about later takes the splice's place (`session.peer_sessions`);
`punching` sees to that. Where content must not go over a relay the splice serves for that alone, and is no session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import P2psyncError
from p2psync.ids import NamespaceId, RelayKey
from p2psync.net.counting import CountedStream
from p2psync.net.network import Network
from p2psync.net.urls import RelayUrl
from p2psync.node.devices import SPLICED, DeviceKeeper
from p2psync.node.failures import first_failure
from p2psync.node.punching import Puncher
from p2psync.node.relays import Backoff
from p2psync.seams import Randomness
from p2psync.session.meeting import meet_peer_link, plays_dialler
from p2psync.session.peer_link import PeerLink
from p2psync.session.splicing import open_splice
from p2psync.vault.device_keys import DeviceKeys
from p2psync.wire.messages import SpliceSide

DIRECT_FIRST_SECONDS = 3.0
"""What a direct link gets before the relay is troubled."""
LOOK_SECONDS = 10.0
KIND = "splice"


@dataclass(frozen=True, slots=True)
class MeetingPoint:
    """Where two members of a folder meet: its namespace at a relay both use, and a name only they can derive."""

    url: RelayUrl
    relay_key: RelayKey
    namespace: NamespaceId
    key: SigningKey
    rendezvous: bytes


class SpliceKeeper:
    def __init__(
        self, keeper: DeviceKeeper, *, device: DeviceKeys, network: Network, randomness: Randomness,
        point: Callable[[], MeetingPoint | None], certificate: Callable[[], bytes | None], head_start: float,
        carries: bool, puncher: Puncher | None,
    ) -> None:  # fmt: skip
        """`point` says where the device can be met now, None when it is not there or no relay is; `head_start` is what
        a direct link gets; `carries`: content may go over a splice; `puncher` is None where no direct links are used."""
        self._head_start, self._carries, self._puncher = head_start, carries, puncher
        self._keeper, self._device, self._network, self._randomness = keeper, device, network, randomness
        self._point, self._certificate = point, certificate

    async def run(self) -> NoReturn:
        backoff = Backoff(self._randomness)
        while True:
            news = self._keeper.news
            seen = news.count
            if self._keeper.session is None and self._point() is not None:
                await trio.sleep(self._head_start)
            point, certificate = self._point(), self._certificate()
            if self._keeper.session is not None or point is None or certificate is None:
                with trio.move_on_after(LOOK_SECONDS):  # a relay that comes back is no news of the device
                    await news.wait(seen)
                    backoff.reset()
                continue
            try:
                await self._meet(point, certificate)
            except* P2psyncError as group:
                if first_failure(group) is None:
                    raise
            with trio.move_on_after(backoff.next()):
                await news.wait(seen)

    async def _meet(self, point: MeetingPoint, certificate: bytes) -> None:
        """A session through the relay, until it ends or a better one takes its place."""
        dials = plays_dialler(self._device.identity_key, self._keeper.identity)
        stream = await open_splice(
            point.url, namespace=point.namespace, key=point.key, rendezvous=point.rendezvous,
            side=SpliceSide.DIALS if dials else SpliceSide.ANSWERS, network=self._network,
            randomness=self._randomness, expected=point.relay_key,
        )  # fmt: skip
        transport = CountedStream(stream)
        async with meet_peer_link(
            transport, device=self._device, expected=self._keeper.identity, certificate=certificate,
            randomness=self._randomness, kind=KIND,
        ) as link, trio.open_nursery() as nursery:  # fmt: skip
            if self._puncher is not None:
                nursery.start_soon(self._puncher.improve, link, point.url)
            if self._carries:
                await self._keeper.use(link, transport, SPLICED)
            else:
                await self._until_session(link)
            nursery.cancel_scope.cancel()

    async def _until_session(self, link: PeerLink) -> None:
        """The link is good for arranging a direct one; nothing else is said on it here."""
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await link.closed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            while self._keeper.session is None:
                await self._keeper.news.wait(self._keeper.news.count)
            nursery.cancel_scope.cancel()
