"""The `Filesystem` of a real disk: every operation goes down from one root descriptor, name by name.

It owns the root descriptor and nothing else: the parent directory is opened afresh for every operation by
`descent.py`, and the last name is used relative to it. So a directory that is swapped for a symlink or moved away can
at worst make the operation under way act in the directory that was there a moment ago, never in one a symlink chose.

Renames are `renaming.py`'s, contracts and error translation `filesystem.py`'s, system calls `linux.py`'s.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from types import TracebackType

from p2psync.errors import FolderStopped
from p2psync.index.paths import MARKER
from p2psync.index.xattrs import Xattrs
from p2psync.planner.xattrs import Shown
from p2psync.replica import linux, metadata, renaming
from p2psync.replica.descent import LIST, TRAVERSE, Opened, OpenedParent, Row, open_directory
from p2psync.replica.filesystem import (
    SYNCFS_FROM,
    Kind,
    NewTemp,
    NotRegularFile,
    Path,
    Stat,
    Whole,
    check_path,
    not_durable,
    stat_of,
    temp_name,
    temp_path,
    translated,
)
from p2psync.replica.new_temps import CREATE, write_temps
from p2psync.replica.open_files import LocalOpenFile, LocalTempFile, read_whole_in, regular

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOATIME = getattr(os, "O_NOATIME", 0)
_REOPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalFilesystem:
    """One folder's tree on this disk. Close it, or use it as a context manager; FolderStopped if there is no root."""

    def __init__(self, root: str | bytes | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fsencode(root))
        try:
            self._root = os.open(self.root, LIST)
        except OSError as error:
            raise FolderStopped(self._stopped(error.strerror)) from error
        opened = os.fstat(self._root)
        self._identity = (opened.st_dev, opened.st_ino)
        self._row = Row()
        self.folds = False
        self.folds = self._answers_to_another_case()

    def __enter__(self) -> LocalFilesystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the root descriptor back; no operation may run or follow."""
        os.close(self._root)

    def _stopped(self, why: str | None) -> str:
        return f"the folder {os.fsdecode(self.root)} cannot be used ({why}); put it back or mount its disk"

    def check_root(self) -> tuple[int, int]:
        try:
            now = os.stat(self.root)
        except OSError as error:
            raise FolderStopped(self._stopped(error.strerror)) from error
        if not stat.S_ISDIR(now.st_mode):
            raise FolderStopped(self._stopped("it is no directory any more"))
        if (now.st_dev, now.st_ino) != self._identity:
            raise FolderStopped(self._stopped("another directory stands in its place"))
        return self._identity

    # The way down.

    def _directory(self, path: Path, flags: int = TRAVERSE) -> Opened:
        """Descriptor of a directory inside the root; NotADirectoryError if a symlink is on the way."""
        if path and self.folds and not self._is_spelled_so(path):
            raise FileNotFoundError(errno.ENOENT, "its name is spelled otherwise on this disk", path[-1])
        return Opened(self._open_directory(path, flags))

    def _open_directory(self, path: Path, flags: int) -> int:
        return open_directory(self._root, path, flags)

    def _parent(self, path: Path) -> OpenedParent:
        """(descriptor of the parent, last name); IsADirectoryError for the root, which is never replaced."""
        if not path:
            raise IsADirectoryError(errno.EISDIR, "the root of a folder is not for replacing", self.root)
        check_path(path[-1:])
        if self._row.lasts and not self.folds:
            return OpenedParent(self._row.enter(path[:-1], self._open_directory), path[-1], borrowed=True)
        return OpenedParent(self._directory(path[:-1]).descriptor, path[-1])

    def in_a_row(self) -> Row:
        return self._row

    # Looking.

    @translated
    def list_directory(self, path: Path) -> list[tuple[bytes, Stat]]:
        found = []
        with self._directory(path, LIST) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    found.append((os.fsencode(entry.name), stat_of(entry.stat(follow_symlinks=False))))
                except FileNotFoundError:
                    continue
        found.sort(key=lambda pair: pair[0])
        return found

    @translated
    def stat(self, path: Path) -> Stat | None:
        if not path:
            return stat_of(os.fstat(self._root))
        try:
            found = self._lstat(path)
            return found if not self.folds or self._is_spelled_so(path) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    @translated
    def stats(self, paths: Sequence[Path]) -> dict[Path, Stat | None]:
        found: dict[Path, Stat | None] = {}
        if self.folds or () in paths:
            return found
        for directory, group in groupby(paths, itemgetter(slice(-1))):
            inside = list(group)
            try:
                with self._directory(directory) as descriptor:
                    for path in inside:
                        check_path(path[-1:])
                        _look_in(descriptor, path, found)
            except (FileNotFoundError, NotADirectoryError):
                found |= dict.fromkeys(inside)
            except OSError:
                continue
        return found

    def _answers_to_another_case(self) -> bool:
        """Asked with the marker, which every folder has; a folder without one is not used."""
        try:
            marker, other = self._lstat((MARKER,)), self._lstat((MARKER.upper(),))
        except OSError:
            return False
        return (marker.dev, marker.inode) == (other.dev, other.inode)

    def _lstat(self, path: Path) -> Stat:
        with self._parent(path) as (parent, name):
            return stat_of(os.stat(name, dir_fd=parent, follow_symlinks=False))

    def _is_spelled_so(self, path: Path) -> bool:
        """Whether the last name is on the disk in exactly these bytes: else `file` deleted would take `File` along."""
        with self._directory(path[:-1], LIST) as descriptor:
            return path[-1] in map(os.fsencode, os.listdir(descriptor))

    @translated
    def read_link(self, path: Path) -> bytes:
        with self._parent(path) as (parent, name):
            return os.readlink(name, dir_fd=parent)

    def temp_stat(self, path: Path) -> Stat | None:
        return self.stat(temp_path(path))

    # Files.

    def open_file(self, path: Path) -> LocalOpenFile:
        return LocalOpenFile(self._open_for_reading(path))

    @translated
    def _open_for_reading(self, path: Path) -> int:
        with self._parent(path) as (parent, name):
            # Looked at first because opening some devices does something; and again after, because it may have changed.
            if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise NotRegularFile(f"{os.fsdecode(name)} is not a plain file, so it is not synced")
            try:
                descriptor = os.open(name, _READ | _NOATIME, dir_fd=parent)
            except PermissionError:  # only the owner may spare the access time
                descriptor = os.open(name, _READ, dir_fd=parent)
        return regular(descriptor, name, links=None)

    def read_whole(self, paths: Sequence[Path], most: int) -> dict[Path, Whole]:
        found: dict[Path, Whole] = {}
        if self.folds or () in paths:
            return found
        for directory, group in groupby(paths, itemgetter(slice(-1))):
            inside = list(group)
            with suppress(OSError), self._directory(directory) as parent:
                for path in inside:
                    check_path(path[-1:])
                    whole = read_whole_in(parent, path[-1], _READ | _NOATIME, most)
                    if whole is not None:
                        found[path] = whole
        return found

    def open_temp(self, path: Path, create: bool) -> LocalTempFile:
        return LocalTempFile(self._open_temp_descriptor(path, create))

    @translated
    def _open_temp_descriptor(self, path: Path, create: bool) -> int:
        with self._parent(path) as (parent, name):
            temp = temp_name(name)
            if create:
                return os.open(temp, CREATE, 0o600, dir_fd=parent)
            try:
                descriptor = os.open(temp, _REOPEN, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                    raise NotRegularFile(f"{os.fsdecode(temp)} is not a plain file; remove it") from error
                raise
        return regular(descriptor, temp, links=1)

    def write_temps(self, files: Sequence[NewTemp]) -> dict[Path, Stat]:
        return {} if self.folds else write_temps(self._directory, files)

    @translated
    def remove_temp(self, path: Path) -> None:
        try:
            with self._parent(path) as (parent, name):
                os.unlink(temp_name(name), dir_fd=parent)
        except FileNotFoundError:
            return  # gone with its directory, perhaps

    @translated
    def make_temp_symlink(self, path: Path, target: bytes) -> None:
        with self._parent(path) as (parent, name):
            os.symlink(target, temp_name(name), dir_fd=parent)

    # Names.

    @translated
    def place_new(self, path: Path) -> Stat:
        with self._parent(path) as (parent, name):
            renaming.rename_new(parent, temp_name(name), parent, name)
            return stat_of(os.stat(name, dir_fd=parent, follow_symlinks=False))

    @translated
    def exchange(self, path: Path) -> Stat:
        with self._parent(path) as (parent, name):
            renaming.exchange(parent, temp_name(name), name)
            return stat_of(os.stat(temp_name(name), dir_fd=parent, follow_symlinks=False))

    def exchange_back(self, path: Path) -> None:
        self.exchange(path)

    @translated
    def swap(self, path: Path, other: Path) -> None:
        self._row.end()
        with self._parent(path) as (one_dir, one), self._parent(other) as (other_dir, two):
            linux.renameat2(one_dir, one, other_dir, two, linux.RENAME_EXCHANGE)

    @translated
    def move(self, source: Path, target: Path) -> None:
        self._row.end()
        with self._parent(source) as (source_dir, old), self._parent(target) as (target_dir, new):
            renaming.rename_new(source_dir, old, target_dir, new)

    @translated
    def move_to_temp(self, path: Path) -> Stat:
        with self._parent(path) as (parent, name):
            renaming.rename_new(parent, name, parent, temp_name(name))
            return stat_of(os.stat(temp_name(name), dir_fd=parent, follow_symlinks=False))

    @translated
    def make_directory(self, path: Path, mode: int) -> None:
        with self._parent(path) as (parent, name):
            os.mkdir(name, 0o700, dir_fd=parent)
        self.set_mode(path, mode)

    @translated
    def remove_directory(self, path: Path) -> None:
        with self._parent(path) as (parent, name):
            os.rmdir(name, dir_fd=parent)

    @translated
    def remove_file(self, path: Path) -> None:
        try:
            with self._parent(path) as (parent, name):
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return

    # Metadata.

    @translated
    def set_mode(self, path: Path, mode: int) -> None:
        with self._parent(path) as (parent, name):
            metadata.set_mode(parent, name, mode)

    @translated
    def xattrs(self, path: Path) -> Shown:
        with self._parent(path) as (parent, name):
            return metadata.read_xattrs(parent, name)

    @translated
    def set_xattrs(self, path: Path, wanted: Xattrs) -> Shown:
        with self._parent(path) as (parent, name):
            return metadata.set_xattrs(parent, name, wanted)

    @translated
    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        with self._parent(path) as (parent, name):
            accessed = os.stat(name, dir_fd=parent, follow_symlinks=False).st_atime_ns
            os.utime(name, ns=(accessed, mtime_ns), dir_fd=parent, follow_symlinks=False)

    # Durability.

    def sync(self, paths: Sequence[Path]) -> None:
        parents = {path[:-1] for path in paths if path}
        if len(paths) >= SYNCFS_FROM and self._sync_whole(parents):
            return
        for path in dict.fromkeys((*paths, *sorted(parents))):
            try:
                self._sync_one(path)
            except PermissionError as error:  # not readable by us: only the whole filesystem can be asked
                self._sync_unreadable(path, error)

    def _sync_whole(self, parents: set[Path]) -> bool:
        """One syncfs for each filesystem the parents are on; False where there is no such call."""
        synced: set[int] = set()
        for parent in sorted(parents):
            with self._directory(parent, LIST) as descriptor:
                device = os.fstat(descriptor).st_dev
                if device in synced:
                    continue
                try:
                    linux.syncfs(descriptor)
                except OSError as error:
                    if error.errno == errno.ENOSYS:
                        return False
                    raise not_durable(error) from error
                synced.add(device)
        return True

    def _sync_one(self, path: Path) -> None:
        """fsync a file or directory; a symlink lives in its directory and needs no more than that one's sync."""
        seen = self.stat(path)
        if seen is None:
            raise FileNotFoundError(errno.ENOENT, "nothing there to make durable", path[-1] if path else b".")
        if seen.kind is Kind.DIRECTORY:
            with self._directory(path, LIST) as descriptor:
                _fsync(descriptor)
        elif seen.kind is Kind.FILE:
            descriptor = self._open_for_reading(path)
            try:
                _fsync(descriptor)
            finally:
                os.close(descriptor)

    def _sync_unreadable(self, path: Path, why: PermissionError) -> None:
        seen = self.stat(path)
        if seen is None or seen.dev != self._identity[0]:
            raise not_durable(why) from why
        try:
            linux.syncfs(self._root)
        except OSError as error:
            raise not_durable(error) from error

    @translated
    def free_bytes(self) -> int:
        room = os.fstatvfs(self._root)
        return room.f_bavail * room.f_frsize


def _look_in(directory: int, path: Path, found: dict[Path, Stat | None]) -> None:
    try:
        found[path] = stat_of(os.stat(path[-1], dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        found[path] = None
    except OSError:
        return


def _fsync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise not_durable(error) from error
