"""A port of the router, asked for with UPnP: miniupnpc, which blocks, in threads of their own.

Owns the translation of its errors. Whoever answers on the LAN is believed to be the router: what it says is an address
to try, and nothing that anybody trusts. When to ask, renew and give back is the node's decision. Without the library,
which not every platform has, there is no mapping and a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from p2psync.errors import LinkLost
from p2psync.net.addresses import Address, parse_address
from p2psync.net.network import place

try:
    import miniupnpc
except ImportError:
    miniupnpc = None

DISCOVER_MS = 2000
LEASE_SECONDS = 3600
"""A router forgets the port of a device that vanished."""
DESCRIPTION = "p2psync"
_PORTS = 8
"""Another device of the LAN may have the usual port: so many next to it are tried."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mapping:
    """`outside` leads to `inside`, which is this machine, as long as the router remembers it."""

    outside: Address
    inside: Address
    gateway: Any
    """miniupnpc's object."""


MapPort = Callable[[int], Awaitable[Mapping]]
UnmapPort = Callable[[Mapping], Awaitable[None]]


async def map_port(port: int) -> Mapping:
    """Have the router pass a port on to TCP `port` here; asking again renews it. LinkLost says why there is none."""
    return await _in_thread(lambda: _map(port))


async def unmap_port(mapping: Mapping) -> None:
    """Give it back. LinkLost when the router does not answer."""
    await _in_thread(lambda: _unmap(mapping))


def _map(port: int) -> Mapping:
    if miniupnpc is None:
        raise LinkLost("miniupnpc is not installed (pip install 'p2psync[upnp]')")
    gateway = miniupnpc.UPnP()
    gateway.discoverdelay = DISCOVER_MS
    gateway.discover()
    gateway.selectigd()
    host = str(gateway.externalipaddress() or "")
    inside = Address(str(gateway.lanaddr), port)
    for outer in range(port, min(port + _PORTS, 65536)):
        held = gateway.getspecificportmapping(outer, "TCP")
        if held is not None and tuple(held[:2]) != (inside.host, port):
            continue
        outside = parse_address(place(host, outer))
        if outside is None:
            raise LinkLost(f"the router has no outside address ({host!r})")
        _add(gateway, outer, inside)
        return Mapping(outside, inside, gateway)
    raise LinkLost("all ports tried are taken at the router")


def _add(gateway: Any, outer: int, inside: Address) -> None:
    arguments = (outer, "TCP", inside.host, inside.port, DESCRIPTION, "")
    try:
        gateway.addportmapping(*arguments, LEASE_SECONDS)
    except Exception as error:
        if str(error) != "OnlyPermanentLeasesSupported":
            raise
        gateway.addportmapping(*arguments, 0)


def _unmap(mapping: Mapping) -> None:
    held = mapping.gateway.getspecificportmapping(mapping.outside.port, "TCP")
    if held is not None and tuple(held[:2]) == (mapping.inside.host, mapping.inside.port):
        mapping.gateway.deleteportmapping(mapping.outside.port, "TCP")


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
    except LinkLost:
        raise
    except Exception as error:  # the library raises nothing more special, with UPnP's own words
        reason = str(error) if str(error) not in ("", "Success") else "no router with UPnP answers"
        raise LinkLost(f"no port at the router: {reason}") from error
