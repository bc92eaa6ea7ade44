"""Open files of a real disk: one for reading a user's file, one for writing a temp.

Both wrap a descriptor that `local_filesystem.py` opened, checked and will close; neither knows a path. Offsets are
always given, so there is no position to keep.
"""

from __future__ import annotations

import os

from p2psync.replica.filesystem import MODE_MASK, Stat, not_durable, stat_of, translated

_HOLE_MIN = 4096
"""Shorter runs of zeros are written: a hole saves nothing below a block."""
_ZEROS = bytes(1 << 20)


class LocalOpenFile:
    """A regular file open for reading."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def stat(self) -> Stat:
        return stat_of(os.fstat(self._descriptor))

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return _read_into(self._descriptor, buffer, offset)

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._descriptor, offset, length)


class LocalTempFile:
    """A temp open for reading and writing. It keeps its size, so it serves one thread at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def stat(self) -> Stat:
        return stat_of(os.fstat(self._descriptor))

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._descriptor, offset, length)

    @translated
    def write(self, data: bytes | memoryview, offset: int) -> None:
        end = offset + len(data)
        # Only beyond the end is it certain that a hole reads as zeros; a resumed temp may hold anything before it.
        if offset >= self._size and len(data) >= _HOLE_MIN and _is_zero(data):
            os.ftruncate(self._descriptor, end)
        else:
            view = memoryview(data)
            done = 0
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], offset + done)
        self._size = max(self._size, end)

    @translated
    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._size = size

    @translated
    def set_meta(self, mode: int, mtime_ns: int) -> None:
        os.fchmod(self._descriptor, mode & MODE_MASK)
        os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))

    def sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise not_durable(error) from error


@translated
def _read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


@translated
def _read(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(descriptor, length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_zero(data: bytes | memoryview) -> bool:
    """Whether all bytes are zero; almost always answered by the first byte, else by comparing at memory speed."""
    if data[0] or data[-1]:
        return False
    view = memoryview(data)
    for start in range(0, len(view), len(_ZEROS)):
        part = bytes(view[start : start + len(_ZEROS)])
        if part != (_ZEROS if len(part) == len(_ZEROS) else _ZEROS[: len(part)]):
            return False
    return True
