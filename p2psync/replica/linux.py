"""Linux system calls that the standard library lacks: renameat2, syncfs, openat2, fallocate.

It owns the calling convention and nothing else: every function raises OSError as the kernel says it, and
OSError ENOSYS where kernel or C library do not know the call, so that callers have one way to fall back. The module
imports on every platform. What a missing flag means for a rename is `renaming.py`'s to know.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import lru_cache
from typing import Any

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_OPENAT2 = 437
"""The call's number, the same on every architecture that has it (the C library has no wrapper)."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _OpenHow(ctypes.Structure):
    """struct open_how of <linux/openat2.h>."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _function(name: str, *argument_types: type) -> Any:
    """The C function with its signature set, or None (ctypes has no public type for it)."""
    function = getattr(_libc, name, None)
    if function is not None:
        function.argtypes = argument_types
        function.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
    return function


_renameat2 = _function("renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_fallocate = _function("fallocate64", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_syncfs = _function("syncfs", ctypes.c_int)
_syscall = _function("syscall", ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


def _missing(name: str) -> OSError:
    return OSError(errno.ENOSYS, f"{name} is not available")


def _call(function: Any, name: str, *arguments: object) -> int:
    """Call, retry when interrupted by a signal, raise OSError on failure."""
    if function is None:
        raise _missing(name)
    while True:
        result = int(function(*arguments))
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def renameat2(source_dir: int, source: bytes, target_dir: int, target: bytes, flags: int) -> None:
    """Rename with RENAME_NOREPLACE or RENAME_EXCHANGE; EINVAL where the filesystem lacks the flag."""
    _call(_renameat2, "renameat2", source_dir, source, target_dir, target, flags)


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Give the room of a range back, which then reads as zeros; EOPNOTSUPP where the filesystem has no holes."""
    _call(_fallocate, "fallocate", descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, length)


def syncfs(descriptor: int) -> None:
    """Write back the whole filesystem `descriptor` is on."""
    _call(_syncfs, "syncfs", descriptor)


def open_beneath(directory: int, relative: bytes, flags: int) -> int:
    """Open `relative` below `directory`, refusing every symlink on the way (ELOOP) and every way out (EXDEV)."""
    return _call(
        _syscall, "openat2", _OPENAT2, directory, relative, _how(flags | os.O_CLOEXEC), ctypes.sizeof(_OpenHow)
    )


@lru_cache
def _how(flags: int) -> Any:
    """Made once for the few combinations there are: it took a third of every call, and several are made for a file."""
    return ctypes.byref(_OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS))
