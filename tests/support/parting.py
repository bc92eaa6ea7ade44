"""Devices of one folder that part and meet again, each with its own disk, over one store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge


class Folder:
    """Devices of one folder that all had the same files before they parted."""

    def __init__(self, directory: Path, names: str) -> None:
        self.store = MemoryStore(clock=SystemClock())
        self.devices = [Device(directory / name, number) for number, name in enumerate(names, 1)]

    async def begin(self, **files: bytes) -> None:
        self.devices[0].found()
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(self.devices[0].running(self.store))
            for device in self.devices[1:]:
                await device.admitted_by(first)
            for name, data in files.items():
                self.devices[0].write(name, data)
            others = [await stack.enter_async_context(device.running(self.store)) for device in self.devices[1:]]
            await converge(first, *others)

    @asynccontextmanager
    async def meeting(self, *devices: Device) -> AsyncIterator[list[Replica]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(device.running(self.store)) for device in devices or self.devices]

    async def meet(self, *devices: Device) -> None:
        async with self.meeting(*devices) as replicas:
            await converge(*replicas)
            await converge(*replicas)


def contents(device: Device) -> dict[str, bytes]:
    return {name: data for name, (_, data, _) in device.tree().items()}
