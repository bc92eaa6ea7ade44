"""The peer: one device running, with a replica per folder and a keeper per relay in one supervising nursery.

Owns which folders and relays run, and that folders and pairings can be added while it does. What a command means to a
user is `commands`' matter; how one folder or one relay works is theirs.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn

import trio

from p2psync.catalog.keystore import Keystore
from p2psync.errors import P2psyncError, UserError
from p2psync.ids import FolderId, IdentityKey
from p2psync.net.addresses import Address, parse_place
from p2psync.net.urls import RelayUrl
from p2psync.node.failures import first_failure
from p2psync.node.home import Home
from p2psync.node.lan_mailbox import LanCodes
from p2psync.node.link_options import UNHEARD, LinkOptions
from p2psync.node.links import DeviceLinks
from p2psync.node.neighbours import Neighbours
from p2psync.node.port_mapping import PortMapping
from p2psync.node.registry import DEVICE_NAME, RegisteredFolder, Registry
from p2psync.node.relays import RelayKeeper
from p2psync.node.roaming import Roaming
from p2psync.node.running import Meeting, RunningFolder
from p2psync.node.splicing import MeetingPoint
from p2psync.node.surroundings import Surroundings
from p2psync.pairing.offers import NAME_BYTES_MAX
from p2psync.replica.context import Signal
from p2psync.replica.replica import Replica, open_replica
from p2psync.session.peer_link import PeerLink
from p2psync.vault.device_keys import DeviceKeys, device_id


class Peer:
    """Made by `open_peer`."""

    def __init__(
        self, home: Home, surroundings: Surroundings, registry: Registry, keystore: Keystore, device: DeviceKeys,
        nursery: trio.Nursery, options: LinkOptions,
    ) -> None:  # fmt: skip
        self.home, self.surroundings = home, surroundings
        self.registry, self.keystore, self.device = registry, keystore, device
        self.stopped: dict[FolderId, str] = {}
        """Folders that could not be opened, and why."""
        self.folders: dict[FolderId, RunningFolder] = {}
        self.news = Signal()
        """Folders came or went."""
        self._nursery = nursery
        self._stop = trio.Event()
        self._keepers: dict[bytes, RelayKeeper] = {}
        self.links = DeviceLinks(device, surroundings, options, nursery, self._serve_device, self._meeting_point)
        self.port_mapping = PortMapping(self.links, surroundings.map_port, surroundings.unmap_port)
        self.codes = LanCodes(options, surroundings, nursery)
        self.neighbours = Neighbours(
            self.links, lambda: [folder.replica for folder in self.folders.values()], device.identity_key,
            open_lan=surroundings.open_lan, clock=surroundings.clock, randomness=surroundings.randomness,
            workers=surroundings.workers,
        )  # fmt: skip

    @property
    def tasks(self) -> trio.Nursery:
        """Where long work of commands lives: it ends with the peer."""
        return self._nursery

    def hurry(self) -> None:
        """Try all relays and devices again now that cannot be reached."""
        for keeper in self.keepers():
            keeper.hurry()
        self.links.hurry()

    def probe(self) -> None:
        """See whether the relays and devices that are linked still are."""
        for keeper in self.keepers():
            keeper.probe()
        self.links.probe()

    def stop(self) -> None:
        """Ask whoever runs this peer to end it."""
        self._stop.set()

    async def stopping(self) -> None:
        """Wait until somebody asked for the end."""
        await self._stop.wait()

    async def device_name(self) -> str:
        """How this device calls itself to others: the host's name unless the user chose one."""
        chosen = await self.surroundings.workers.run(self.registry.setting, DEVICE_NAME)
        name = (chosen or platform.node() or "device").encode()[:NAME_BYTES_MAX]
        return name.decode(errors="ignore")

    async def called(self, identity: IdentityKey | None) -> dict[str, str | None]:
        """What commands say of whose something is: `device` (its id) and `name`, each None when it is not known."""
        if identity is None:
            return {"device": None, "name": None}
        own = identity == self.device.identity_key
        return {
            "device": device_id(identity),
            "name": await self.device_name() if own else self.links.names.get(identity),
        }

    def keeper(self, url: RelayUrl) -> RelayKeeper:
        """The keeper of the relay `url` names; a relay is known by its pin, whatever it is called today."""
        name = url.pin or str(url).encode()
        keeper = self._keepers.get(name)
        if keeper is None:
            outside = self.surroundings
            keeper = RelayKeeper(url, network=outside.to_relays, clock=outside.clock, randomness=outside.randomness)
            self._keepers[name] = keeper
            self._nursery.start_soon(keeper.run)
        return keeper

    def keepers(self) -> list[RelayKeeper]:
        return list(self._keepers.values())

    def running(self, folder: FolderId) -> RunningFolder:
        """UserError when the folder is not here or could not be opened."""
        try:
            return self.folders[folder]
        except KeyError:
            reason = self.stopped.get(folder, "it is not a folder of this device")
            raise UserError(f"folder {folder.hex()[:8]} cannot be used: {reason}") from None

    async def registered(self) -> list[RegisteredFolder]:
        return await self.surroundings.workers.run(self.registry.folders)

    async def rename(self, name: str) -> None:
        """What this device is called by others from now on."""
        await self.surroundings.workers.run(self.registry.set_setting, DEVICE_NAME, name)
        self.links.changed.notify()

    async def set_addresses(self, identity: IdentityKey, addresses: tuple[Address, ...]) -> None:
        """Where the user says another device is, from now on; none forgets former ones."""
        texts = tuple(map(str, addresses))
        await self.surroundings.workers.run(self.registry.set_device_addresses, identity, texts)
        self.links.whereabouts.set_by_hand(identity, addresses)

    async def keep_names(self) -> NoReturn:
        """Write down what other devices call themselves."""
        renamed = self.links.renamed
        while True:
            seen = renamed.count
            await self.surroundings.workers.run(self.registry.set_device_names, dict(self.links.names))
            await renamed.wait(seen)

    def reachable(self) -> bool:
        """Whether anybody is who may carry content: a linked device, or a relay where stores are used."""
        stores = "store" in self.links.options.links and any(keeper.connected for keeper in self.keepers())
        return stores or bool(self.links.connected())

    async def start_folder(self, registered: RegisteredFolder) -> None:
        """Run a folder; one that cannot be opened is noted in `stopped` and disturbs no other."""
        if registered.folder not in self.folders:
            await self._nursery.start(self._run_folder, registered)

    async def _run_folder(
        self, registered: RegisteredFolder, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        started = False
        try:
            async with self._open_replica(registered) as replica:
                stores = await self.surroundings.workers.run(self.registry.stores, registered.folder)
                async with trio.open_nursery() as tasks:
                    meeting = Meeting(self.links, self.surroundings, self.device_name)
                    folder = RunningFolder(registered, replica, stores, self.device, self.keeper, meeting, tasks)
                    self.folders[registered.folder] = folder
                    self.stopped.pop(registered.folder, None)
                    folder.attach_all()
                    tasks.start_soon(self._follow_members, folder)
                    for link in self.links.sessions.links():
                        folder.serve_device(link)
                    self.news.notify()
                    try:
                        task_status.started()
                        started = True
                        await replica.run()
                    finally:
                        del self.folders[registered.folder]
                        await folder.detach_all()
        except* P2psyncError as group:
            failure = first_failure(group)
            if failure is None:
                raise
            self.stopped[registered.folder] = str(failure)
        self.news.notify()
        if not started:
            task_status.started()

    def _serve_device(self, link: PeerLink) -> None:
        for folder in self.folders.values():
            folder.serve_device(link)

    def _meeting_point(self, identity: IdentityKey) -> MeetingPoint | None:
        """Both devices look at their folders in the same order."""
        points = (self.folders[folder].meeting_point(identity) for folder in sorted(self.folders))
        return next((point for point in points if point is not None), None)

    async def _follow_members(self, folder: RunningFolder) -> NoReturn:
        grew = folder.replica.grew
        while True:
            seen = grew.count
            self._set_members()
            await grew.wait(seen)

    def _set_members(self) -> None:
        certificates: dict[IdentityKey, bytes] = {}
        for folder in self.folders.values():
            certificates |= folder.replica.other_devices()
        self.links.set_members(certificates)

    def _open_replica(self, registered: RegisteredFolder) -> AbstractAsyncContextManager[Replica]:
        outside = self.surroundings
        return open_replica(
            root=registered.path,
            catalog_path=self.home.catalog(registered.catalog),
            keystore=self.keystore,
            device=self.device,
            clock=outside.clock,
            randomness=outside.randomness,
            workers=outside.workers,
            make_filesystem=outside.make_filesystem,
            watcher=outside.watcher,
            links=self.links.options.links,
        )


@asynccontextmanager
async def open_peer(home: Home, surroundings: Surroundings, options: LinkOptions = UNHEARD) -> AsyncIterator[Peer]:
    """A running peer with every folder of `home`; the caller holds the home's lock. Ends with the block.

    UserError when it cannot listen where `options` say.
    """
    workers = surroundings.workers
    registry = await workers.run(Registry, home.registry)
    try:
        keystore = await workers.run(Keystore, home.keys)
        device = await workers.run(keystore.device, surroundings.randomness)
        async with trio.open_nursery() as nursery:
            peer = Peer(home, surroundings, registry, keystore, device, nursery, options)
            peer.links.names |= await workers.run(registry.device_names)
            for identity, texts in (await workers.run(registry.device_addresses)).items():
                peer.links.whereabouts.set_by_hand(identity, map(parse_place, texts))
            nursery.start_soon(peer.keep_names)
            await peer.links.start()
            roaming = Roaming(
                surroundings.interfaces, surroundings.watch_network, look=peer.links.look, retry=peer.hurry,
                doubt=peer.probe,
            )  # fmt: skip
            nursery.start_soon(roaming.run)
            for registered in await peer.registered():
                await peer.start_folder(registered)
            if options.lan and peer.links.direct:
                nursery.start_soon(peer.neighbours.run)
            if options.map_port and peer.links.direct:
                nursery.start_soon(peer.port_mapping.run)
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        registry.close()
