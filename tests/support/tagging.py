"""Two devices that may sync extended attributes, on real disks that keep them, and what a user does with these."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2psync.planner.shaping import FolderType
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, xattrs_of

Pair = tuple[Device, Device, Replica, Replica]


def needs_xattrs(directory: Path) -> Path:
    try:
        os.setxattr(directory, "user.probe", b"1")
        os.removexattr(directory, "user.probe")
    except OSError as error:
        pytest.skip(f"{directory} keeps no extended attributes: {error.strerror}")
    return directory


@asynccontextmanager
async def devices(
    home: Path, first: bool, second: bool, *, other: Path | None = None, type: FolderType = FolderType.SENDRECEIVE
) -> AsyncIterator[Pair]:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=first), Device((other or home) / "b", 2, xattrs=second, type=type)
    a.found()
    async with a.running(store) as one:
        await b.admitted_by(one)
        async with b.running(store) as two:
            yield a, b, one, two


def put(device: Device, name: str, **xattrs: bytes | None) -> None:
    for key, value in xattrs.items():
        if value is None:
            os.removexattr(device.root / name, f"user.{key}")
        else:
            os.setxattr(device.root / name, f"user.{key}", value)


def shown(device: Device, name: str) -> dict[str, bytes]:
    return {key.removeprefix("user."): value for key, value in xattrs_of(device.root / name).items()}


async def problems(replica: Replica) -> dict[str, str]:
    return dict((await replica.status()).problems)


async def fetched(replica: Replica) -> int:
    return sum(source.bytes for source in (await replica.status()).fetched.values())
