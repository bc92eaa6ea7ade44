"""Keeping what is displaced when the disk refuses: that change waits, others go on, nothing is dropped silently."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import trio

from p2psync.errors import StorageError
from p2psync.replica import applying
from p2psync.replica.keeping import VERSIONS
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import Replica
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge


class RefusingFilesystem:
    """A real one whose directory of versions takes nothing while `refusal` is set."""

    refusal: Exception | None = None

    def __init__(self, root: Path) -> None:
        self._real = LocalFilesystem(root)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def move(self, source: tuple[bytes, ...], target: tuple[bytes, ...]) -> None:
        if target[: len(VERSIONS)] == VERSIONS and RefusingFilesystem.refusal is not None:
            raise RefusingFilesystem.refusal
        self._real.move(source, target)


async def until(replica: Replica, law: Any) -> None:
    changed = replica._context.changed
    with trio.fail_after(20):
        while True:
            seen = changed.count
            if law(await replica.status()):
                return
            with trio.move_on_after(0.2):
                await changed.wait(seen)


async def test_a_change_whose_old_version_cannot_be_kept_waits_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "_DISK_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(RefusingFilesystem, "refusal", None)
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    a.write("edited", b"old")
    a.write("deleted", b"old as well")
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store, make_filesystem=RefusingFilesystem) as second:  # type: ignore[arg-type]
            await converge(first, second)
            RefusingFilesystem.refusal = StorageError("the disk is full")
            a.write("edited", b"new")
            (a.root / "deleted").unlink()
            a.write("other", b"goes on")
            await converge(first)
            await until(second, lambda status: "other" in b.tree() and len(status.problems) == 2)
            assert b.tree()["edited"][1] == b"old" and b.tree()["deleted"][1] == b"old as well"
            assert all("the disk is full" in reason for _, reason in (await second.status()).problems)
            RefusingFilesystem.refusal = None
            await converge(first, second)
            assert b.tree() == a.tree()
            kept = {path.read_bytes() for path in (b.root / ".p2psync" / "versions").iterdir()}
            assert kept == {b"old", b"old as well"}


async def test_on_another_filesystem_nothing_can_be_kept_and_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RefusingFilesystem, "refusal", OSError(errno.EXDEV, "Invalid cross-device link"))
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    a.write("edited", b"old")
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store, make_filesystem=RefusingFilesystem) as second:  # type: ignore[arg-type]
            await converge(first, second)
            a.write("edited", b"new")
            await converge(first, second)
            assert b.tree() == a.tree() and not list(b.root.rglob(".p2psync.*.tmp"))
            problems = dict((await second.status()).problems)
            assert "another disk" in problems["history"]
