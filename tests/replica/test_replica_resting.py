"""Between two walks the scanner rests: a device that has looked at everything is idle then, and scans what comes next."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2psync.replica import watching
from tests.support.devices import Device, idle, until


async def test_a_device_that_rests_is_idle_until_something_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, 1)
    device.found()
    async with device.running(None) as replica:
        await until(replica, idle)
        monkeypatch.setattr(watching, "_BREATH", 150)
        device.write("first", b"1")
        await until(replica, lambda status: status.local_bytes == 1 and idle(status))
        assert replica._watching._resting
        device.write("second", b"22")
        await until(replica, lambda status: status.state == "scanning" and status.local_bytes == 1, seconds=1)
        await until(replica, lambda status: status.local_bytes == 3 and idle(status))
