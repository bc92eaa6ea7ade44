"""Addresses as devices tell them to each other: an IP address and a port, and those this machine has.

Only literal addresses count: a name would make a member's device ask name servers on another's behalf. Which of them
are told to whom is the node's decision; this module asks the operating system and reads text.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import ifaddr
import trio

from p2psync.errors import UsageError
from p2psync.net.network import place

DEFAULT_PEER_PORT = 22400
NOWHERE = "none"

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
FindInterfaces = Callable[[], Sequence[IpInterface]]


@dataclass(frozen=True, slots=True)
class Address:
    """`host` is an IP address in its shortest form."""

    host: str
    port: int

    def __str__(self) -> str:
        return place(self.host, self.port)


def parse_address(text: str) -> Address | None:
    """Read `1.2.3.4:5` or `[::1]:5`; None for anything that is no address to dial."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]") if host.startswith("[") else host)
    except ValueError:
        return None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return None
    if address.is_multicast or address.is_unspecified:
        return None
    return Address(str(address), int(port))


def parse_listen(text: str) -> tuple[str, int] | None:
    """What `--listen` says: (host or "" for all interfaces, port); None for `none`. UsageError for anything else."""
    if text == NOWHERE:
        return None
    host, colon, port = text.rpartition(":")
    if not colon and "." in text:
        host, port = text, str(DEFAULT_PEER_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"--listen takes host:port, :port or none, not {text!r}")
    return host, int(port)


def interfaces() -> list[IpInterface]:
    """The addresses of this machine's interfaces with their networks, without IPv6 link-local ones (they need a zone)."""
    found: list[IpInterface] = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            host = each.ip if isinstance(each.ip, str) else each.ip[0]
            interface = ipaddress.ip_interface(f"{host}/{each.network_prefix}")
            if not (interface.version == 6 and interface.is_link_local):
                found.append(interface)
    return found


def told_addresses(listening: Iterable[Address], known: Sequence[IpInterface]) -> list[Address]:
    """Where others may reach listeners bound to `listening`: a wildcard stands for every interface but loopback."""
    told: list[Address] = []
    for bound in listening:
        address = ipaddress.ip_address(bound.host)
        if not address.is_unspecified:
            told.append(bound)
            continue
        told += [
            Address(str(interface.ip), bound.port)
            for interface in known
            if interface.version == address.version and not interface.is_loopback
        ]
    return list(dict.fromkeys(told))


def on_link(host: str, known: Sequence[IpInterface]) -> bool:
    """Whether `host` is on a network this machine is on itself: no router stands between."""
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local or any(address in interface.network for interface in known)


def bound_address(listener: trio.abc.Listener[trio.abc.Stream]) -> Address | None:
    """Where a TCP listener stands; None for other kinds."""
    if not isinstance(listener, trio.SocketListener):
        return None
    host, port = listener.socket.getsockname()[:2]
    return Address(host.split("%")[0], port)


def remote_host(transport: trio.abc.Stream) -> str | None:
    """The address at the other end of a TCP connection, None when there is none."""
    if not isinstance(transport, trio.SocketStream):
        return None
    try:
        host: str = transport.socket.getpeername()[0]
    except OSError:
        return None  # it left already; whoever reads next is told
    return host
