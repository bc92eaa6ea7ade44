"""What is asked of the kernel for every TCP connection, so that it bears loss and long ways and notices dead ones.

Owns the options and their reasons. A kernel that does not know one goes without it: nothing here is needed to be
correct. Options set on a listener hold for what it accepts.
"""

from __future__ import annotations

import socket

import trio

CONGESTION = b"bbr"
"""Cubic and Reno take every loss for a full queue: at 200 ms and 5 % they move some 40 kB/s. BBR measures the path
instead, and paces by itself (Linux 4.20). It is taken where the kernel offers it; decision 0021."""
UNANSWERED_SECONDS = 30
"""Sent bytes that nobody confirms for this long mean that the connection is dead (RFC 5482, TCP_USER_TIMEOUT)."""
RETRY_SECONDS = 4
"""Longest pause between two retries of a lost segment (Linux 6.15): otherwise a connection that outlives an outage
goes on only after as long again."""
_RETRY_MILLISECONDS_OPTION = 44
"""TCP_RTO_MAX_MS in <linux/tcp.h>; Python has no name for it yet."""


def tune(opened: trio.socket.SocketType | socket.socket) -> None:
    """Ask for all that this kernel offers, before or after the connection is made."""
    wanted = (
        (getattr(socket, "TCP_CONGESTION", None), CONGESTION),
        (getattr(socket, "TCP_USER_TIMEOUT", None), UNANSWERED_SECONDS * 1000),
        (_RETRY_MILLISECONDS_OPTION if hasattr(socket, "TCP_USER_TIMEOUT") else None, RETRY_SECONDS * 1000),
    )
    for option, value in wanted:
        if option is not None:
            _ask(opened, option, value)


def _ask(opened: trio.socket.SocketType | socket.socket, option: int, value: int | bytes) -> bool:
    """Whether the kernel agreed."""
    try:
        opened.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        return False  # it does not know the option, or keeps it from this user: the connection is good without
    return True
