"""Counts the files that are opened to be read on a real disk, one at a time or many together, and the directories opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from p2psync.replica import local_filesystem
from p2psync.replica.local_filesystem import LocalFilesystem


class Opened:
    def __init__(self) -> None:
        self.files = self.directories = 0


@contextmanager
def counted_openings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    opened = Opened()

    def counting(really: Callable[..., Any], what: str = "files") -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            setattr(opened, what, getattr(opened, what) + 1)
            return really(*arguments)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(LocalFilesystem, "_open_for_reading", counting(LocalFilesystem._open_for_reading))
        patch.setattr(local_filesystem, "read_whole_in", counting(local_filesystem.read_whole_in))
        patch.setattr(LocalFilesystem, "_open_directory", counting(LocalFilesystem._open_directory, "directories"))
        yield opened
