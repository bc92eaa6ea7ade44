"""When this machine's network may have become another: the operating system's word for it, without asking every second.

Linux tells of addresses, routes and cables over netlink (rtnetlink(7)); elsewhere nothing is told and the caller has to
look from time to time, as it should anyway. Says only that something changed, not what. Wireless drivers speak all
day about nothing: what leaves an interface's flags as they were is not passed on.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE."""
_NEW_LINK = 16
_CABLE_FLAGS = 0x1 | 0x40 | 0x10000
"""IFF_UP, IFF_RUNNING, IFF_LOWER_UP."""
_HEADER, _LINK_INFO = struct.Struct("=IHHII"), struct.Struct("=BxHiII")
_DATAGRAM_MAX = 65536

Told = Callable[[], None]
WatchNetwork = Callable[[Told], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def watch_network(told: Told) -> AsyncIterator[None]:
    """Call `told` whenever the network may have changed, for the length of the block."""
    opened = _open()
    if opened is None:
        yield
        return
    with opened:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, opened, told)
            yield
            nursery.cancel_scope.cancel()


def _open() -> trio.socket.SocketType | None:
    if not hasattr(socket, "AF_NETLINK"):
        return None
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None  # a sandbox may forbid it
    try:
        made.bind((0, _GROUPS))
        return trio.socket.from_stdlib_socket(made)
    except OSError:
        made.close()
        return None


async def _listen(opened: trio.socket.SocketType, told: Told) -> None:
    cables: dict[int, int] = {}
    while True:
        try:
            data = await opened.recv(_DATAGRAM_MAX)
        except OSError:
            told()  # ENOBUFS: more happened than it could keep for us
            continue
        if is_news(data, cables):
            told()


def is_news(data: bytes, cables: dict[int, int]) -> bool:
    """Whether one netlink datagram tells more than that all is as before; `cables` remembers interfaces' flags."""
    news, offset = False, 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            break
        body = offset + _HEADER.size
        if kind == _NEW_LINK and body + _LINK_INFO.size <= len(data):
            _, _, index, flags, _ = _LINK_INFO.unpack_from(data, body)
            news |= cables.get(index) != flags & _CABLE_FLAGS
            cables[index] = flags & _CABLE_FLAGS
        else:
            news = True
        offset += (length + 3) & ~3
    return news
