"""The blind stores that the conformance suite runs, each behind the same factory.

To add one, write an async context manager that takes a directory, a clock and a quota, and add it to STORE_FACTORIES.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from p2psync.net.workers import InlineWorkers, ThreadWorkers
from p2psync.store.disk import open_disk_store
from p2psync.store.interface import BlindStore
from p2psync.store.memory import MemoryStore


class SettableClock:
    """A wall clock that stands still until a test moves it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time


StoreFactory = Callable[[Path, SettableClock, int | None], AbstractAsyncContextManager[BlindStore]]


@asynccontextmanager
async def memory_store(directory: Path, clock: SettableClock, quota: int | None) -> AsyncIterator[BlindStore]:
    yield MemoryStore(clock=clock, quota=quota)


@asynccontextmanager
async def disk_store(directory: Path, clock: SettableClock, quota: int | None) -> AsyncIterator[BlindStore]:
    async with open_disk_store(directory, workers=InlineWorkers(), clock=clock, quota=quota) as store:
        yield store


@asynccontextmanager
async def threaded_disk_store(directory: Path, clock: SettableClock, quota: int | None) -> AsyncIterator[BlindStore]:
    async with open_disk_store(directory, workers=ThreadWorkers(), clock=clock, quota=quota) as store:
        yield store


STORE_FACTORIES: dict[str, StoreFactory] = {
    "memory": memory_store,
    "disk": disk_store,
    "disk in threads": threaded_disk_store,
}
