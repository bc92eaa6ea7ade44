"""Networks and relays for tests: an in-memory network that a test can cut, and relays that run in this process."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio
import trio.testing

from p2psync.errors import LinkLost, UserError
from p2psync.net.network import Network, TcpNetwork
from p2psync.net.urls import RelayUrl
from p2psync.net.workers import InlineWorkers, ThreadWorkers
from p2psync.seams import Clock, Randomness, SystemClock, Workers
from relay.server import Running, Settings, run_relay

PIPE_BYTES = 64 * 1024
"""What a pipe of the memory network holds before its sender waits, as a socket's buffer would."""


class SeededRandomness:
    """Predictable bytes: the same seed gives the same keys, nonces and traces."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class _Pipe:
    """One direction of a memory connection."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = self.broken = False
        self.changed = trio.lowlevel.ParkingLot()

    def change(self) -> None:
        self.changed.unpark_all()


class _OneAtATime:
    """Two tasks in one direction of a stream is a bug of theirs."""

    def __init__(self, what: str) -> None:
        self._what, self._busy = what, False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._what}")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a memory connection, with a bounded buffer in each direction."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, address: str, port: int = 0) -> None:
        """`address`, `port`: where the other end is; port 0 stands for any."""
        self._in, self._out, self.address, self.port = incoming, outgoing, address, port
        self._closed = False
        self._sending = _OneAtATime("sending")
        self._reading = _OneAtATime("receiving")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            view = memoryview(data)
            while len(view):
                while len(self._out.buffer) >= PIPE_BYTES:
                    await self._out.changed.park()
                    self._check_sendable()
                count = min(len(view), PIPE_BYTES - len(self._out.buffer))
                self._out.buffer += view[:count]
                view = view[count:]
                self._out.change()

    def _check_sendable(self) -> None:
        if self._closed or self._out.ended:
            raise trio.ClosedResourceError
        if self._out.broken:
            raise trio.BrokenResourceError("cut")

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            while len(self._out.buffer) >= PIPE_BYTES and not self._out.broken and not self._closed:
                await self._out.changed.park()
            if self._closed or self._out.ended:
                raise trio.ClosedResourceError

    async def send_eof(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError
            self._out.ended = True
            self._out.change()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with self._reading:
            await trio.lowlevel.checkpoint()
            if max_bytes is not None and operator.index(max_bytes) < 1:
                raise ValueError("max_bytes must be positive")
            while not self._closed and not self._in.buffer and not self._in.ended and not self._in.broken:
                await self._in.changed.park()
            if self._closed:
                raise trio.ClosedResourceError
            if self._in.broken and not self._in.ended:
                raise trio.BrokenResourceError("cut")
            count = min(max_bytes or PIPE_BYTES, len(self._in.buffer))
            data = bytes(self._in.buffer[:count])
            del self._in.buffer[:count]
            self._in.change()
            return data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._out.ended = True
            self._in.broken = True
            self._out.change()
            self._in.change()
        await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Break the connection for both ends, as a lost network does once it is noticed."""
        for pipe in (self._in, self._out):
            if not pipe.ended:
                pipe.broken = True
            pipe.change()


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Both ends of a connection."""
    up, down = _Pipe(), _Pipe()
    return MemoryStream(down, up, ""), MemoryStream(up, down, "")


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self, network: MemoryNetwork, host: str, port: int) -> None:
        self._network, self._host, self.port = network, host, port
        self._send, self._receive = trio.open_memory_channel[MemoryStream](1024)

    async def accept(self) -> trio.abc.Stream:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        self._network.forget(self.port)
        self._send.close()
        self._receive.close()
        await trio.lowlevel.checkpoint()

    def offer(self, stream: MemoryStream) -> None:
        self._send.send_nowait(stream)


class MemoryNetwork:
    """host:port places in memory. `cut_all` breaks what is connected, `unreachable` holds hosts nobody can reach."""

    def __init__(self, address: str = "10.0.0.1", own_port: int = 0) -> None:
        self._address, self._own_port = address, own_port
        self._listeners: dict[int, MemoryListener] = {}
        self._next_port = 40_000
        self.streams: list[MemoryStream] = []
        self.unreachable: set[str] = set()
        self._parent = self

    def seen_from(self, address: str, port: int = 0) -> MemoryNetwork:
        """The same network, used by a device with another address."""
        other = MemoryNetwork(address, port)
        other._parent = self._parent
        return other

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        listener = self._parent._listeners.get(port)
        if listener is None or host in self._parent.unreachable:
            raise LinkLost(f"cannot connect to {host}:{port}: nobody listens there")
        ours, theirs = memory_pair()
        ours.address, theirs.address, theirs.port = f"{host}:{port}", self._address, self._own_port
        listener.offer(theirs)
        self._parent.streams.append(ours)
        return ours

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        await trio.lowlevel.checkpoint()
        root = self._parent
        if not port:
            root._next_port += 1
            port = root._next_port
        if port in root._listeners:
            raise UserError(f"cannot listen on {host}:{port}: taken")
        root._listeners[port] = MemoryListener(root, host, port)
        return [root._listeners[port]]

    def forget(self, port: int) -> None:
        self._listeners.pop(port, None)

    def cut_all(self) -> None:
        for stream in self._parent.streams:
            stream.cut()
        self._parent.streams.clear()


@asynccontextmanager
async def running_relay(
    directory: Path,
    *,
    network: Network | None = None,
    clock: Clock | None = None,
    randomness: Randomness | None = None,
    workers: Workers | None = None,
    open_to_all: bool = True,
    quota: int | None = None,
    port: int = 0,
    public_url: RelayUrl | None = None,
) -> AsyncIterator[Running]:
    """A relay in this process: over TCP on 127.0.0.1, or in `network`. Stopped at the end of the block."""
    settings = Settings(directory, "127.0.0.1", port, open_to_all=open_to_all, quota=quota, public_url=public_url)
    inline = isinstance(network, MemoryNetwork)

    async def serve(task_status: trio.TaskStatus[Running]) -> None:
        await run_relay(
            settings,
            network=network or TcpNetwork(),
            clock=clock or SystemClock(),
            randomness=randomness or SeededRandomness(1),
            workers=workers or (InlineWorkers() if inline else ThreadWorkers()),
            task_status=task_status,
        )

    async with background(serve) as running:
        yield running


@asynccontextmanager
async def background(serve: Callable[..., Awaitable[object]]) -> AsyncIterator[Running]:
    """Start a task, give what it started with, stop it; the block's own error comes out bare."""
    try:
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(serve)
            try:
                yield running
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
