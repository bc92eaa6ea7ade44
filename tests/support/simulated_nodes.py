"""What a simulated disk is made of: inodes, changes that a power cut may undo, and open files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2psync.index.xattrs import Xattrs, sorted_xattrs
from p2psync.planner.xattrs import Shown
from p2psync.replica.filesystem import MODE_MASK, Kind, Path, Stat, translated

if TYPE_CHECKING:
    from tests.support.simulated_disk import SimulatedDisk

BLOCK = 4096
NAMES, CONTENT, META = "names", "content", "meta"
Nodes = dict[int, "Node"]


@dataclass(slots=True)
class Node:
    kind: Kind
    mode: int
    mtime: int
    ctime: int
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    entries: dict[bytes, int] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Change:
    """`places`: the inodes of which one's sync makes it durable."""

    apply: Callable[[Nodes], None]
    places: tuple[int, ...]
    what: str
    """NAMES of directories, which a journal keeps in order; CONTENT of files; their mode, time and extended attributes (META)."""
    durable: bool = False
    doomed: bool = False
    """A sync of it has failed: readers go on seeing it, no later sync brings it to the disk, as on Linux."""


@dataclass(slots=True)
class SimulatedFile:
    disk: SimulatedDisk
    number: int
    path: Path

    @property
    def _node(self) -> Node:
        return self.disk.nodes[self.number]

    def stat(self) -> Stat:
        return self.disk.stat_number(self.number)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        data = self.read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._node.data[offset : offset + length])

    def data_from(self, offset: int) -> int:
        return offset

    @translated
    def write(self, data: bytes | memoryview, offset: int) -> None:
        """In blocks, since a power cut may keep any of them."""
        for start in range(0, len(data), BLOCK * 16):
            part = bytes(data[start : start + BLOCK * 16])
            self.disk.before("write", self.path)
            self._write(part, offset + start)

    def _write(self, part: bytes, offset: int) -> None:
        number, now = self.number, self.disk.now()
        self.disk.do(lambda nodes: _write_at(nodes, number, part, offset, now), number, what=CONTENT)

    @translated
    def truncate(self, size: int) -> None:
        number, now = self.number, self.disk.now()
        self.disk.do(lambda nodes: _truncate(nodes, number, size, now), number, what=CONTENT)

    def set_meta(self, mode: int, mtime_ns: int) -> None:
        self.disk.set_values(self.number, mode=mode & MODE_MASK, mtime=mtime_ns, ctime=self.disk.now())

    def xattrs(self) -> Shown:
        return sorted_xattrs(self._node.xattrs.items())

    @translated
    def set_xattrs(self, wanted: Xattrs) -> Shown:
        return self.disk.set_xattrs_of(self.number, self.path, wanted)

    def sync(self) -> None:
        self.disk.sync([self.path])


def _write_at(nodes: Nodes, number: int, part: bytes, offset: int, now: int) -> None:
    if number not in nodes:
        return
    data = nodes[number].data
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(part)] = part
    nodes[number].mtime = nodes[number].ctime = now


def _truncate(nodes: Nodes, number: int, size: int, now: int) -> None:
    if number not in nodes:
        return
    data = nodes[number].data
    del data[size:]
    data.extend(bytes(size - len(data)))
    nodes[number].mtime = nodes[number].ctime = now


def overwrite(nodes: Nodes, number: int, data: bytes, now: int) -> None:
    if number in nodes:
        nodes[number].data = bytearray(data)
        nodes[number].mtime = nodes[number].ctime = now


def shown(nodes: Nodes, path: Path, number: int) -> Iterator[tuple[str, tuple[str, bytes, int]]]:
    """(name, (kind, content or target, permission bits)) of all below a directory, without our own directory."""
    for name, below in nodes[number].entries.items():
        node, full = nodes[below], (*path, name)
        if full == (b".p2psync",):
            continue
        place = os.fsdecode(b"/".join(full))
        if node.kind is Kind.DIRECTORY:
            yield place, ("directory", b"", node.mode)
            yield from shown(nodes, full, below)
        elif node.kind is Kind.SYMLINK:
            yield place, ("symlink", node.target, 0)
        else:
            yield place, ("file", bytes(node.data), node.mode)
