"""Power fails at any moment of setting extended attributes: whole files have whole sets, what is set one by one is finished, and
none of it is published as a user's change."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from p2psync.replica.filesystem import Path, is_temp_name
from tests.support.devices import Device, tagged_of
from tests.support.power import Stage, make_stage, photographs
from tests.support.simulated_disk import SimulatedDisk
from tests.support.tagging import put

pytestmark = pytest.mark.slow

Tagged = dict[str, dict[str, bytes]]


def prepare(a: Device) -> None:
    a.write("file", b"old content")
    a.write("moved", b"moving " * 20_000)
    (a.root / "directory").mkdir()
    a.write("forbidden", b"not to be written")
    (a.root / "locked").mkdir()
    for name in ("file", "moved", "directory", "forbidden", "locked"):
        put(a, name, kept=b"kept", changed=b"old", removed=b"old")
    (a.root / "forbidden").chmod(0o400)
    (a.root / "locked").chmod(0o500)


def _retag(a: Device, name: str) -> None:
    put(a, name, changed=b"new", removed=None, added=b"new")


def _edit(a: Device) -> None:
    a.write("file", b"new, longer content")
    _retag(a, "file")


def _mode(a: Device) -> None:
    (a.root / "file").chmod(0o400)
    _retag(a, "file")


def _move(a: Device) -> None:
    (a.root / "moved").rename(a.root / "elsewhere")


def _move_and_tag(a: Device) -> None:
    _move(a)
    _retag(a, "elsewhere")


def _make(a: Device) -> None:
    a.write("fresh/file", b"fresh")
    for name in ("fresh", "fresh/file"):
        put(a, name, one=b"1", two=b"2")


def _replace_directory(a: Device) -> None:
    (a.root / "directory").rmdir()
    a.write("directory", b"a file now")
    put(a, "directory", other=b"1")


OPERATIONS: dict[str, Callable[[Device], object]] = {
    "file": lambda a: _retag(a, "file"),
    "directory": lambda a: _retag(a, "directory"),
    "forbidden": lambda a: _retag(a, "forbidden"),
    "locked": lambda a: _retag(a, "locked"),
    "edit": _edit,
    "mode": _mode,
    "move": _move,
    "move and tag": _move_and_tag,
    "make": _make,
    "replace directory": _replace_directory,
}
IN_PLACE = {"file", "directory", "fresh", "forbidden", "locked"}


def stage_of(directory: FilePath, operation: str) -> Stage:
    return make_stage(directory, prepare, OPERATIONS[operation], xattrs=True)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_power_cut_at_any_moment_leaves_no_set_half_done_and_publishes_nothing(
    tmp_path: FilePath, operation: str
) -> None:
    stage = stage_of(tmp_path, operation)
    old, new, content = stage.disk.tagged(), tagged_of(stage.a.root), stage.a.tree()
    assert operation == "move" or old != new
    length, taken = stage.run_length(), photographs(stage, random.Random(0))
    assert sum(len(photograph.disks) for photograph in taken) > 3
    for photograph in taken:
        for disk in photograph.disks:
            _check_whole(disk, old, new, photograph.where)
            stage.put_catalog(photograph.catalog)
            assert stage.run_b(disk) == length, photograph.where
            assert disk.tree() == content and disk.tagged() == new, photograph.where


def _check_whole(disk: SimulatedDisk, old: Tagged, new: Tagged, where: str) -> None:
    """Under every final name a set as one side has it; of what is changed in place each pair."""
    tree, tagged = disk.tree(), disk.tagged()
    for name in tree:
        if name.rpartition("/")[2].startswith(".p2psync."):
            continue
        seen, sides = tagged.get(name, {}), [side.get(name, {}) for side in (old, new)]
        if name in IN_PLACE:
            assert all(any(side.get(key) == value for side in sides) for key, value in seen.items()), (where, name)
        else:
            assert seen in sides, (where, name)


@pytest.mark.parametrize("operation", ["file", "directory", "edit"])
def test_what_a_user_sets_at_any_moment_of_a_change_is_kept_and_published(tmp_path: FilePath, operation: str) -> None:
    stage = stage_of(tmp_path, operation)
    before, catalog = stage.disk.copy(), stage.catalog_files()
    new, moment, reached = tagged_of(stage.a.root), 0, True
    while reached:
        disk = before.copy()
        stage.put_catalog(catalog)
        hook = _Once(disk, moment)
        disk.before = hook
        stage.run_b(disk)
        disk.before = lambda operation, path: None
        stage.run_b(disk)
        reached, shown = hook.count > moment, disk.tagged()
        assert not any(name.rpartition("/")[2].startswith(".p2psync.") for name in disk.tree()), hook.done
        if hook.done:
            mine = [name for name, xattrs in shown.items() if xattrs.get("user.mine") == b"mine"]
            kept = disk.kept_tagged()
            assert mine or any(xattrs.get("user.mine") == b"mine" for xattrs in kept), hook.done
        for name, xattrs in new.items():
            assert {**shown[name], "user.mine": b""} == {**xattrs, "user.mine": b""}, (name, hook.done)
        moment += 1
    assert moment > 1


class _Once:
    """Sets an attribute ahead of one change, at the path it is about, if something stands there."""

    def __init__(self, disk: SimulatedDisk, moment: int) -> None:
        self._disk, self._moment = disk, moment
        self.count, self.done = 0, ""

    def __call__(self, operation: str, path: Path) -> None:
        self.count += 1
        ours = not path or path[0] == b".p2psync" or is_temp_name(path[-1])
        if self.count == self._moment + 1 and not ours and self._disk.stat(path) is not None:
            self._disk.tag(path, b"user.mine", b"mine")
            self.done = f"ahead of {operation} {path}"
