"""Presence: tells the other members of a folder where this device is, and learns where they are, through a relay.

Owns when a statement is made again and which ones of others are believed. The relay keeps sealed slots and knows
nothing of them. A relay without presence, or one that has no room for it, disturbs nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from p2psync.errors import AccessRefused, IntegrityError, LinkLost, P2psyncError, PeerError, QuotaExceeded
from p2psync.ids import Ciphertext, IdentityKey
from p2psync.net.addresses import parse_address
from p2psync.node.links import DeviceLinks
from p2psync.replica.replica import Replica
from p2psync.seams import Clock, Randomness
from p2psync.session.presence import Presence as PresenceSlots
from p2psync.session.presence import PresentSlots
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.presence import (
    ADDRESSES_MAX,
    Presence,
    open_presence,
    seal_presence,
    slot_id,
)
from p2psync.vault.secrets import EpochSecret

KEPT_SECONDS = 600
REFRESH_SECONDS = 240.0
"""A statement is made anew before half of its time is over: one that is lost leaves no gap."""


class PresenceKeeping:
    """One folder's presence at one relay, over one link to it."""

    def __init__(
        self, slots: PresenceSlots, replica: Replica, links: DeviceLinks, *, device: DeviceKeys, clock: Clock,
        randomness: Randomness, name: Callable[[], Awaitable[str]], source: str, observed: tuple[str, int] | None,
    ) -> None:  # fmt: skip
        """`source` names relay and folder; `observed` is the address the relay sees this device from."""
        self._slots, self._replica, self._links, self._device = slots, replica, links, device
        self._clock, self._randomness, self._name, self._source = clock, randomness, name, source
        self._observed = observed
        self._present = PresentSlots(-1, ())
        self._counters: dict[IdentityKey, int] = {}
        self.error: str | None = None

    async def run(self) -> None:
        """Until the link to the relay is lost, which ends it quietly: whoever serves the store says so."""
        self._links.hurry()  # a device that could not be reached can be met here now
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._look_again)
        except* LinkLost:
            pass
        except* P2psyncError as group:
            self.error = str(group.exceptions[0])

    async def _tell(self) -> NoReturn:
        # Above what this device said when its clock may have been another: readers take no step back.
        counter = await self._last_counter()
        while True:
            seen = self._links.changed.count
            counter = max(counter + 1, int(self._clock.now() * 1000))
            statement = Presence(
                identity=self._device.identity_key, name=await self._name(), addresses=self._addresses(),
                counter=counter, expiry=int(self._clock.now()) + KEPT_SECONDS,
            )  # fmt: skip
            secret = self._replica.secrets.writing
            sealed = seal_presence(
                self._replica.folder, secret, statement, self._device.identity, self._randomness.bytes(32)
            )
            try:
                await self._slots.put_slot(slot_id(secret, statement.identity), sealed, KEPT_SECONDS)
                self.error = None
            except (AccessRefused, QuotaExceeded) as error:
                self.error = str(error)
            with trio.move_on_after(REFRESH_SECONDS):
                await self._links.changed.wait(seen)

    async def _last_counter(self) -> int:
        secret, identity = self._replica.secrets.writing, self._device.identity_key
        own = slot_id(secret, identity)
        present = await self._slots.watch_slots(-1)
        contents = [slot.content for slot in present.slots if slot.id == own]
        return max((self._counter(secret, identity, content) for content in contents), default=0)

    def _counter(self, secret: EpochSecret, identity: IdentityKey, content: Ciphertext) -> int:
        try:
            return open_presence(self._replica.folder, secret, identity, content).counter
        except (IntegrityError, PeerError):
            return 0

    def _addresses(self) -> tuple[str, ...]:
        seen = None if self._observed is None else self._observed[0]
        if seen is not None and ipaddress.ip_address(seen).is_loopback:
            seen = None
        return tuple(map(str, self._links.told_outside(seen)))[:ADDRESSES_MAX]

    async def _watch(self) -> NoReturn:
        while True:
            self._present = await self._slots.watch_slots(self._present.revision)
            self._believe(self._present)

    async def _look_again(self) -> NoReturn:
        """A slot may be of somebody whose admission was still on its way."""
        while True:
            await self._replica.grew.wait(self._replica.grew.count)
            self._believe(self._present)

    def _believe(self, present: PresentSlots) -> None:
        table, folder = self._table(), self._replica.folder
        here = {table[slot.id][1] for slot in present.slots if slot.id in table}
        self._counters = {identity: counter for identity, counter in self._counters.items() if identity in here}
        for slot in present.slots:
            if slot.id not in table:
                continue
            secret, identity = table[slot.id]
            try:
                statement = open_presence(folder, secret, identity, slot.content)
            except (IntegrityError, PeerError):
                continue  # another member wrote into this slot; what the right one wrote stands beside it
            if statement.counter < self._counters.get(identity, 0):
                continue
            self._counters[identity] = statement.counter
            addresses = [address for address in map(parse_address, statement.addresses) if address is not None]
            self._links.whereabouts.told(identity, self._source, addresses, slot.seconds)
            self._links.learn_name(identity, statement.name)

    def _table(self) -> dict[bytes, tuple[EpochSecret, IdentityKey]]:
        """Where members' statements stand. Only under the epoch that is written now: a removed member knows older ones."""
        secret = self._replica.secrets.writing
        return {slot_id(secret, identity): (secret, identity) for identity in self._replica.other_devices()}
