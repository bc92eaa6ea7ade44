"""A budget of bytes in memory: whoever needs some waits in line until enough is free.

First come, first served, so a large request is not starved by small ones. It bounds memory by waiting, never by
refusing. A request larger than the whole budget gets it alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Budget:
    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._line: deque[tuple[int, trio.Event]] = deque()

    @property
    def free(self) -> int:
        return self._free

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """Hold `count` bytes of the budget for the length of the block."""
        count = min(count, self._total)
        await self._take(count)
        try:
            yield
        finally:
            self._free += count
            self._admit()

    async def _take(self, count: int) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._line and count <= self._free:
            self._free -= count
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        place = (count, trio.Event())
        self._line.append(place)
        try:
            await place[1].wait()
        except BaseException:
            if place[1].is_set():
                self._free += count
            else:
                self._line.remove(place)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._line and self._line[0][0] <= self._free:
            count, admitted = self._line.popleft()
            self._free -= count
            admitted.set()
