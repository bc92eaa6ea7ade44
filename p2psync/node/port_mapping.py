"""Keeps a port of the router open for this device's listener, where there is a router that does that.

Owns when it is asked for, renewed and given back. Nothing depends on it: where it does not work others reach this device
in other ways, and the reason is a fact for whoever asks for it.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import NoReturn

import trio

from p2psync.errors import P2psyncError
from p2psync.net.addresses import Address
from p2psync.net.upnp import Mapping, MapPort, UnmapPort
from p2psync.node.links import DeviceLinks

RENEW_SECONDS = 1200.0
"""A third of the lease."""
RETRY_SECONDS = 600.0
GIVE_BACK_SECONDS = 3.0
"""What a router gets to forget the port when the device stops; the lease ends it anyway."""

log = logging.getLogger(__name__)


class PortMapping:
    def __init__(self, links: DeviceLinks, map_port: MapPort, unmap_port: UnmapPort) -> None:
        self.error: str | None = None
        """Why there is none."""
        self._links, self._map_port, self._unmap_port = links, map_port, unmap_port
        self._mapped: Mapping | None = None

    @property
    def outside(self) -> Address | None:
        """Where others may dial from outside."""
        return None if self._mapped is None else self._mapped.outside

    async def run(self) -> NoReturn:
        """Until cancelled; the port is given back then."""
        try:
            while True:
                told = self._links.told
                await self._renew()
                with trio.move_on_after(RETRY_SECONDS if self._mapped is None else RENEW_SECONDS):
                    while self._links.told == told:
                        await self._links.changed.wait(self._links.changed.count)
        finally:
            if self._mapped is not None:
                with trio.move_on_after(GIVE_BACK_SECONDS) as last:
                    last.shield = True
                    await self._give_back(self._mapped)

    async def _renew(self) -> None:
        before = self._mapped
        mapped: Mapping | None = None
        port = self._links.port
        if port is None or not _behind_a_router(self._links.told):
            self.error = "no listener here has a private IPv4 address"
        else:
            try:
                mapped, self.error = await self._map_port(port), None
            except P2psyncError as error:
                self.error = str(error)
        self._mapped = mapped
        log.debug("port mapping: %s", self.error or self.outside)
        if before is not None and mapped is None:
            await self._give_back(before)
        self._links.set_mapped(self.outside)

    async def _give_back(self, mapped: Mapping) -> None:
        try:
            await self._unmap_port(mapped)
        except P2psyncError as error:
            log.debug("port mapping: %s", error)


def _behind_a_router(told: tuple[Address, ...]) -> bool:
    parsed = [ipaddress.ip_address(address.host) for address in told]
    return any(address.version == 4 and address.is_private and not address.is_loopback for address in parsed)
