"""TCP simultaneous open: two devices behind NATs dial each other from fixed ports at the same moment, and meet midway.

A NAT lets a packet in when it looks like the answer to one that went out. When both ends send their SYN to the other's
outside address, each NAT takes the other's SYN for an answer, and TCP makes one connection of the two (RFC 793, 3.4).
It works where a NAT keeps one outside port for one inside port; where it picks ports at random nobody knows where to
dial, and devices fall back to a splice.

This module owns the port and the dialling. The caller learns the outside address (a relay tells it to a connection from
the same port), exchanges it, agrees on the moment, and decides who plays the server afterwards. It trusts nobody it
reaches: what comes after must prove itself.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

import trio

from p2psync.errors import LinkLost
from p2psync.net.network import Connector, place
from p2psync.net.sockets import tune

ATTEMPT_SECONDS = 1.5
"""A lost SYN is sent again by a new attempt before the kernel's growing pauses would."""
PAUSE_SECONDS = 0.02
"""After a refusal: the other end, or its NAT, was not ready yet. Both ends retry, so they meet within a round trip."""
_HOPELESS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES})


class OutsidePort(Connector, Protocol):
    """A port that dials a relay, to learn how it looks from outside, and then a device that dials it."""

    def __enter__(self) -> OutsidePort: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def punch(self, peer: tuple[str, int], seconds: float) -> trio.abc.Stream: ...


OpenPort = Callable[[socket.AddressFamily], OutsidePort]


class LocalPort:
    """A TCP port of this machine from which any number of connections go out. Use it as a context manager."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        """LinkLost when this machine has no addresses of the family."""
        self._family = family
        try:
            self._held = self._open(0)
        except OSError as error:
            raise LinkLost(f"no port can be opened: {error.strerror or error}") from error
        self.port: int = self._held.getsockname()[1]

    def __enter__(self) -> LocalPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def dialler(self) -> trio.socket.SocketType:
        """A fresh socket that dials from this port."""
        return self._open(self.port)

    async def punch(self, peer: tuple[str, int], seconds: float) -> trio.SocketStream:
        """Dial `peer` (a numeric address and port) from this port again and again, while it does the same.

        LinkLost when they have not met within `seconds`: the NATs between do not let it happen, or the other device did
        not dial. Simultaneous opens are symmetric: both ends get a stream, and neither is the server.
        """
        reason = "nobody answered"
        with trio.move_on_after(seconds):
            while True:
                dialler, stream = self.dialler(), None
                try:
                    with trio.move_on_after(ATTEMPT_SECONDS):
                        await dialler.connect(peer)
                        stream = trio.SocketStream(dialler)
                        return stream
                except OSError as error:
                    reason = error.strerror or str(error)
                    if error.errno in _HOPELESS:
                        break
                finally:
                    if stream is None:
                        dialler.close()
                await trio.sleep(PAUSE_SECONDS)
        raise LinkLost(f"no direct way to {place(*peer)}: {reason}")

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """A connection from this port; as `Network.connect`, for one family of addresses only."""
        try:
            found = await trio.socket.getaddrinfo(host, port, self._family, socket.SOCK_STREAM)
            dialler = self.dialler()
            try:
                await dialler.connect(found[0][4])
            except BaseException:
                dialler.close()
                raise
        except OSError as error:
            reason = error.strerror or str(error)
            raise LinkLost(f"cannot connect to {place(host, port)} from port {self.port}: {reason}") from error
        return trio.SocketStream(dialler)

    def _open(self, port: int) -> trio.socket.SocketType:
        opened = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            tune(opened)
            opened.bind(("", port))  # the operating system's, not trio's: nothing is looked up, so nothing blocks
            return trio.socket.from_stdlib_socket(opened)
        except BaseException:
            opened.close()
            raise
