"""Three devices with one folder and a store, days that pass for them, and snapshots of their feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2psync.index.membership import Role
from p2psync.net.workers import InlineWorkers
from p2psync.planner.attendance import DAY
from p2psync.replica import upkeep
from p2psync.replica.attendance import attend
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.clocks import MovedClock
from tests.support.devices import Device, converge
from tests.support.power import still_watcher


@dataclass
class Members:
    """Three devices and a store; the first is the admin."""

    home: Path
    store: MemoryStore = field(default_factory=lambda: MemoryStore(clock=SystemClock()))
    devices: list[Device] = field(default_factory=list)

    async def begin(self, third: Role = Role.WRITER) -> None:
        self.devices = [
            Device(self.home / name, seed, MovedClock(), InlineWorkers()) for seed, name in enumerate("abc", 1)
        ]
        self.devices[0].found()
        async with self.running(self.devices[0]) as (first,):
            for device, role in zip(self.devices[1:], (Role.WRITER, third), strict=True):
                await device.admitted_by(first, role)

    @asynccontextmanager
    async def running(self, *devices: Device) -> AsyncIterator[list[Replica]]:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(device.running(self.store, watcher=still_watcher)) for device in devices
            ]

    async def meet(self, *devices: Device) -> None:
        async with self.running(*devices) as replicas:
            await converge(*replicas, seconds=3600)

    def change(self, number: int, **contents: str | None) -> None:
        for name, content in contents.items():
            if content is None:
                (self.devices[number].root / name).unlink()
            else:
                self.devices[number].write(name, content.encode())


async def pass_days(days: int, *replicas: Replica) -> None:
    """Days on the clocks of these devices, with a look and a word every day, and a talk now and then."""
    for day in range(days):
        for replica in replicas:
            clock = replica._context.clock
            assert isinstance(clock, MovedClock)
            clock.ahead += DAY
            attend(replica._context)
            replica._context.feeds_grew.notify()
        if day % 20 == 0 or day == days - 1:
            await converge(*replicas, seconds=3600)


async def sum_up(*replicas: Replica) -> None:
    for replica in replicas:
        assert await upkeep.sum_up(replica._context)
    await converge(*replicas, seconds=3600)
