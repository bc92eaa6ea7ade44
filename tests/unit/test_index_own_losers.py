"""A device that writes over the winner keeps its own losing version: its next counter covers that one."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge


@pytest.mark.parametrize("deletes", [False, True])
async def test_an_edit_over_the_winner_keeps_both_conflict_copies(tmp_path: Path, deletes: bool) -> None:
    """Property 58: whichever of the two lost, its content stays in its conflict copy after it edits the winner."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            a.write("note.md", b"base")
            await converge(first, second)
    a.write("note.md", b"from a")
    b.write("note.md", b"from b")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        for device in (a, b):
            if deletes:
                (device.root / "note.md").unlink()
            else:
                device.write("note.md", b"later by " + device.home.name.encode())
            await converge(first, second)
            if deletes:
                device.write("note.md", b"again")
                await converge(first, second)
        assert a.tree() == b.tree()
        assert len(a.tree()) == 2
        lost = next(content for name, (_, content, _) in a.tree().items() if "conflict" in name)
        assert lost in (b"from a", b"from b")


@pytest.mark.parametrize("deletes", [False, True])
async def test_what_a_deleted_conflict_copy_held_never_comes_back_under_the_name(tmp_path: Path, deletes: bool) -> None:
    """Who deletes the copy has chosen what stands, whoever changes that afterwards, and whoever wrote what lost."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    names = [f"{number}.md" for number in range(8)]  # either device's text stands in some
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            for name in names:
                a.write(name, b"base of " + name.encode())
            await converge(first, second)
    for device in (a, b):
        for name in names:
            device.write(name, device.home.name.encode() + b" wrote " + name.encode())
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        for copy in a.root.glob("*.sync-conflict-*"):
            copy.unlink()
        await converge(first, second)
        assert sorted(a.tree()) == names
        for name in names:
            if deletes:
                (b.root / name).unlink()
            else:
                b.write(name, b"later " + name.encode())
        await converge(first, second)
        later = {} if deletes else {name: b"later " + name.encode() for name in names}
        for device in (a, b):
            assert {name: data for name, (_, data, _) in device.tree().items()} == later
