"""A folder that is running: its replica, its stores, and how a link serves one of them.

Knows how this device logs in to a folder's namespace. What replica and store say to each other is theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost, P2psyncError, PeerError
from p2psync.ids import FolderId, IdentityKey
from p2psync.index.membership import Role
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.node.failures import first_failure
from p2psync.node.links import DeviceLinks
from p2psync.node.presence import PresenceKeeping
from p2psync.node.registry import RegisteredFolder
from p2psync.node.relays import Backoff, RelayKeeper
from p2psync.node.splicing import MeetingPoint
from p2psync.node.surroundings import Surroundings
from p2psync.pairing.offers import OfferedFolder, StoreLocation
from p2psync.replica.replica import Replica
from p2psync.session.peer_link import PeerLink
from p2psync.session.relay_link import RelayLink
from p2psync.session.remote import RemoteStore
from p2psync.vault.device_keys import DeviceKeys, device_id
from p2psync.vault.presence import rendezvous
from p2psync.wire.login import Right
from p2psync.wire.messages import PRESENCE

Keepers = Callable[[RelayUrl], RelayKeeper]


@dataclass(frozen=True, slots=True)
class Meeting:
    """What a folder needs to let devices find each other: the links, the outside, and this device's name."""

    links: DeviceLinks
    outside: Surroundings
    name: Callable[[], Awaitable[str]]


@dataclass(slots=True)
class RunningFolder:
    registered: RegisteredFolder
    replica: Replica
    stores: tuple[StoreLocation, ...]
    device: DeviceKeys
    keepers: Keepers
    meeting: Meeting
    tasks: trio.Nursery
    """Ends before the replica does."""
    troubles: dict[IdentityKey, str] = field(default_factory=dict)
    """Why a linked device does not serve this folder now."""

    @property
    def folder(self) -> FolderId:
        return self.registered.folder

    def attach(self, store: StoreLocation) -> None:
        """Serve `store` whenever its relay is reachable, until the folder stops."""

        async def serve(link: RelayLink) -> None:
            await self._serve(link, store)

        self.keeper(store).attach(self.folder, serve)

    def attach_all(self) -> None:
        self._limit_links()
        for store in self.stores:
            self.attach(store)

    async def detach_all(self) -> None:
        """Returns when no link uses the folder any more."""
        with trio.CancelScope(shield=True):
            for store in self.stores:
                await self.keeper(store).detach(self.folder)

    def add_store(self, store: StoreLocation) -> None:
        self.stores = (*(held for held in self.stores if held.relay_key != store.relay_key), store)
        self._limit_links()
        self.attach(store)

    def _limit_links(self) -> None:
        """Nothing waits for a store in a folder that has none."""
        links = self.meeting.links.options.links
        self.replica.limit_links(links if self.stores else links - {"store"})

    def keeper(self, store: StoreLocation) -> RelayKeeper:
        keeper = self.keepers(parse_relay_url(store.url))
        keeper.expected = keeper.expected or store.relay_key
        return keeper

    async def link(self, store: StoreLocation) -> RelayLink:
        return await self.keeper(store).link()

    def access_key(self, store: StoreLocation) -> SigningKey:
        return self.device.access_key(store.relay_key, self.folder)

    def offer(self, role: Role) -> OfferedFolder:
        return OfferedFolder(self.replica.genesis, self.registered.label, role, self.stores)

    def meeting_point(self, identity: IdentityKey) -> MeetingPoint | None:
        """Where this member of the folder can be met: at the first relay of the folder that is connected."""
        if identity not in self.replica.other_devices():
            return None
        for store in sorted(self.stores, key=lambda each: each.relay_key):
            keeper = self.keeper(store)
            if keeper.connected:
                name = rendezvous(self.replica.secrets.writing, self.device.identity_key, identity)
                return MeetingPoint(keeper.url, store.relay_key, store.namespace, self.access_key(store), name)
        return None

    def serve_device(self, link: PeerLink) -> None:
        """Exchange this folder over a link with another device, if both are members, until the link or the folder ends."""
        self.tasks.start_soon(self._serve_device, link)

    async def _serve_device(self, link: PeerLink) -> None:
        backoff = Backoff(self.meeting.outside.randomness)
        while link.error is None:
            try:
                await self.replica.serve_peer(device_id(link.identity), link)
            except LinkLost:
                break
            except PeerError as error:
                link.end(str(error))
                break
            except P2psyncError as error:
                self.troubles[link.identity] = str(error)
                await trio.sleep(backoff.next())
        self.troubles.pop(link.identity, None)

    async def _serve(self, link: RelayLink, store: StoreLocation) -> None:
        if link.relay_key != store.relay_key:
            raise PeerError("another relay answers at this address than the one that holds the folder")
        right = Right.OWN if self.replica.role() is Role.ADMIN else Right.PUT
        remote = await link.login(store.namespace, self.access_key(store), right)
        try:
            async with trio.open_nursery() as nursery:
                if PRESENCE in link.features and self.meeting.links.options.links & {"direct", "splice"}:
                    nursery.start_soon(self._presence(link, remote, store).run)
                try:
                    await self.replica.serve_store(store.url, remote)
                finally:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What the store's exchange ended with stands for all: the keeper decides by its class.
            raise first_failure(group) or group from None

    def _presence(self, link: RelayLink, remote: RemoteStore, store: StoreLocation) -> PresenceKeeping:
        outside = self.meeting.outside
        return PresenceKeeping(
            link.presence(remote), self.replica, self.meeting.links, device=self.device, clock=outside.clock,
            randomness=outside.randomness, name=self.meeting.name, source=store.namespace.hex(), observed=link.observed,
        )  # fmt: skip
