"""What tests of the local filesystem write with."""

from __future__ import annotations

from p2psync.replica.filesystem import Filesystem, Path

FILE = (b"file",)


def write_temp(disk: Filesystem, path: Path, data: bytes) -> None:
    with disk.open_temp(path, create=True) as temp:
        temp.write(data, 0)
