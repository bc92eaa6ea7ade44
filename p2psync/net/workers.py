"""Workers: the thread pool behind the `Workers` seam, and its inline twin for simulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from p2psync.net.memory import collect_seldom, keep_freed_buffers
from p2psync.turn import Turn

T = TypeVar("T")


class ThreadWorkers:
    """Runs functions in threads, at most `limit` at once (2 cores want few; blocking disks want some)."""

    def __init__(self, limit: int = 8) -> None:
        keep_freed_buffers()
        collect_seldom()
        self._limiter = trio.CapacityLimiter(limit)
        self.turn = Turn()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


class InlineWorkers:
    """Runs functions in the event loop's own thread: deterministic, and the autojump clock stays honest."""

    def __init__(self) -> None:
        self.turn = Turn()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        await trio.lowlevel.checkpoint()
        return function(*arguments)
