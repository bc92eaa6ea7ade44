"""Meeting another device through a relay when neither can dial the other: a splice, as long as nothing better exists.

Both devices try while the other one is present and there is no session; the relay brings two tries together that name
the same meeting point within half a minute. Inside they run the very link they would run directly, so the relay passes
on ciphertext of ciphertext. A direct link that comes about later takes the splice's place (`session.peer_sessions`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NoReturn

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost, P2psyncError
from p2psync.ids import IdentityKey, NamespaceId, RelayKey
from p2psync.net.counting import CountedStream
from p2psync.net.network import Network
from p2psync.net.urls import RelayUrl
from p2psync.node.devices import SPLICED, DeviceKeeper
from p2psync.node.failures import first_failure
from p2psync.node.relays import Backoff
from p2psync.seams import Randomness
from p2psync.session.peer_link import PeerLink, accept_peer_link, open_peer_link
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
    ) -> None:  # fmt: skip
        """`point` says where the device can be met now, None when it is not there or no relay is; `head_start` is what
        a direct link gets."""
        self._head_start = head_start
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
        dials = self._device.identity_key < self._keeper.identity
        stream = await open_splice(
            point.url, namespace=point.namespace, key=point.key, rendezvous=point.rendezvous,
            side=SpliceSide.DIALS if dials else SpliceSide.ANSWERS, network=self._network,
            randomness=self._randomness, expected=point.relay_key,
        )  # fmt: skip
        transport = CountedStream(stream)
        async with self._link(transport, certificate, dials=dials) as link:
            if link.identity != self._keeper.identity:
                raise LinkLost("another device came to the meeting point")
            await self._keeper.use(link, transport, SPLICED)

    def _link(
        self, transport: CountedStream, certificate: bytes, *, dials: bool
    ) -> AbstractAsyncContextManager[PeerLink]:
        identity: IdentityKey = self._keeper.identity
        if dials:
            return open_peer_link(
                transport, device=self._device, expected=identity, certificate=certificate,
                randomness=self._randomness, kind=KIND,
            )  # fmt: skip
        return accept_peer_link(
            transport, device=self._device, members={identity: certificate}, randomness=self._randomness, kind=KIND
        )
