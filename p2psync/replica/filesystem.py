"""The filesystem seam: everything a replica does to the user's disk goes through one `Filesystem`.

It owns the words (path, stat, kind, temp name), the contract of every operation and the translation of the disk's
refusals. It does not know how an operation is carried out: `local_filesystem.py` does it on a real disk, a test can
put a fault-injecting one in its place. It decides nothing: which file is written or kept is the materialiser's.

All methods are synchronous, block on the disk and are safe to call from several threads at once: callers run them in
worker threads, many per hop. No operation ever follows a symlink or leaves the root (security group, property 26).

Errors, for every method unless it says otherwise: the plain `FileNotFoundError`, `FileExistsError`,
`NotADirectoryError` (also a symlink where a directory was expected), `PermissionError` and other `OSError`, because
here they are answers the caller expects; `StorageError` when the disk itself refuses (full, read-only, I/O error);
`BugError` for a path that is no path.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

from p2psync.crypto.hashing import content_hash
from p2psync.errors import BugError, P2psyncError, StorageError
from p2psync.index.xattrs import Xattrs
from p2psync.planner.xattrs import Shown

P = ParamSpec("P")
R = TypeVar("R")

Path = tuple[bytes, ...]
"""Exact byte components relative to the root; () is the root itself."""

MODE_MASK = 0o777
"""Permission bits we ever set. Set-uid, set-gid and sticky bits come from strangers and are dropped (property 27)."""

SYNCFS_FROM = 32
"""From this many files on, one `syncfs` is cheaper than an fsync each."""

TEMP_PREFIX = b".p2psync."
TEMP_SUFFIX = b".tmp"
ASIDE_SUFFIX = b".tmp.aside.tmp"
_TEMP_NAME_MAX = 240
"""Longest name whose temp name still fits 255 bytes."""


class NotRegularFile(P2psyncError):
    """Something other than a plain file stands there (FIFO, socket, device, symlink). Reaction: leave it alone."""


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


Fingerprint = tuple[int, int, int, int, int]
"""dev, inode, size, mtime ns, ctime ns."""


class Stat(NamedTuple):
    """What lstat says; times in nanoseconds, `mode` the permission bits with set-uid, set-gid and sticky (0o7777)."""

    kind: Kind
    dev: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int

    @property
    def fingerprint(self) -> Fingerprint:
        return (self.dev, self.inode, self.size, self.mtime_ns, self.ctime_ns)


class Whole(NamedTuple):
    """A small file as it was at one moment."""

    stat: Stat
    data: bytes


class NewTemp(NamedTuple):
    """A small file that is to be the temp of `path`, whole."""

    path: Path
    data: bytes
    mode: int
    mtime_ns: int


class OpenFile(Protocol):
    """A regular file open for reading; close it by leaving its `with`."""

    def stat(self) -> Stat: ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; returns the bytes read, less than its length only at the end of the file."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`, fewer than `length` only at the end of the file."""

    def data_from(self, offset: int) -> int:
        """Where data begins at or behind `offset`, the size if there is none. `offset` itself if the disk does not tell.

        Between the two the disk says that there are only zeros.
        """

    def xattrs(self) -> Shown: ...


