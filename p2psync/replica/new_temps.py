"""New temps, many at a time: small files that are complete in memory, written with one descriptor of their directory.

Each is created anew, written, given its mode and time and looked at through its own descriptor, in this order, so that what
is returned is the state of a temp that is complete. It owns these steps and knows no root; the way down to a directory
is the caller's. Whatever is unusual is left out and the usual way says why: it finds the temp that was begun and writes
all of it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby

from p2psync.replica.descent import Opened
from p2psync.replica.filesystem import MODE_MASK, NewTemp, Path, Stat, check_path, stat_of, storage_error, temp_name
from p2psync.replica.open_files import HOLE_BLOCK, LocalTempFile

CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_temps(directory: Callable[[Path], Opened], files: Sequence[NewTemp]) -> dict[Path, Stat]:
    """`Filesystem.write_temps`; `directory` opens one."""
    written: dict[Path, Stat] = {}
    for parent, group in groupby(files, lambda new: new.path[:-1]):
        with suppress(OSError), directory(parent) as descriptor:
            for new in group:
                check_path(new.path[-1:])
                stat = _write(descriptor, new)
                if stat is not None:
                    written[new.path] = stat
    return written


def _write(directory: int, new: NewTemp) -> Stat | None:
    """One temp; None for any refusal that is not the disk's own (StorageError)."""
    try:
        descriptor = os.open(temp_name(new.path[-1]), CREATE, 0o600, dir_fd=directory)
        try:
            _fill(descriptor, new.data)
            os.fchmod(descriptor, new.mode & MODE_MASK)
            os.utime(descriptor, ns=(new.mtime_ns, new.mtime_ns))
            return stat_of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        refusal = storage_error(error)
        if refusal is not None:
            raise refusal from error
        return None


def _fill(descriptor: int, data: bytes) -> None:
    if len(data) >= HOLE_BLOCK:  # there may be holes in it, one at its end too
        temp = LocalTempFile(descriptor)
        temp.write(data, 0)
        temp.truncate(len(data))
        return
    done = os.write(descriptor, data)
    while done < len(data):
        done += os.write(descriptor, memoryview(data)[done:])
