"""Power fails at any moment and takes with it any part of what was not synced: nothing torn, nothing published as an edit."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.devices import Device
from tests.support.power import make_stage, photographs

pytestmark = pytest.mark.slow


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
    (a.root / "file").unlink()
    a.write("file/inside", b"inside")


def _file_to_empty_directory(a: Device) -> None:
    (a.root / "file").unlink()
    (a.root / "file").mkdir()


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
"""All pairs take ten minutes: P2PSYNC_TEST_NIGHT=1 runs them."""
WORKLOADS = [*((name,) for name in OPERATIONS), *PAIRS] if os.environ.get("P2PSYNC_TEST_NIGHT") else EVERYDAY


@pytest.mark.parametrize("workload", WORKLOADS, ids=" + ".join)
def test_a_power_cut_at_any_moment_tears_nothing_and_publishes_nothing(
    tmp_path: Path, workload: tuple[str, ...]
) -> None:
    def change(a: Device) -> None:
        for name in workload:
            OPERATIONS[name](a)

    stage = make_stage(tmp_path, prepare, change)
    old, new = stage.disk.tree(), stage.a.tree()
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


def _whole(seen: tuple[str, bytes, int], *trees: dict[str, tuple[str, bytes, int]]) -> bool:
    """Whether some whole file, link or directory of these trees looks like this, whatever its mode."""
    kind, content, _ = seen
    return any((kind, content) == other[:2] for tree in trees for other in tree.values()) or kind == "directory"
