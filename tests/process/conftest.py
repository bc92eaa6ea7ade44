"""A machine for real processes, and a folder that two devices on it may share; both end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folders import SharedFolder, shared_folder
from tests.support.processes import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SharedFolder]:
    with shared_folder(tmp_path) as made:
        yield made
