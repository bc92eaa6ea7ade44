"""Where other devices are said to be: addresses by device, given by hand, from presence slots and from the LAN.

Owns what is known and for how long it counts, bounded for every device. It believes everybody: whoever dials compares
the pin, so a wrong address costs a try and nothing else. Times are trio's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio

from p2psync.ids import IdentityKey
from p2psync.net.addresses import Address

LAN = "lan"
LAN_ADDRESSES_MAX = 4
"""A device on a LAN has one address for each network in common; what comes beyond takes the place of the oldest."""
ADDRESSES_MAX = 16
"""Dialled in one round, for one device."""


@dataclass(slots=True)
class _Known:
    lan: dict[Address, float] = field(default_factory=dict)
    """Heard on the LAN: address → until when it counts, oldest first."""
    told: dict[str, tuple[tuple[Address, ...], float]] = field(default_factory=dict)
    """What the device itself left at each source: addresses, until when."""


class Whereabouts:
    def __init__(self, moved: Callable[[IdentityKey], None]) -> None:
        """`moved` is called when a device appears, or has other addresses than before."""
        self._moved = moved
        self._known: dict[IdentityKey, _Known] = {}
        self._by_hand: dict[IdentityKey, tuple[Address, ...]] = {}

    def set_by_hand(self, identity: IdentityKey, addresses: Iterable[Address]) -> None:
        """The user says that the device is there; stands until he says otherwise."""
        before = self._state(identity)
        self._by_hand[identity] = tuple(addresses)
        self._compare(identity, before)

    def by_hand(self, identity: IdentityKey) -> tuple[Address, ...]:
        return self._by_hand.get(identity, ())

    def told(self, identity: IdentityKey, source: str, addresses: Iterable[Address], seconds: float) -> None:
        """The device left these addresses at `source` (a relay's namespace) instead of its former ones."""
        before = self._state(identity)
        known = self._known.setdefault(identity, _Known())
        known.told[source] = (tuple(addresses), trio.current_time() + seconds)
        self._compare(identity, before)

    def heard(self, identity: IdentityKey, address: Address, seconds: float) -> None:
        """Somebody who knows the folder said on the LAN that the device is at `address`."""
        before = self._state(identity)
        lan = self._known.setdefault(identity, _Known()).lan
        lan.pop(address, None)
        lan[address] = trio.current_time() + seconds
        while len(lan) > LAN_ADDRESSES_MAX:
            del lan[next(iter(lan))]
        self._compare(identity, before)

    def addresses(self, identity: IdentityKey) -> list[Address]:
        """Where to dial: what the user said, then the LAN, latest word first, then what the device told."""
        known, now = self._known.get(identity, _Known()), trio.current_time()
        near = [address for address, until in reversed(known.lan.items()) if until > now]
        told = [address for addresses, until in known.told.values() if until > now for address in addresses]
        return list(dict.fromkeys([*self.by_hand(identity), *near, *told]))[:ADDRESSES_MAX]

    def present(self, identity: IdentityKey) -> bool:
        """Whether the device said lately that it runs, here or anywhere."""
        known, now = self._known.get(identity), trio.current_time()
        if known is None:
            return False
        return any(until > now for until in known.lan.values()) or any(until > now for _, until in known.told.values())

    def forget(self, identity: IdentityKey) -> None:
        """What others said of it counts no more."""
        self._known.pop(identity, None)

    def _state(self, identity: IdentityKey) -> tuple[bool, set[Address]]:
        return self.present(identity), set(self.addresses(identity))

    def _compare(self, identity: IdentityKey, before: tuple[bool, set[Address]]) -> None:
        was_present, known = before
        if (self.present(identity) and not was_present) or set(self.addresses(identity)) - known:
            self._moved(identity)
