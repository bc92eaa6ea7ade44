"""The network seam and its TCP implementation.

Owns connecting and listening, and turns the operating system's errors into LinkLost with a sentence that names the
place. It knows nothing of TLS or frames. A simulation hands in another `Network` (tests/support/links.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from p2psync.errors import LinkLost, UserError
from p2psync.net.sockets import tune

BACKLOG = 1024
"""Many devices come back at once after a relay's restart."""
_SAME_PORT_TRIES = 10
"""IPv4 and IPv6 are given different free ports: one is chosen for both, unless that is just being taken."""


class Connector(Protocol):
    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """An open byte stream to host:port; LinkLost says why there is none."""


class Network(Connector, Protocol):
    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """Listeners on host:port, on all interfaces when host is empty; port 0 picks a free one. UserError if taken."""


def place(host: str, port: int) -> str:
    """host:port as people write it, IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TcpNetwork:
    """Real sockets. Nagle's algorithm is off (trio's default): a small entry must not wait for an acknowledgement."""

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        try:
            stream = await trio.open_tcp_stream(host, port)
            tune(stream.socket)
            return stream
        except OSError as error:
            reason = error.strerror or str(error)
            raise LinkLost(f"cannot connect to {place(host, port)}: {reason}") from error

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        try:
            listeners = await trio.open_tcp_listeners(port, host=host or None, backlog=BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot listen on {place(host or '*', port)}: {reason}; choose another address with --listen"
            ) from error
        for listener in listeners:
            tune(listener.socket)
        return listeners


def bound_port(listener: trio.abc.Listener[trio.abc.Stream]) -> int:
    """The port a listener got (useful with port 0)."""
    if isinstance(listener, trio.SocketListener):
        port: int = listener.socket.getsockname()[1]
        return port
    return int(getattr(listener, "port", 0))


async def listen_on_one_port(network: Network, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    """Listeners that all have one port, which is what devices tell on the LAN. UserError if it is taken."""
    listeners = await network.listen(host, port)
    for _ in range(_SAME_PORT_TRIES):
        chosen = bound_port(listeners[0])
        if all(bound_port(each) == chosen for each in listeners):
            break
        for each in listeners:
            await each.aclose()
        try:
            listeners = await network.listen(host, chosen)
        except UserError:
            listeners = await network.listen(host, 0)
    return listeners
