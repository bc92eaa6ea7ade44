"""Where a client is: for limits and the log, and for telling it how the relay sees it.

A web server on this machine may speak for a client; nobody else's word is taken for an address.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import trio

from p2psync.net.network import place
from p2psync.net.websocket import Forwarded


@dataclass(frozen=True, slots=True)
class Caller:
    """`group` is what limits count: an IPv4 address, an IPv6 /64, or a name where there is no address."""

    group: str
    observed: str | None = None
    """host:port as the relay sees the client, port 0 when it is not known; None without an address."""
    on_this_machine: bool = False

    def through(self, proxy: Forwarded | None) -> Caller:
        """The caller behind the web server that this one is, if it is one."""
        if proxy is None or not self.on_this_machine:
            return self
        return _caller(proxy.address, proxy.port)


def caller_of(transport: trio.abc.Stream) -> Caller:
    """Who is at the other end of an accepted connection."""
    if not isinstance(transport, trio.SocketStream):
        address = str(getattr(transport, "address", "local"))
        return Caller(address, place(address, getattr(transport, "port", 0)) if _is_address(address) else None)
    try:
        host, port = transport.socket.getpeername()[:2]
    except OSError:
        return Caller("gone")  # it left between accept and now; its first read says so
    return _caller(host.split("%")[0], port)


def _caller(host: str, port: int) -> Caller:
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    group = str(address)
    if isinstance(address, ipaddress.IPv6Address):
        group = str(ipaddress.ip_network((address, 64), strict=False))
    return Caller(group, place(str(address), port), address.is_loopback)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
