"""A name that is gone is told as deleted only after a pause of its own, in which the new name may be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.index.versions import Kind
from p2psync.net.workers import InlineWorkers
from p2psync.replica.watching import SETTLE_SECONDS
from tests.support.devices import Device
from tests.support.power import still_watcher


@pytest.mark.parametrize("seen_gone", [True, False])
async def test_a_directory_renamed_just_before_another_pause_ends_is_still_told_as_a_rename(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, seen_gone: bool
) -> None:
    """Whether it was looked for between its going from the old place and its coming to the new one, or not at all yet."""
    device = Device(tmp_path, 1, workers=InlineWorkers())
    device.found()
    device.write("deleted", b"1")
    device.write("old/file", b"2")
    async with device.running(None, watcher=still_watcher) as replica:
        await replica.rescan()
        notice = replica._watching._notice
        (device.root / "deleted").unlink()
        notice({(): {b"deleted"}})
        await trio.sleep(SETTLE_SECONDS * 0.9)
        (device.root / "old").rename(tmp_path / "under way")
        notice({(): {b"old"}} if seen_gone else {})
        await trio.sleep(SETTLE_SECONDS * 0.2)
        (tmp_path / "under way").rename(device.root / "new")
        notice({(): {b"old", b"new"}})
        await trio.sleep(SETTLE_SECONDS * 3)
        rows = replica._context.catalog._db.query(
            "SELECT p.dir, p.name, kind, seq FROM past JOIN past_path p ON p.id = past.path"
        )
        told = {row[:3]: row[3] for row in rows}
        assert (b"", b"deleted", Kind.DELETED) in told
        assert told[b"old", b"file", Kind.DELETED] == told[b"new", b"file", Kind.FILE], "in one entry"
