"""A folder that is running: its replica, its stores, and how a link serves one of them.

Knows how this device logs in to a folder's namespace. What replica and store say to each other is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2psync.crypto.signing import SigningKey
from p2psync.errors import PeerError
from p2psync.ids import FolderId
from p2psync.index.membership import Role
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.node.registry import RegisteredFolder
from p2psync.node.relays import RelayKeeper
from p2psync.pairing.offers import OfferedFolder, StoreLocation
from p2psync.replica.replica import Replica
from p2psync.session.relay_link import RelayLink
from p2psync.vault.device_keys import DeviceKeys
from p2psync.wire.login import Right

Keepers = Callable[[RelayUrl], RelayKeeper]


@dataclass(slots=True)
class RunningFolder:
    registered: RegisteredFolder
    replica: Replica
    stores: tuple[StoreLocation, ...]
    device: DeviceKeys
    keepers: Keepers

    @property
    def folder(self) -> FolderId:
        return self.registered.folder

    def attach(self, store: StoreLocation) -> None:
        """Serve `store` whenever its relay is reachable, until the folder stops."""

        async def serve(link: RelayLink) -> None:
            await self._serve(link, store)

        self.keeper(store).attach(self.folder, serve)

    def attach_all(self) -> None:
        for store in self.stores:
            self.attach(store)

    def detach_all(self) -> None:
        for store in self.stores:
            self.keeper(store).detach(self.folder)

    def add_store(self, store: StoreLocation) -> None:
        self.stores = (*(held for held in self.stores if held.relay_key != store.relay_key), store)
        self.attach(store)

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

    async def _serve(self, link: RelayLink, store: StoreLocation) -> None:
        if link.relay_key != store.relay_key:
            raise PeerError("another relay answers at this address than the one that holds the folder")
        right = Right.OWN if self.replica.role() is Role.ADMIN else Right.PUT
        remote = await link.login(store.namespace, self.access_key(store), right)
        await self.replica.serve_store(store.url, remote)
