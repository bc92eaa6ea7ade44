"""The blind stores that the conformance suite runs, each behind the same factory.

To add one, write an async context manager that takes a directory, a clock and a quota, and add it to STORE_FACTORIES.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from p2psync.crypto.signing import SigningKey
from p2psync.net.network import Network, TcpNetwork
from p2psync.net.workers import InlineWorkers, ThreadWorkers
from p2psync.session.relay_link import open_relay_link
from p2psync.session.remote import RemoteStore
from p2psync.store.disk import open_disk_store
from p2psync.store.interface import BlindStore
from p2psync.store.memory import MemoryStore
from p2psync.wire.login import Right
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay


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


@asynccontextmanager
async def relay_in_memory(directory: Path, clock: SettableClock, quota: int | None) -> AsyncIterator[BlindStore]:
    async with remote_store(directory, MemoryNetwork(), clock, quota) as store:
        yield store


@asynccontextmanager
async def relay_over_tcp(directory: Path, clock: SettableClock, quota: int | None) -> AsyncIterator[BlindStore]:
    async with remote_store(directory, TcpNetwork(), clock, quota) as store:
        yield store


@asynccontextmanager
async def remote_store(
    directory: Path, network: Network, clock: SettableClock, quota: int | None
) -> AsyncIterator[RemoteStore]:
    """A namespace of its own at a relay of its own, with all rights."""
    async with running_relay(directory, network=network, clock=clock, quota=quota) as running:
        async with open_relay_link(running.url, network=network, clock=clock, randomness=SeededRandomness(2)) as link:
            owner = SigningKey(bytes(32))
            yield await link.login(await link.create_namespace(owner), owner, Right.OWN)


STORE_FACTORIES: dict[str, StoreFactory] = {
    "memory": memory_store,
    "disk": disk_store,
    "disk in threads": threaded_disk_store,
    "relay in memory": relay_in_memory,
    "relay over TCP": relay_over_tcp,
}
