"""A machine for real processes in networks of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """What makes networks (`ip`, `nft`, `tc`) is found though a user's PATH may lack the system's directories."""
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")
    made = Machine(tmp_path)
    yield made
    made.stop()
