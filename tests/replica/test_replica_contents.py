"""Small files are read together and described one by one: what is known of each is as of when it was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import open_replica
from p2psync.replica.scanner import look, prepare
from p2psync.seams import SystemClock
from tests.support.devices import Device

TICK = 0.02


class Told(SystemClock):
    """Says what it is told, and the last of it from then on."""

    def __init__(self, *moments: float) -> None:
        self._moments: Iterator[float] = iter(moments)
        self._last = 0.0

    def now(self) -> float:
        self._last = next(self._moments, self._last)
        return self._last


@pytest.mark.parametrize("age", [0.005, -0.005, 2 * TICK])
async def test_a_file_written_a_moment_before_its_group_was_read_is_looked_at_again(tmp_path: Path, age: float) -> None:
    """However long ago that is when its turn comes: a write within the same tick would have left no trace."""
    device = Device(tmp_path, 1)
    device.found()
    device.write("file", b"content")
    written = (device.root / "file").stat().st_ctime_ns / 1e9
    async with open_replica(
        root=device.root, catalog_path=device.catalog, keystore=device.keystore, device=device.keys, clock=device.clock,
        randomness=device.randomness, workers=device.workers,
    ) as replica:  # fmt: skip
        context = replica._context
        with LocalFilesystem(device.root) as context.opened:
            found = look(context, [()])
            context.clock = Told(written + age, written + 10)
            prepared = prepare(context, [each for each in found.candidates if each.path == (b"file",)], lambda: False)
        assert [change.path for unit in prepared.units for change in unit] == [(b"file",)]
        assert prepared.unsettled == ({(b"file",)} if age < TICK else set())
