"""Who comes from Syncthing with a `.stignore` publishes nothing that it names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2psync.errors import UserError
from p2psync.planner.ignoring import LOCAL, SHARED, IgnoreError
from p2psync.replica.importing import check_importable, import_at_first, import_ignores
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.replica.test_replica_two_devices import two_devices
from tests.support.devices import Device, converge

STIGNORE = b"// mine\n(?d).DS_Store\n!/build/keep\n/build\n#include more\n"


def test_the_file_is_taken_over_as_it_is_and_nothing_there_is_ever_replaced(tmp_path: Path) -> None:
    with LocalFilesystem(tmp_path) as disk:
        with pytest.raises(UserError, match=r"there is no \.stignore"):
            import_ignores(disk, LOCAL)
        (tmp_path / ".stignore").write_bytes(STIGNORE)
        with pytest.raises(IgnoreError, match=r"\.stignore, line 5: there is no file more"):
            import_ignores(disk, LOCAL)
        (tmp_path / "more").write_bytes(b"*.tmp\n*.bak\n")
        assert import_ignores(disk, LOCAL) == import_ignores(disk, LOCAL) == 5
        assert (tmp_path / ".p2pignore.local").read_bytes() == (tmp_path / ".stignore").read_bytes() == STIGNORE
        (tmp_path / ".p2pignore").write_bytes(b"other\n")
        with pytest.raises(UserError, match="is there already"):
            import_ignores(disk, SHARED)
        assert (tmp_path / ".p2pignore").read_bytes() == b"other\n"
        assert sorted(os.listdir(tmp_path)) == [".p2pignore", ".p2pignore.local", ".stignore", "more"]


def test_a_folders_first_import_leaves_patterns_of_this_device_alone(tmp_path: Path) -> None:
    import_at_first(tmp_path)
    check_importable(tmp_path / "missing")
    assert os.listdir(tmp_path) == []
    (tmp_path / ".stignore").write_bytes(b"a\n")
    (tmp_path / ".p2pignore.local").write_bytes(b"b\n")
    import_at_first(tmp_path)
    assert (tmp_path / ".p2pignore.local").read_bytes() == b"b\n"


@pytest.mark.parametrize("bad", [b"(?x)foo\n", b"#escape=|\n", b"[z-a\n", b"\xff\n"])
def test_what_is_not_understood_stops_before_anything_is_made(tmp_path: Path, bad: bytes) -> None:
    device = Device(tmp_path / "a", 1)
    device.write(".stignore", bad)
    with pytest.raises(IgnoreError, match=r"\.stignore, line 1"):
        device.found()
    with pytest.raises(IgnoreError, match=r"\.stignore, line 1"):
        check_importable(device.root)
    assert os.listdir(device.root) == [".stignore"]


@pytest.mark.slow
async def test_neither_who_shares_nor_who_joins_publishes_what_syncthing_ignored(tmp_path: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    for device in (a, b):
        device.write(".stignore", f"/secret-{device.seed}\n".encode())
        device.write(f"secret-{device.seed}", b"s")
        device.write(f"open-{device.seed}", b"o")
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert sorted(a.tree()) == [".p2pignore.local", ".stignore", "open-1", "open-2", "secret-1"]
            assert sorted(b.tree()) == [".p2pignore.local", ".stignore", "open-1", "open-2", "secret-2"]
            assert (await second.status()).shape.ignore_patterns == 1


@pytest.mark.slow
async def test_a_running_folder_takes_patterns_over_for_all_devices(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("x.bak", b"1")
        await converge(first, second)
        a.write(".stignore", b"*.bak\n")
        assert await first.reshaping.import_ignores(shared=True) == (1, ".p2pignore")
        await converge(first, second)
        a.write("y.bak", b"1")
        b.write("z.bak", b"1")
        await converge(first, second)
        assert sorted(a.tree()) == [".p2pignore", ".stignore", "x.bak", "y.bak"]
        assert sorted(b.tree()) == [".p2pignore", "x.bak", "z.bak"]
