"""Three devices, wild changes, partitions and restarts in between: once all have talked, the trees are equal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
import trio

from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge, idle, until

pytestmark = pytest.mark.slow

NAMES = ["a", "b", "c.txt", "d", "e"]
OPERATIONS = [*["write"] * 4, "delete", "rename", "rename", "mkdir", "remove tree", "symlink", "chmod", "touch"]


def somewhere(random: Random, root: Path) -> Path:
    return root.joinpath(*(random.choice(NAMES) for _ in range(random.choice([1, 1, 2, 2, 3]))))


def change(random: Random, device: Device) -> None:
    """One random change a user might make; one that is impossible right now is none."""
    operation, path = random.choice(OPERATIONS), somewhere(random, device.root)
    try:
        if operation in ("write", "rename", "symlink"):
            path.parent.mkdir(parents=True, exist_ok=True)
        match operation:
            case "write":
                path.write_bytes(f"{device.seed} {random.random()}".encode() * random.choice([1, 1, 1, 2000, 9000]))
            case "delete":
                path.unlink()
            case "rename":
                somewhere(random, device.root).rename(path)
            case "mkdir":
                path.mkdir(parents=True)
            case "remove tree":
                shutil.rmtree(path)
            case "symlink":
                path.symlink_to(random.choice(NAMES))
            case "chmod":
                path.chmod(random.choice([0o644, 0o755, 0o600, 0o700]))
            case "touch":
                os.utime(path, (random.randrange(10**9),) * 2)
    except OSError:
        return


def change_some(random: Random, devices: Sequence[Device], most: int) -> None:
    for device in devices:
        for _ in range(random.randrange(most)):
            change(random, device)


@pytest.mark.parametrize("seed", range(24))
async def test_devices_that_have_talked_agree_whatever_happened(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    store = MemoryStore(clock=SystemClock())
    devices = [Device(tmp_path / name, seed * 10 + number) for number, name in enumerate("abc", 1)]
    devices[0].found()
    async with devices[0].running(store) as first:
        for device in devices[1:]:
            await device.admitted_by(first)
        await first.in_sync()
    for _ in range(random.choice([2, 3, 4])):
        online = [device for device in devices if random.random() < 0.6]
        change_some(random, [device for device in devices if device not in online], 6)
        async with AsyncExitStack() as running:
            replicas = [await running.enter_async_context(device.running(store)) for device in online]
            for _ in range(random.randrange(4)):
                change_some(random, online, 4)
                await trio.sleep(random.random() / 5)
            with trio.move_on_after(random.random() / 2):
                await converge(*replicas)
    async with AsyncExitStack() as running:
        replicas = [await running.enter_async_context(device.running(store)) for device in devices]
        await converge(*replicas)
        await converge(*replicas)
        trees = [device.tree() for device in devices]
        assert trees[0] == trees[1] == trees[2]
        assert not any(name.rpartition("/")[2].startswith(".p2psync.") for name in trees[0])
        for replica in replicas:
            status = await until(replica, idle)
            assert (status.need_files, status.problems) == (0, [])
