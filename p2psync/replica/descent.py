"""The way down: from a root descriptor to a directory below it, through no symlink and never above the root.

With openat2 in one call, or, where that is missing or the path is too long for it, by opening one component after the
other with O_NOFOLLOW. It owns that way and nothing else; what is done in the directory is the caller's. A descriptor
is kept no longer than a row of operations in one directory takes (`Row`): one that is kept would still lead to a
directory after that was moved out of the root.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from p2psync.replica import linux
from p2psync.replica.filesystem import Path, check_path

TRAVERSE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""To use names inside a directory: O_PATH needs no permission to read it."""
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""To list a directory or make it durable."""

_OPENAT2_UNUSABLE = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EAGAIN, errno.ENAMETOOLONG})
"""Old kernels, sandboxes that forbid the call, and paths over 4 KiB: take the way by components instead."""


class Opened:
    """A descriptor for one `with`, which closes it. A class: a generator costs as much as the call that opens."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)


class OpenedParent:
    """The same for a directory and a name in it; a `borrowed` descriptor is closed by somebody else."""

    __slots__ = ("_borrowed", "_descriptor", "_name")

    def __init__(self, descriptor: int, name: bytes, *, borrowed: bool = False) -> None:
        self._descriptor, self._name, self._borrowed = descriptor, name, borrowed

    def __enter__(self) -> tuple[int, bytes]:
        return self._descriptor, self._name

    def __exit__(self, *exception: object) -> None:
        if not self._borrowed:
            os.close(self._descriptor)


class Row(threading.local):
    """A row of operations of one thread: while it lasts, the last parent directory stays open for the next operation in it.

    An operation that needs two directories at once ends it; one that takes a directory away is one in its parent.
    """

    def __init__(self) -> None:
        self.lasts = False
        self._path: Path = ()
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        self.lasts = True

    def __exit__(self, *exception: object) -> None:
        self.end()

    def enter(self, path: Path, open_it: Callable[[Path, int], int]) -> int:
        """The descriptor of a directory, open until the row goes on elsewhere."""
        if self._descriptor is None or path != self._path:
            self._leave()
            self._descriptor, self._path = open_it(path, TRAVERSE), path
        return self._descriptor

    def end(self) -> None:
        """Whatever comes next goes down afresh."""
        self.lasts = False
        self._leave()

    def _leave(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_directory(root: int, path: Path, flags: int) -> int:
    """A new descriptor, TRAVERSE or LIST, of the directory at `path`; NotADirectoryError if a symlink is on the way."""
    check_path(path)
    try:
        return linux.open_beneath(root, b"/".join(path) or b".", flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, "a symlink is on the way", path[-1]) from None
        if error.errno not in _OPENAT2_UNUSABLE:
            raise
    return open_by_components(root, path, flags)


def open_by_components(root: int, path: Path, flags: int) -> int:
    """`open_directory` without openat2."""
    here = os.open(".", TRAVERSE if path else flags, dir_fd=root)
    for depth, name in enumerate(path, 1):
        try:
            below = os.open(name, (flags if depth == len(path) else TRAVERSE) | os.O_NOFOLLOW, dir_fd=here)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, "a symlink is on the way", name) from None
            raise
        finally:
            os.close(here)
        here = below
    return here
