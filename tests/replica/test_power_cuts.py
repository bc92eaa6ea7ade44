"""Power fails at any moment and takes with it any part of what was not synced: nothing torn, nothing published as an edit,
and what a change displaced is among the local versions."""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from p2psync.replica.filesystem import Kind, Path, is_temp_name
from tests.support.devices import Device
from tests.support.power import make_stage, photographs
from tests.support.simulated_disk import SimulatedDisk

pytestmark = pytest.mark.slow
MINE = b"what the user wrote"


def prepare(a: Device) -> None:
    a.write("edited", b"old " * 30_000)
    a.write("small", b"old")
    a.write("deleted", b"to go")
    a.write("moved/here", b"moving " * 20_000)
    a.write("file", b"a file, later a directory")
    (a.root / "directory").mkdir()
    a.write("mode", b"executable later")
    (a.root / "link").symlink_to("old target")


def _replace_link(a: Device) -> None:
    (a.root / "link").unlink()
    (a.root / "link").symlink_to("new target")


def _file_to_directory(a: Device) -> None:
    _file_to_empty_directory(a)
    a.write("file/inside", b"inside")


def _file_to_empty_directory(a: Device) -> None:
    if (a.root / "file").is_file():
        (a.root / "file").unlink()
    (a.root / "file").mkdir(exist_ok=True)


def _directory_to_file(a: Device) -> None:
    (a.root / "directory").rmdir()
    a.write("directory", b"now a file")


OPERATIONS: dict[str, Callable[[Device], object]] = {
    "create": lambda a: a.write("created", b"new"),
    "create large": lambda a: a.write("deep/down/large", random.Random(1).randbytes(300_000)),
    "edit": lambda a: a.write("small", b"new"),
    "edit large": lambda a: a.write("edited", b"new " * 40_000),
    "delete": lambda a: (a.root / "deleted").unlink(missing_ok=True),
    "rename": lambda a: (a.root / "mode").rename(a.root / "renamed"),
    "move directory": lambda a: (a.root / "moved").rename(a.root / "elsewhere"),
    "make directory": lambda a: (a.root / "fresh").mkdir(),
    "file to directory": _file_to_directory,
    "file to empty directory": _file_to_empty_directory,
    "directory to file": _directory_to_file,
    "link": _replace_link,
    "mode": lambda a: (a.root / "edited").chmod(0o755),
}
PAIRS = [(one, two) for one, two in itertools.permutations(OPERATIONS, 2)]
EVERYDAY = [(name,) for name in OPERATIONS] + random.Random(7).sample(PAIRS, 4)
"""All pairs take ten minutes: NIGHT_TESTS=1 runs them."""
WORKLOADS = [*((name,) for name in OPERATIONS), *PAIRS] if os.environ.get("NIGHT_TESTS") else EVERYDAY


@pytest.mark.parametrize("workload", WORKLOADS, ids=" + ".join)
def test_a_power_cut_at_any_moment_tears_nothing_and_publishes_nothing(
    tmp_path: FilePath, workload: tuple[str, ...]
) -> None:
    def change(a: Device) -> None:
        for name in workload:
            OPERATIONS[name](a)

    stage = make_stage(tmp_path, prepare, change)
    old, new = stage.disk.tree(), stage.a.tree()
    displaced = _contents(old) - _contents(new)
    length = stage.run_length()
    taken = photographs(stage, random.Random(0))
    assert sum(len(photograph.disks) for photograph in taken) > 3
    for photograph in taken:
        for disk in photograph.disks:
            for name, seen in disk.tree().items():
                if not name.rpartition("/")[2].startswith(".p2psync."):
                    assert _whole(seen, old, new), (photograph.where, name)
            stage.put_catalog(photograph.catalog)
            assert stage.run_b(disk) == length, photograph.where
            assert disk.tree() == new, photograph.where
            kept = disk.kept()
            assert displaced <= set(kept.values()), photograph.where
            assert stage.kept_files() == kept.keys(), photograph.where


Interference = Callable[[SimulatedDisk, Path], object]
INTERFERENCES: dict[str, Interference] = {
    "overwritten": lambda disk, path: disk.overwrite(path, MINE),
    "saved anew": lambda disk, path: disk.save(path, MINE),
    "deleted": lambda disk, path: disk.unlink(path),
}


