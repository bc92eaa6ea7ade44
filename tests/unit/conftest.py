"""An empty directory on the real disk, and the local filesystem over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.replica.filesystem import Filesystem
from p2psync.replica.local_filesystem import LocalFilesystem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def disk(root: Path) -> Iterator[Filesystem]:
    with LocalFilesystem(root) as filesystem:
        yield filesystem
