"""The links of this device to other devices: the listener, a keeper for every member, and where they are reached.

Owns who may come in (the members of this device's folders), what addresses are told to others, and that there is one
keeper for each device. Which folders a session serves is the folders' matter; relays are `relays`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from p2psync.errors import P2psyncError, UserError
from p2psync.ids import IdentityKey
from p2psync.net.addresses import (
    Address,
    bound_address,
    on_link,
    remote_host,
    told_addresses,
)
from p2psync.net.counting import CountedStream
from p2psync.net.network import bound_port, listen_on_one_port
from p2psync.node.devices import DIRECT, LAN, DeviceKeeper
from p2psync.node.failures import first_failure
from p2psync.node.link_options import LinkOptions
from p2psync.node.punching import Puncher
from p2psync.node.splicing import DIRECT_FIRST_SECONDS, MeetingPoint, SpliceKeeper
from p2psync.node.surroundings import Surroundings
from p2psync.node.whereabouts import Whereabouts
from p2psync.replica.context import Signal
from p2psync.session.peer_link import PeerLink, accept_peer_link
from p2psync.session.peer_sessions import PeerSessions
from p2psync.vault.device_keys import DeviceKeys

GREETING_MAX = 64
"""Connections that have not said yet who they are; more are closed unheard."""


class DeviceLinks:
    def __init__(
        self, device: DeviceKeys, surroundings: Surroundings, options: LinkOptions, nursery: trio.Nursery,
        begun: Callable[[PeerLink], None], point: Callable[[IdentityKey], MeetingPoint | None],
    ) -> None:  # fmt: skip
        """`begun` is called with every link that becomes the session with its device; `point` says at which relay a
        device can be met."""
        self.options = options
        self.sessions = PeerSessions()
        self.whereabouts = Whereabouts(self._moved)
        self.listening: tuple[Address, ...] = ()
        """Where the listener stands, port 0 resolved."""
        self.told: tuple[Address, ...] = ()
        """Where others on the same networks are told to dial."""
        self.mapped: Address | None = None
        """The port a router passes on to the listener."""
        self.names: dict[IdentityKey, str] = {}
        """What devices call themselves."""
        self.renamed = Signal()
        self.changed = Signal()
        """What others should be told has changed."""
        self.members = 0
        """Counts how often the devices of a folder may have become others."""
        self.news = Signal()
        """What is called out on the LAN should be said again: members, or addresses, have changed."""
        self.began = Signal()
        """A session has begun."""
        self._device, self._outside, self._nursery, self._tell_begun = device, surroundings, nursery, begun
        self._point = point
        self._certificates: dict[IdentityKey, bytes] = {}
        self._keepers: dict[IdentityKey, tuple[DeviceKeeper, trio.CancelScope]] = {}
        self._strangers: set[CountedStream] = set()

    @property
    def direct(self) -> bool:
        """Whether links without a relay are used at all."""
        return "direct" in self.options.links

    @property
    def port(self) -> int | None:
        return self.listening[0].port if self.listening else None

    async def start(self) -> None:
        """Listen if so asked. UserError when the address is taken."""
        if self.options.listen is None or not self.direct:
            await trio.lowlevel.checkpoint()
            return
        host, port = self.options.listen
        try:
            listeners = await listen_on_one_port(self._outside.network, host, port)
        except UserError:
            if not self.options.yielding:
                raise
            listeners = await listen_on_one_port(self._outside.network, host, 0)
        self.listening = tuple(
            bound_address(each) or Address(host or "0.0.0.0", bound_port(each)) for each in listeners
        )
        self.look()
        self._nursery.start_soon(trio.serve_listeners, self._accept, list(listeners))

    def learn_name(self, identity: IdentityKey, name: str) -> None:
        if self.names.get(identity) != name:
            self.names[identity] = name
            self.renamed.notify()

    def set_members(self, certificates: Mapping[IdentityKey, bytes]) -> None:
        """These are the devices of all folders now, but this one: identity → certificate (DER)."""
        changed = self._certificates != certificates
        self._certificates = dict(certificates)
        for identity in set(self._keepers) - set(certificates):
            keeper, scope = self._keepers.pop(identity)
            scope.cancel()
            self.whereabouts.forget(identity)
            if keeper.session is not None:
                keeper.session.link.end("the device is no longer a member of a folder here")
        for identity in certificates:
            self._keeper(identity)
        self.members += 1
        if changed:
            self.news.notify()

    def keeper(self, identity: IdentityKey) -> DeviceKeeper | None:
        held = self._keepers.get(identity)
        return None if held is None else held[0]

    def keepers(self) -> list[DeviceKeeper]:
        return [keeper for keeper, _ in self._keepers.values()]

    def hurry(self) -> None:
        """Try everybody again now."""
        for keeper in self.keepers():
            keeper.news.notify()

    def probe(self) -> None:
        """Ask everybody who is linked for a sign of life: the network may have become another."""
        for link in self.sessions.links():
            link.probe()

    def connected(self) -> int:
        """Devices linked right now."""
        return len(self.sessions.links())

    async def linked(self, count: int = 1) -> None:
        """Wait until at least `count` devices are linked."""
        await trio.lowlevel.checkpoint()
        while self.connected() < count:
            await self.began.wait(self.began.count)

    # What others do.

    async def _accept(self, transport: trio.abc.Stream) -> None:
        counted = CountedStream(transport)
        if len(self._strangers) >= GREETING_MAX or not self._certificates:
            await trio.aclose_forcefully(counted)
            return
        strangers = self._strangers
        strangers.add(counted)
        try:
            async with accept_peer_link(
                counted, device=self._device, members=self._certificates, randomness=self._outside.randomness
            ) as link:
                strangers.discard(counted)
                keeper = self.keeper(link.identity)
                if keeper is not None:
                    await keeper.use(link, counted, self._way(remote_host(transport)))
        except* P2psyncError as group:
            if first_failure(group) is None:
                raise
        finally:
            strangers.discard(counted)

    def _way(self, host: str | None) -> str:
        return LAN if host is not None and on_link(host, self._outside.interfaces()) else DIRECT

    def _begun(self, link: PeerLink) -> None:
        self.began.notify()
        self._tell_begun(link)

    def _moved(self, identity: IdentityKey) -> None:
        if held := self._keepers.get(identity):
            held[0].news.notify()
            if held[0].session is not None:
                held[0].session.link.probe()  # it may be elsewhere by now, and the link with it where it was

    def _keeper(self, identity: IdentityKey) -> None:
        if identity in self._keepers:
            return
        outside = self._outside
        keeper = DeviceKeeper(
            identity, device=self._device, network=outside.network, randomness=outside.randomness,
            sessions=self.sessions, addresses=lambda: self._addresses(identity),
            certificate=lambda: self._certificates.get(identity), way=self._way, now=outside.clock.now,
            begun=self._begun,
        )  # fmt: skip
        scope = trio.CancelScope()
        self._keepers[identity] = keeper, scope
        self._nursery.start_soon(self._run_keeper, keeper, scope)

    async def _run_keeper(self, keeper: DeviceKeeper, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keeper.run)
                if self.options.links & {"direct", "splice"}:
                    nursery.start_soon(self._splices(keeper, nursery).run)

    def _splices(self, keeper: DeviceKeeper, tasks: trio.Nursery) -> SpliceKeeper:
        outside, identity = self._outside, keeper.identity

        def certificate() -> bytes | None:
            return self._certificates.get(identity)

        puncher = Puncher(
            keeper, device=self._device, randomness=outside.randomness, tasks=tasks, ports=outside.outside_ports,
            certificate=certificate, way=self._way,
        )  # fmt: skip
        return SpliceKeeper(
            keeper, device=self._device, network=outside.to_relays, randomness=outside.randomness,
            point=lambda: self._meeting_point(identity), certificate=certificate,
            head_start=DIRECT_FIRST_SECONDS if self.direct else 0, carries="splice" in self.options.links,
            puncher=puncher if self.direct else None,
        )  # fmt: skip

    def _meeting_point(self, identity: IdentityKey) -> MeetingPoint | None:
        return self._point(identity) if self.whereabouts.present(identity) else None

    def _addresses(self, identity: IdentityKey) -> Sequence[Address]:
        return [each for each in self.whereabouts.addresses(identity) if each not in self.told] if self.direct else ()

    # What others are told.

    def told_outside(self, observed: str | None) -> list[Address]:
        """Where others may dial, the user's word first; `observed` is the address a relay sees this device from."""
        if not self.told:
            return []
        hosts = [(each.host or observed, each.port) for each in self.options.announced]
        said = [Address(host, port) for host, port in hosts if host is not None]
        mapped = [] if self.mapped is None else [self.mapped]
        seen = [] if observed is None else [Address(observed, self.told[0].port)]
        return list(dict.fromkeys([*said, *mapped, *self.told, *seen]))

    def set_mapped(self, outside: Address | None) -> None:
        if outside != self.mapped:
            self.mapped = outside
            self.changed.notify()

    def look(self) -> None:
        """Look whether others should be told other addresses than before."""
        told = tuple(told_addresses(self.listening, self._outside.interfaces()))
        if told != self.told:
            self.told = told
            self.changed.notify()
            self.news.notify()
