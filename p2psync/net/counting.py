"""Bytes that pass over a connection, and how many a second just now.

Counts what the transport carries, TLS included: what a user pays for. It knows no frames.
"""

from __future__ import annotations

import trio

SPAN_SECONDS = 5.0
"""Rates are taken over about this long, so that they can be read."""
_STEP_SECONDS = 0.5


class Meter:
    """A growing total with its rate over the last seconds."""

    def __init__(self) -> None:
        self.total = 0
        self._marks: list[tuple[float, int]] = [(trio.current_time(), 0)]
        """(time, total before), oldest first, at least _STEP_SECONDS apart."""

    def add(self, count: int) -> None:
        self._mark()
        self.total += count

    def rate(self) -> int:
        """Bytes per second over the last SPAN_SECONDS."""
        self._mark()
        since, before = self._marks[0]
        return int((self.total - before) / max(trio.current_time() - since, _STEP_SECONDS))

    def _mark(self) -> None:
        now = trio.current_time()
        if now - self._marks[-1][0] >= _STEP_SECONDS:
            self._marks.append((now, self.total))
        while len(self._marks) > 1 and self._marks[1][0] <= now - SPAN_SECONDS:
            del self._marks[0]


class CountedStream(trio.abc.Stream):
    """A stream that counts: `received` and `sent`."""

    def __init__(self, transport: trio.abc.Stream) -> None:
        self._transport = transport
        self.received, self.sent = Meter(), Meter()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send_all(data)
        self.sent.add(len(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._transport.receive_some(max_bytes)
        self.received.add(len(data))
        return data

    async def aclose(self) -> None:
        await self._transport.aclose()
