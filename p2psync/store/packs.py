"""Packs as files: `packs/<first 2 hex>/<64 hex>`, arriving by way of `incoming/<64 hex>`.

Owns both directories and everything a pack's file goes through: written and made durable in `incoming`, placed by one
rename, read by range, removed. A pack is held wherever its file stands, so a reader looks in both places. Does not
know which packs are meant to be held: the rows say that (`disk.py` states the order of the two). Only a parsed
32-byte name ever becomes a path. Every call blocks on the disk; an OSError becomes a StorageError here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p2psync.errors import IntegrityError, NotFound, StorageError
from p2psync.ids import Ciphertext, PackName
from p2psync.store.sqlite import sync_directory

_NAME = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class PackFiles:
    def __init__(self, directory: Path) -> None:
        """Use, and make where absent, the two directories below `directory`, closed to other users."""
        self._packs = directory / "packs"
        self._incoming = directory / "incoming"
        self._shelves: set[str] = set()
        with _disk_errors(directory):
            for path in (directory, self._packs, self._incoming):
                if not path.is_dir():
                    _make_directory(path)
            self._shelves = {path.name for path in self._packs.iterdir()}

    def receive(self, name: PackName, data: Ciphertext) -> None:
        """Write a pack's bytes durably in `incoming`; its name there is durable after `sync_received`."""
        path = self._incoming / name.hex()
        with _disk_errors(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.fchmod(descriptor, 0o600)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def sync_received(self) -> None:
        with _disk_errors(self._incoming):
            sync_directory(self._incoming)

    def place(self, names: Iterable[PackName]) -> None:
        """Move received packs to where they stay."""
        touched = set()
        for name in names:
            path = self._place(name)
            with _disk_errors(path):
                if path.parent.name not in self._shelves:
                    _make_directory(path.parent)
                    self._shelves.add(path.parent.name)
                os.replace(self._incoming / name.hex(), path)
            touched.add(path.parent)
        for shelf in touched:
            with _disk_errors(shelf):
                sync_directory(shelf)

    def discard(self, names: Iterable[PackName]) -> None:
        """Drop received packs that will not be placed; absent ones are no error."""
        for name in names:
            path = self._incoming / name.hex()
            with _disk_errors(path):
                path.unlink(missing_ok=True)

    def read(self, name: PackName, offset: int, length: int) -> Ciphertext:
        """Bytes [offset, offset+length), no others; NotFound without a file, IntegrityError when it is too short."""
        place = self._place(name)
        with _disk_errors(place):
            descriptor = self._open(name)
            try:
                parts = []
                while length and (part := os.pread(descriptor, length, offset)):
                    parts.append(part)
                    offset, length = offset + len(part), length - len(part)
            finally:
                os.close(descriptor)
        if length:
            raise IntegrityError(f"pack {name.hex()[:16]} has lost its last bytes; it must be uploaded again")
        return Ciphertext(parts[0] if len(parts) == 1 else b"".join(parts))

    def read_all(self, name: PackName, most: int) -> Ciphertext:
        """The whole file in its place, cut after `most` + 1 bytes: whoever checks it then sees that it is too long."""
        return _read_start(self._place(name), most + 1)

    def read_received(self, name: PackName, most: int) -> Ciphertext:
        """The same for a file in `incoming`, which may be incomplete."""
        return _read_start(self._incoming / name.hex(), most + 1)

    def size(self, name: PackName) -> int | None:
        """The size of the pack's file, None when there is none."""
        for path in (self._place(name), self._incoming / name.hex(), self._place(name)):
            with _disk_errors(path):
                try:
                    return path.stat().st_size
                except FileNotFoundError:
                    continue
        return None

    def remove(self, names: Iterable[PackName]) -> None:
        """Remove packs durably, wherever they stand; absent ones are no error."""
        touched = set()
        for name in names:
            path = self._place(name)
            with _disk_errors(path):
                (self._incoming / name.hex()).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            if path.parent.name in self._shelves:
                touched.add(path.parent)
        for shelf in (*touched, self._incoming):
            with _disk_errors(shelf):
                sync_directory(shelf)

    def waiting(self) -> list[PackName]:
        """Names left in `incoming`, by a kill or a failed rename."""
        with _disk_errors(self._incoming):
            return [PackName(bytes.fromhex(path.name)) for path in self._incoming.iterdir() if _is_pack(path.name)]

    def shelves(self) -> list[str]:
        """The two-letter directories that exist."""
        return sorted(shelf for shelf in self._shelves if re.fullmatch("[0-9a-f]{2}", shelf))

    def on_shelf(self, shelf: str) -> dict[PackName, int]:
        """Names and sizes of the packs in one such directory; whatever is not a pack is left alone."""
        found = {}
        with _disk_errors(self._packs / shelf), os.scandir(self._packs / shelf) as items:
            for item in items:
                if _is_pack(item.name) and item.name.startswith(shelf) and item.is_file(follow_symlinks=False):
                    found[PackName(bytes.fromhex(item.name))] = item.stat(follow_symlinks=False).st_size
        return found

    def _place(self, name: PackName) -> Path:
        text = name.hex()
        return self._packs / text[:2] / text

    def _open(self, name: PackName) -> int:
        # A pack may move from incoming to its place between two looks, so the place is looked at twice.
        for path in (self._place(name), self._incoming / name.hex(), self._place(name)):
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
        raise NotFound(f"the file of pack {name.hex()[:16]} is missing")


def _is_pack(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _read_start(path: Path, most: int) -> Ciphertext:
    with _disk_errors(path), path.open("rb") as file:
        return Ciphertext(file.read(most))


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    sync_directory(path.parent)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"{path} cannot be written: the disk is full; free some space") from error
        raise StorageError(f"{path} cannot be used: {error.strerror}; check the disk and its permissions") from error
