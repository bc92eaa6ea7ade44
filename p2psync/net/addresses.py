"""Addresses as devices tell them to each other: an IP address and a port, and those this machine has.

Of what others tell only literal addresses count: a name would make a device ask name servers on another's behalf. Names
are for the user of a device to give. Which addresses are told to whom is the node's decision; this module asks the
operating system and reads text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import ifaddr
import trio

from p2psync.errors import UsageError, UserError
from p2psync.net.network import place

DEFAULT_PEER_PORT = 22400
NOWHERE = "none"
_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
FindInterfaces = Callable[[], Sequence[IpInterface]]


@dataclass(frozen=True, slots=True)
class Address:
    """`host` is an IP address in its shortest form, or a name that the user gave."""

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


def parse_place(text: str) -> Address:
    """Read where the user says a device is: an address or a name, with a port or the usual one. UserError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or "]" in port or (":" in host and not host.startswith("[")):
        host, port = text.strip(), str(DEFAULT_PEER_PORT)
    if (literal := parse_address(f"{host}:{port}")) is not None:
        return literal
    plain = host.removeprefix("[").removesuffix("]")
    if port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        try:
            ipaddress.ip_address(plain)
        except ValueError:
            if plain == host and _NAME.fullmatch(host) and not re.fullmatch(r"[0-9.]+", host):
                return Address(host.lower(), int(port))
    raise UserError(f"{text!r} is no place to reach a device at: write host:port, for example desk.example.org:22400")


@dataclass(frozen=True, slots=True)
class Announced:
    """What the user says others can dial; `host` None stands for the address from which a relay sees this device."""

    host: str | None
    port: int


def parse_announced(text: str) -> Announced:
    """Read what `--announce` says: an IP address and a port, or :port. UsageError for anything else."""
    host, colon, port = text.rpartition(":")
    if colon and not host and parse_address(f"127.0.0.1:{port}") is not None:
        return Announced(None, int(port))
    address = parse_address(text)
    if address is None:
        raise UsageError(
            f"--announce takes an IP address with a port, or :port for the address a relay sees, not {text!r}; "
            "names do not count, because other devices look up none that they are told"
        )
    return Announced(address.host, address.port)


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
