"""A byte stream between two devices through something that only passes bytes on, with an end in each direction.

Neither TLS nor a WebSocket can close one direction alone, so the ends say it themselves: bytes go in pieces of 4 bytes of
length (big endian) and as many bytes; a piece of length 0 ends its direction. A stream that stops without it was cut.
The relay between looks at none of this, and the devices run their own TLS inside it: this framing protects nothing.
"""

from __future__ import annotations

import operator

import trio

from p2psync.net.turns import OneAtATime

PIECE_BYTES = 256 * 1024
READ_BYTES = 64 * 1024
END = bytes(4)
GOODBYE_SECONDS = 2


class SpliceStream(trio.abc.HalfCloseableStream):
    def __init__(self, inner: trio.abc.Stream, already: bytes = b"") -> None:
        """`already` was read from `inner` before it became a splice."""
        self._inner = inner
        self._left = memoryview(already)
        self._missing = 0
        """Bytes of the current piece that have not been given out."""
        self._closed = self._said_end = self._heard_end = False
        self._sending = OneAtATime("sending through this splice")
        self._receiving = OneAtATime("receiving from this splice")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            view = memoryview(data)
            while len(view):
                piece = view[:PIECE_BYTES]
                view = view[PIECE_BYTES:]
                await self._inner.send_all(b"".join((len(piece).to_bytes(4, "big"), piece)))
                self._check_open()

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_open()
            if not self._said_end:
                self._said_end = True
                await self._inner.send_all(END)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with self._receiving:
            if max_bytes is not None and operator.index(max_bytes) < 1:
                raise ValueError("max_bytes must be positive")
            await trio.lowlevel.checkpoint()
            self._check_open()
            while not self._heard_end and not (self._missing and len(self._left)):
                if not self._missing and len(self._left) >= len(END):
                    self._missing = int.from_bytes(self._left[: len(END)], "big")
                    self._left = self._left[len(END) :]
                    self._heard_end = not self._missing
                    if self._missing > PIECE_BYTES:
                        raise trio.BrokenResourceError("the other device broke the splice's protocol")
                else:
                    await self._read()
            count = min(max_bytes or READ_BYTES, self._missing, len(self._left))
            data, self._left = bytes(self._left[:count]), self._left[count:]
            self._missing -= count
            return data

    async def aclose(self) -> None:
        """End our direction and close. What the other device still sends is not waited for."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if not self._said_end and not self._sending.busy:
                with trio.move_on_after(GOODBYE_SECONDS):
                    await self._inner.send_all(END)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # nobody hears it
        finally:
            await self._inner.aclose()

    async def _read(self) -> None:
        data = await self._inner.receive_some(READ_BYTES)
        self._check_open()
        if not data:
            raise trio.BrokenResourceError("the splice was cut")
        self._left = memoryview(bytes(self._left) + data if len(self._left) else data)

    def _check_sendable(self) -> None:
        if self._closed or self._said_end:
            raise trio.ClosedResourceError

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
