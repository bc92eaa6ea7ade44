"""The LAN as a place to call out: datagrams to everybody on the networks this machine is on itself.

Multicast on IPv4 (site-local scope, one hop) and IPv6 (link-local scope), on every interface that has it; interfaces
that come later are joined at the next look. What the datagrams say is not known here, and nobody who hears them is
trusted: a source address can be forged. A machine without a usable interface hears nothing, which is no error.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import trio

from p2psync.errors import LinkLost

LAN_PORT = 21042
GROUP_4 = "239.255.112.50"
GROUP_6 = "ff02::7032:7073"
DATAGRAM_MAX = 2048
_IP_MULTICAST_ALL = 49
"""Linux: hear only the groups this socket joined, not those that any program of the machine did."""
_ALREADY = {errno.EADDRINUSE}
"""What joining a group again says."""
_ABSENT = {errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENETDOWN, errno.EINVAL, errno.EOPNOTSUPP,
           errno.EHOSTUNREACH, errno.ENOBUFS, errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT}  # fmt: skip
"""What an interface says that is down, has no address of the family, or lets nothing out just now."""


class Lan(Protocol):
    async def call(self, data: bytes) -> None:
        """Send to everybody on every network; where it does not go out, nobody hears it."""

    async def hear(self) -> tuple[bytes, str]:
        """The next datagram and the address it says it comes from."""


OpenLan = Callable[[], AbstractAsyncContextManager[Lan]]


class MulticastLan:
    """Made by `open_lan`."""

    def __init__(self, sockets: dict[int, trio.socket.SocketType]) -> None:
        self._sockets = sockets
        self._send, self._receive = trio.open_memory_channel[tuple[bytes, str]](16)

    async def call(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for index, _ in socket.if_nameindex():
            for family, each in self._sockets.items():
                if not (_join(each, family, index) and _choose(each, family, index)):
                    continue
                group = GROUP_4 if family == socket.AF_INET else GROUP_6
                try:
                    await each.sendto(data, (group, LAN_PORT))
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise LinkLost(f"the LAN cannot be called: {error.strerror}") from error

    async def hear(self) -> tuple[bytes, str]:
        return await self._receive.receive()

    async def pump(self, family: int) -> None:
        """Take in what one socket hears; what nobody listens to in time is dropped, as on any network."""
        while True:
            try:
                data, source = await self._sockets[family].recvfrom(DATAGRAM_MAX)
            except OSError as error:
                raise LinkLost(f"the LAN cannot be heard: {error.strerror}") from error
            try:
                self._send.send_nowait((data, _host(source)))
            except trio.WouldBlock:
                await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_lan() -> AsyncIterator[MulticastLan]:
    """Sockets on port 21042, shared with other devices on this machine. LinkLost when there can be none."""
    sockets: dict[int, trio.socket.SocketType] = {}
    families: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)
    try:
        reason = "no network"
        for family in families:
            try:
                sockets[family] = await _open(family)
            except OSError as error:
                reason = error.strerror or str(error)
        if not sockets:
            raise LinkLost(f"devices on the LAN cannot be looked for: {reason}")
        async with trio.open_nursery() as nursery:
            lan = MulticastLan(sockets)
            for index, _ in socket.if_nameindex():
                for family, each in sockets.items():
                    _join(each, family, index)
            for family in sockets:
                nursery.start_soon(lan.pump, family)
            yield lan
            nursery.cancel_scope.cancel()
    finally:
        for each in sockets.values():
            each.close()


async def _open(family: int) -> trio.socket.SocketType:
    made = trio.socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            await made.bind(("", LAN_PORT))
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
            await made.bind(("::", LAN_PORT))
    except BaseException:
        made.close()
        raise
    return made


def _host(source: tuple[Any, ...]) -> str:
    """The address of a sender, as it can be dialled: a link-local one says which network it is on."""
    host = str(source[0])
    if len(source) > 3 and source[3] and "%" not in host:
        return f"{host}%{socket.if_indextoname(source[3])}"
    return host


def _join(each: trio.socket.SocketType, family: int, index: int) -> bool:
    """Hear the group on one interface; False when that has no such network. Joining again is harmless."""
    try:
        if family == socket.AF_INET:
            request = struct.pack("4s4si", socket.inet_aton(GROUP_4), bytes(4), index)
            each.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            request = struct.pack("16si", socket.inet_pton(socket.AF_INET6, GROUP_6), index)
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    except OSError as error:
        return error.errno in _ALREADY
    return True


def _choose(each: trio.socket.SocketType, family: int, index: int) -> bool:
    """Send through this interface from now on; False when it cannot be."""
    try:
        if family == socket.AF_INET:
            each.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), index))
        else:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise LinkLost(f"the LAN cannot be called: {error.strerror}") from error
        return False
    return True
