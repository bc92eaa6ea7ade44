"""Open files of a real disk: one for reading a user's file, one for writing a temp.

Both wrap a descriptor that `local_filesystem.py` opened and checked, and close it; neither knows a path. Offsets are
always given, so there is no position to keep.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from p2psync.index.xattrs import Xattrs
from p2psync.planner.xattrs import Shown
from p2psync.replica import linux
from p2psync.replica.filesystem import MODE_MASK, NotRegularFile, Stat, Whole, not_durable, stat_of, translated
from p2psync.replica.xattr_calls import read_set, write_set

HOLE_BLOCK = 16 * 1024
"""Runs of zeros shorter than this are written: more holes would cost more than the room they save."""
_BLOCK = bytes(HOLE_BLOCK)
_ZEROS = bytes(1 << 20)


class LocalOpenFile:
    """A regular file open for reading."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> LocalOpenFile:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def stat(self) -> Stat:
        return stat_of(os.fstat(self._descriptor))

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return _read_into(self._descriptor, buffer, offset)

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._descriptor, offset, length)

    def data_from(self, offset: int) -> int:
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            return os.fstat(self._descriptor).st_size if error.errno == errno.ENXIO else offset

    @translated
    def xattrs(self) -> Shown:
        return read_set(self._descriptor)


class LocalTempFile:
    """A temp open for reading and writing. Other threads may have the same temp open, each at chunks of its own."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> LocalTempFile:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def stat(self) -> Stat:
        return stat_of(os.fstat(self._descriptor))

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._descriptor, offset, length)

    @translated
    def write(self, data: bytes | memoryview, offset: int) -> None:
        plain = data if isinstance(data, bytes) else bytes(data)
        for start, end, zeros in _runs(plain, offset):
            if zeros:
                self._leave_empty(offset + start, offset + end)
            else:
                _write(self._descriptor, memoryview(plain)[start:end], offset + start)

    def _leave_empty(self, start: int, end: int) -> None:
        """A hole. What a resumed temp holds there has to go; the size stays, because another worker may be setting it."""
        try:
            linux.punch_hole(self._descriptor, start, end - start)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            end = min(end, os.fstat(self._descriptor).st_size)  # behind the end there is nothing to clear
            for at in range(start, end, len(_ZEROS)):
                _write(self._descriptor, memoryview(_ZEROS)[: end - at], at)

    @translated
    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    @translated
    def set_xattrs(self, wanted: Xattrs) -> Shown:
        return write_set(self._descriptor, wanted)

    @translated
    def set_meta(self, mode: int, mtime_ns: int) -> None:
        os.fchmod(self._descriptor, mode & MODE_MASK)
        os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))

    def sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise not_durable(error) from error


def regular(descriptor: int, name: bytes, links: int | None) -> int:
    """The descriptor, if it is of a regular file with `links` names; else closed and NotRegularFile."""
    try:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode):
            raise NotRegularFile(f"{os.fsdecode(name)} is not a plain file, so it is not synced")
        if links is not None and opened.st_nlink != links:
            raise NotRegularFile(f"{os.fsdecode(name)} also has another name, so it is not written; remove it")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_whole_in(directory: int, name: bytes, flags: int, most: int) -> Whole | None:
    """A regular file of at most `most` bytes that stays as it is meanwhile; None for whatever else is or happens there."""
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or before.st_size > most:
            return None
        data = os.read(descriptor, before.st_size + 1)
        after = os.fstat(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    seen = stat_of(before)
    return Whole(seen, data) if len(data) == seen.size and stat_of(after) == seen else None


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


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _runs(data: bytes, offset: int) -> Iterator[tuple[int, int, bool]]:
    """Cut data for `offset` into (start, end, whether it is to be a hole), in order and without gaps.

    Only whole blocks at multiples of their size become holes. Nearly every block is answered by its first byte.
    """
    done, at = 0, -offset % HOLE_BLOCK
    while at + HOLE_BLOCK <= len(data):
        if not data.startswith(_BLOCK, at):
            at += HOLE_BLOCK
            continue
        hole = at
        while data.startswith(_BLOCK, at):
            at += HOLE_BLOCK
        if hole > done:
            yield done, hole, False
        yield hole, at, True
        done = at
    if done < len(data):
        yield done, len(data), False
