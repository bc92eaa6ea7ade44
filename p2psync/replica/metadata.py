"""Mode and extended attributes of what stands at a name of a real disk, be it readable or not.

It owns the descriptor that says which file is meant (O_PATH, so that nothing is opened for reading and no symlink is
followed) and the ways around what the kernel refuses on such a one. Which set is wanted it does not know.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from p2psync.index.xattrs import Xattrs
from p2psync.planner.xattrs import Shown
from p2psync.replica.filesystem import MODE_MASK, Kind, NotRegularFile, lent_mode, stat_of
from p2psync.replica.xattr_calls import read_set, write_set

_NAMED = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def _named(parent: int, name: bytes) -> Iterator[tuple[int, Kind, int]]:
    """(descriptor, kind, permission bits) of a file or directory."""
    descriptor = os.open(name, _NAMED, dir_fd=parent)
    try:
        opened = stat_of(os.fstat(descriptor))
        if opened.kind not in (Kind.FILE, Kind.DIRECTORY):
            raise NotRegularFile(f"{os.fsdecode(name)} has neither permissions nor extended attributes to set")
        yield descriptor, opened.kind, opened.mode
    finally:
        os.close(descriptor)


def set_mode(parent: int, name: bytes, mode: int) -> None:
    with _named(parent, name) as (descriptor, _, _):
        _change_mode(descriptor, mode & MODE_MASK)


def read_xattrs(parent: int, name: bytes) -> Shown:
    with _named(parent, name) as (descriptor, _, _):
        return read_set(_by_proc(descriptor))


def set_xattrs(parent: int, name: bytes, wanted: Xattrs) -> Shown:
    """Also on a file that its owner may not read or write: the permission is lent for that moment."""
    with _named(parent, name) as (descriptor, kind, mode):
        lent = lent_mode(mode, directory=kind is Kind.DIRECTORY)
        if lent != mode:
            _change_mode(descriptor, lent)
        try:
            return write_set(_by_proc(descriptor), wanted)
        finally:
            if lent != mode:
                _change_mode(descriptor, mode)


def _by_proc(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _change_mode(descriptor: int, mode: int) -> None:
    """chmod through a descriptor that may be O_PATH, for which fchmod says EBADF and /proc is the way."""
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        os.chmod(_by_proc(descriptor), mode)