@pytest.mark.parametrize("interference", INTERFERENCES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_the_user_does_at_any_moment_of_a_change_is_kept(
    tmp_path: FilePath, operation: str, interference: str
) -> None:
    stage = make_stage(tmp_path, prepare, OPERATIONS[operation])
    before, catalog = stage.disk.copy(), stage.catalog_files()
    old = {content for _, content, _ in before.tree().values()}
    fresh = {content for kind, content, _ in stage.a.tree().values() if kind == "file" and content not in old}
    moment, reached = 0, True
    while reached:
        disk = before.copy()
        stage.put_catalog(catalog)
        hook = _Once(disk, moment, INTERFERENCES[interference])
        disk.before = hook
        stage.run_b(disk)
        reached, shown = hook.count > moment, disk.tree()
        if interference != "deleted":
            wanted = fresh | ({MINE} if hook.done else set())
            assert wanted <= {content for _, content, _ in shown.values()}, (hook.done, sorted(shown))
        assert not any(name.rpartition("/")[2].startswith(".p2psync.") for name in shown), (hook.done, sorted(shown))
        moment += 1
    assert moment > 1


class _Once:
    """Interferes ahead of one change, at the path it is about, if a file stands there."""

    def __init__(self, disk: SimulatedDisk, moment: int, interference: Interference) -> None:
        self._disk, self._moment, self._interference = disk, moment, interference
        self.count, self.done = 0, ""

    def __call__(self, operation: str, path: Path) -> None:
        self.count += 1
        stat = self._disk.stat(path) if self.count == self._moment + 1 else None
        if stat is not None and stat.kind is Kind.FILE and path[0] != b".p2psync" and not is_temp_name(path[-1]):
            self._interference(self._disk, path)
            self.done = f"ahead of {operation} {path}"


REFUSALS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "input/output error": errno.EIO}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("operation", ["create large", "edit", "edit large", "delete", "move directory", "mode"])
def test_a_disk_that_refuses_keeps_the_old_and_goes_on_by_itself(
    tmp_path: FilePath, operation: str, refusal: str
) -> None:
    stage = make_stage(tmp_path, prepare, OPERATIONS[operation])
    before, catalog = stage.disk.copy(), stage.catalog_files()
    old, new, length = stage.disk.tree(), stage.a.tree(), stage.run_length()
    moment, reached = 0, True
    while reached:
        disk = before.copy()
        stage.put_catalog(catalog)
        hook = _Refusing(disk, moment, REFUSALS[refusal], lambda seen: _whole(seen, old, new))
        disk.before = hook
        assert stage.run_b(disk) == length, hook.refused
        reached = hook.count > moment
        assert disk.tree() == new, hook.refused
        assert _contents(old) - _contents(new) <= set(disk.kept().values()), hook.refused
        # What a failed sync left behind must not count as durable because a later one succeeds.
        left = disk.after_power_cut([])
        assert stage.run_b(left) == length and left.tree() == new, hook.refused
        moment += 1
    assert moment > 1


class _Refusing:
    """Refuses change number `moment` and the one after; what stands under final names is whole all the while."""

    def __init__(
        self, disk: SimulatedDisk, moment: int, refusal: int, whole: Callable[[tuple[str, bytes, int]], bool]
    ) -> None:
        self._disk, self._moment, self._refusal, self._whole = disk, moment, refusal, whole
        self.count, self.refused = 0, ""

    def __call__(self, operation: str, path: Path) -> None:
        self.count += 1
        if self.count in (self._moment + 1, self._moment + 2):
            for name, seen in self._disk.tree().items():
                assert name.rpartition("/")[2].startswith(".p2psync.") or self._whole(seen), (operation, name)
            self.refused += f"{operation} {path} "
            raise OSError(self._refusal, os.strerror(self._refusal))


def _contents(tree: dict[str, tuple[str, bytes, int]]) -> set[bytes]:
    return {content for kind, content, _ in tree.values() if kind != "directory"}


def _whole(seen: tuple[str, bytes, int], *trees: dict[str, tuple[str, bytes, int]]) -> bool:
    """Whether some whole file, link or directory of these trees looks like this, whatever its mode."""
    kind, content, _ = seen
    return any((kind, content) == other[:2] for tree in trees for other in tree.values()) or kind == "directory"
