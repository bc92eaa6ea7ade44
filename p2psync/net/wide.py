"""Streams that take and give many bytes at once without a copy between, and the plain way for all others.

A link moves frames whose bodies lie in buffers of their own: joining them before every send and cutting them out after
every read costs more than their encryption. A `WideStream` reads into a place the caller has and writes a sequence of
buffers; whoever holds some stream goes through the two functions here and need not know which kind it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import trio

from p2psync.wire.frames import Buffer


class WideStream(trio.abc.Stream):
    @abstractmethod
    async def receive_into(self, room: memoryview) -> int:
        """Fill as much of `room` as is there, at least one byte; 0 only at the end of the stream.

        What was received together may be given out without a checkpoint: some 256 KiB.
        """

    @abstractmethod
    async def send_buffers(self, buffers: Sequence[Buffer]) -> None:
        """`send_all` of these buffers one after another. They must not change until it returns."""


async def receive_into(stream: trio.abc.Stream, room: memoryview) -> int:
    """`WideStream.receive_into` of any stream."""
    if isinstance(stream, WideStream):
        return await stream.receive_into(room)
    data = await stream.receive_some(len(room))
    room[: len(data)] = data
    return len(data)


async def send_buffers(stream: trio.abc.Stream, buffers: Sequence[Buffer]) -> None:
    """`WideStream.send_buffers` of any stream."""
    if isinstance(stream, WideStream):
        await stream.send_buffers(buffers)
    else:
        await stream.send_all(buffers[0] if len(buffers) == 1 else b"".join(buffers))