class TempFile(Protocol):
    """A temp file open for reading and writing; close it by leaving its `with`. Not for two threads at once."""

    def stat(self) -> Stat: ...

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`; longer runs of zeros become holes, even behind the end: `truncate` moves it."""

    def truncate(self, size: int) -> None: ...

    def set_xattrs(self, wanted: Xattrs) -> Shown:
        """As the filesystem's; before `set_meta`, which may take the permission to write away."""

    def set_meta(self, mode: int, mtime_ns: int) -> None: ...

    def sync(self) -> None:
        """Make content durable; StorageError if the disk did not."""


class Filesystem(Protocol):
    """One folder's directory tree. `path` is relative to the root; temps are named by the path they stand in for."""

    def check_root(self) -> tuple[int, int]:
        """(dev, inode) of the root; FolderStopped if it is missing, no directory, or not the one first opened."""

    @property
    def folds(self) -> bool:
        """Whether this disk takes names for one that differ in case only. `stat` never does: it compares exactly."""

    def in_a_row(self) -> AbstractContextManager[None]:
        """For a short row of operations by this thread: those that follow one another in one directory go down to it once.
        They would still reach one that somebody moves away meanwhile. Rows do not nest."""

    def list_directory(self, path: Path) -> list[tuple[bytes, Stat]]:
        """Entries sorted by name, temps included; entries that vanish meanwhile are left out."""

    def stat(self, path: Path) -> Stat | None:
        """What stands there, a symlink itself; None if nothing does or a parent is no directory."""

    def read_link(self, path: Path) -> bytes: ...

    def open_file(self, path: Path) -> AbstractContextManager[OpenFile]:
        """Open a regular file; NotRegularFile for anything else, which is never waited for (property 49)."""

    def read_whole(self, paths: Sequence[Path], most: int) -> dict[Path, Whole]:
        """Regular files of at most `most` bytes, each read in one state; a neighbour in one directory for a fraction of
        what `open_file` costs. The caller has just seen that they are regular files. What is not, or is larger, changes
        meanwhile or cannot be read, is left out: `open_file` says why."""

    def open_temp(self, path: Path, create: bool) -> AbstractContextManager[TempFile]:
        """Create the temp of `path` (FileExistsError if one is there), or open the one there (FileNotFoundError)."""

    def write_temps(self, files: Sequence[NewTemp]) -> dict[Path, Stat]:
        """Create the temps of many files, each with all its content, mode and time, a neighbour in one directory for a
        fraction of what `open_temp` costs; returns what they look like, complete. What cannot be made in just this way is
        left out, with a temp that may have been begun: `open_temp` says why. StorageError leaves any of them so."""

    def stats(self, paths: Sequence[Path]) -> dict[Path, Stat | None]:
        """`stat` of many paths, a neighbour in one directory for a fraction of the cost. What cannot be looked at is left
        out: `stat` says why."""

    def temp_stat(self, path: Path) -> Stat | None: ...

    def remove_temp(self, path: Path) -> None:
        """Unlink whatever file or symlink stands at the temp name; nothing there, not even the directory, is fine."""

    def make_temp_symlink(self, path: Path, target: bytes) -> None: ...

    def place_new(self, path: Path) -> Stat:
        """Rename temp → path and return what stands there then; FileExistsError if anything is there. Also puts back what
        `move_to_temp` took."""

    def exchange(self, path: Path) -> Stat:
        """Swap temp and path; returns what was displaced, which now stands at the temp name."""

    def exchange_back(self, path: Path) -> None:
        """Undo `exchange`."""

    def swap(self, path: Path, other: Path) -> None:
        """Exchange two names, of any directories, in one step; OSError where this disk has no such step."""

    def move(self, source: Path, target: Path) -> None:
        """Rename between two final names; FileExistsError if anything is at `target`."""

    def move_to_temp(self, path: Path) -> Stat:
        """Rename path → temp and return what was taken; FileExistsError if a temp is there."""

    def make_directory(self, path: Path, mode: int) -> None: ...

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory; OSError ENOTEMPTY if it is not."""

    def remove_file(self, path: Path) -> None:
        """Unlink a file or symlink of our own (a local version); nothing there is fine."""

    def set_mode(self, path: Path, mode: int) -> None:
        """Set permission bits of a file or directory; NotRegularFile for anything else."""

    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        """Set the modification time, of a symlink itself too."""

    def xattrs(self, path: Path) -> Shown:
        """The extended attributes of a file or directory that are ours to sync, or why they cannot be told."""

    def set_xattrs(self, path: Path, wanted: Xattrs) -> Shown:
        """Make them these, and leave all others alone; returns what the disk then shows, if it did not take them all."""

    def sync(self, paths: Sequence[Path]) -> None:
        """Make these (temps by `temp_path`, files, directories) and their parent directories durable.

        StorageError if the disk did not: nothing of the group counts as durable then.
        """

    def free_bytes(self) -> int: ...

    def close(self) -> None:
        """Give the root back; no operation may run or follow."""


def lent_mode(mode: int, *, directory: bool) -> int:
    """Setting extended attributes needs the permission to read and write: it is lent for that moment where it lacks."""
    return mode | (0o700 if directory else 0o600)


def temp_name(name: bytes) -> bytes:
    """The name a file is written under before it gets its own, in the same directory."""
    middle = name if len(name) <= _TEMP_NAME_MAX else content_hash(name).hex().encode()
    return TEMP_PREFIX + middle + TEMP_SUFFIX


def temp_path(path: Path) -> Path:
    """Path of the temp that stands in for `path`."""
    return (*path[:-1], temp_name(path[-1]))


def temp_target(name: bytes) -> bytes | None:
    """The name a temp of ours stands in for (its hash, when that name is long); None for any other file.

    A file that a renaming in steps has put aside is none: it may be the only copy of the user's.
    """
    if not is_temp_name(name) or name.endswith(ASIDE_SUFFIX):
        return None
    return name[len(TEMP_PREFIX) : -len(TEMP_SUFFIX)] or None


def is_temp_name(name: bytes) -> bool:
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


def check_path(path: Path) -> None:
    """BugError unless every component is a name: the last line of defence, callers have judged names before."""
    for name in path:
        if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
            raise BugError(f"{name!r} is not a file name and must not reach the disk")


_TYPE = 0o170000
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def stat_of(result: os.stat_result) -> Stat:
    """Our `Stat` of the operating system's."""
    mode = result.st_mode
    return Stat(
        _KINDS.get(mode & _TYPE, Kind.OTHER), result.st_dev, result.st_ino, result.st_size, result.st_mtime_ns,
        result.st_ctime_ns, mode & 0o7777,
    )  # fmt: skip


_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space and syncing goes on by itself",
    errno.EDQUOT: "your disk quota is used up; free some space and syncing goes on by itself",
    errno.EROFS: "the disk is read-only; mount it writable and syncing goes on by itself",
    errno.EIO: "the disk reported an input/output error; check the disk and its cable before it loses data",
}


def storage_error(error: OSError) -> StorageError | None:
    """The StorageError for a refusal of the disk itself, None for every other OSError."""
    sentence = _REFUSALS.get(error.errno or 0)
    return StorageError(sentence) if sentence is not None else None


def not_durable(error: OSError) -> StorageError:
    """The StorageError for a failed sync, whatever its errno."""
    return storage_error(error) or StorageError(
        f"the disk could not make files durable ({error.strerror}); check the disk, syncing tries again"
    )


def translated(operation: Callable[P, R]) -> Callable[P, R]:
    """Turn a refusal of the disk itself into StorageError; other OSErrors are answers and pass."""

    @functools.wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except OSError as error:
            refusal = storage_error(error)
            if refusal is not None:
                raise refusal from error
            raise

    return run
