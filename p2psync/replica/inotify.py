"""Watching a directory tree with inotify (Linux).

Participants: the kernel's queue; `_Tree`, which knows the directory of every watch; `InotifyWatcher`, which gathers.
Rules that make it lose nothing:
1. A directory is watched first and listed after, parents before children: what is created before the list is found by
   it, what is created after has an event.
2. A directory that moves or goes drops the watches of its subtree; where it arrives it *appears* and is watched anew.
   So no watch reports under a stale name, and events left in the queue for dropped watches are covered by that walk.
3. What is read from the queue is kept until it is handed out, so a cancelled `changes` loses nothing.

Directories are opened by `descent.py` and watched through their descriptor, so no symlink is followed and no path is
too long. A directory we may not read cannot be watched; the scanner says so to the user. A full queue is `overflow`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio
from inotify_simple import INotify, flags

from p2psync.errors import FolderStopped
from p2psync.replica.descent import LIST, open_directory
from p2psync.replica.filesystem import TEMP_PREFIX, Path, translated
from p2psync.replica.watcher import Changes, Gathered, ManualWatcher, Skips, Watcher
from p2psync.seams import Workers

QUIET_SECONDS = 0.02
"""Silence after which what was gathered is handed out: a saved file is several events within a millisecond or two."""
GATHER_SECONDS = 0.2
"""Longest a change waits for silence, however busy the tree is."""
SAVED_MOST = 16
"""After GATHER_SECONDS without a word, up to so many events of new files that were closed are handed out after one pause:
somebody saved a file and waits. More, or sooner, is a burst, better looked at as a whole."""
PAUSE_SECONDS = 0.005
"""Between two reads of a busy queue: bounds wake-ups while a file is being written, and lets events coalesce."""
_READ_BYTES = 64 * 1024
_WALK_BATCH = 256
"""Directories watched per thread hop: about 10 ms, the longest a cancellation waits."""

MARKER = b".p2psync"
"""Our own directory in the root; nothing inside it is the user's."""

_WANTED = (
    flags.CLOSE_WRITE | flags.MODIFY | flags.ATTRIB | flags.CREATE | flags.DELETE
    | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF
    | flags.ONLYDIR | flags.EXCL_UNLINK
)  # fmt: skip
_LEAVES = flags.DELETE | flags.MOVED_FROM
_OPENED = flags.CREATE | flags.MODIFY
_ENDED = flags.CLOSE_WRITE | _LEAVES
_ROOT_LOST = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT
_GONE_OR_CLOSED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP})

_TOO_FEW_WATCHES = (
    "changes in some directories are found late: the system allows too few watches; "
    "raise fs.inotify.max_user_watches with sysctl and start again"
)
_TOO_FEW_INSTANCES = (
    "changes are found late: the system allows no more watchers; "
    "raise fs.inotify.max_user_instances with sysctl and start again"
)


def _nothing(directory: Path) -> bool:
    return False


class _Node:
    """A watched directory: its watch and its place in the tree."""

    __slots__ = ("children", "name", "parent", "watch")

    def __init__(self, watch: int, name: bytes, parent: _Node | None) -> None:
        self.watch = watch
        self.name = name
        self.parent = parent
        self.children: dict[bytes, _Node] = {}

    def path(self) -> Path:
        names = []
        node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names))

    def holds(self, other: _Node | None) -> bool:
        """Whether `other` is this directory or below it."""
        while other is not None and other is not self:
            other = other.parent
        return other is self


class _Tree:
    """All watches of one root. Used by one thread at a time: the watcher waits while a worker walks."""

    def __init__(self, root: int, inotify: INotify, skips: Skips) -> None:
        self._skips = skips
        self._root_descriptor = root
        self._inotify = inotify
        self._nodes: dict[int, _Node] = {}
        self.root: _Node | None = None
        self.limited: str | None = None
        self.begun: set[Path] | None = None
        """Directories that are watched since it was last emptied; None while the first scan is still to come."""

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, watch: int) -> _Node | None:
        return self._nodes.get(watch)

    @translated
    def walk(self, waiting: dict[Path, None]) -> None:
        """Watch up to _WALK_BATCH of the waiting directories; their subdirectories join the waiting ones."""
        for _ in range(min(_WALK_BATCH, len(waiting))):
            path, _ = waiting.popitem()
            waiting.update(((*path, name), None) for name in self._watch(path))

    def _watch(self, path: Path) -> list[bytes]:
        """Watch one directory, then list it; names of its subdirectories, none if it is gone or not ours to read."""
        if self._skips(path):
            return []
        try:
            descriptor = open_directory(self._root_descriptor, path, LIST)
        except OSError as error:
            if error.errno in _GONE_OR_CLOSED:
                return []
            raise
        try:
            watch = self._inotify.add_watch(f"/proc/self/fd/{descriptor}", _WANTED)
            if not self._attach(path, watch):
                return []
            with os.scandir(descriptor) as entries:
                return [
                    name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and not is_ours(name := os.fsencode(entry.name))
                ]
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.limited = _TOO_FEW_WATCHES
            elif error.errno not in _GONE_OR_CLOSED:
                raise
            return []
        finally:
            os.close(descriptor)

    def _attach(self, path: Path, watch: int) -> bool:
        """Record the watch at its place; False if its parent is not watched any more (then it left with it)."""
        known = self._nodes.get(watch)
        if not path:
            if known is None:
                self.root = self._nodes[watch] = _Node(watch, b"", None)
            return True
        parent = self._find(path[:-1])
        if parent is None:
            if known is None:
                self._inotify.rm_watch(watch)
            return False
        present = parent.children.get(path[-1])
        if known is not None and known is present:
            return True
        if known is not None and known.holds(parent):  # several moves whose events are still to come: they settle it
            self.drop(known)
            return False
        if known is not None:  # the same directory, seen under its new name before word of its move was read
            self._unlink(known)
            known.name, known.parent = path[-1], parent
        else:
            known = self._nodes[watch] = _Node(watch, path[-1], parent)
        if present is not None:
            self.drop(present)
        parent.children[path[-1]] = known
        if self.begun is not None:
            self.begun.add(path)
        return True

    def _find(self, path: Path) -> _Node | None:
        node = self.root
        for name in path:
            if node is None:
                return None
            node = node.children.get(name)
        return node

    def _unlink(self, node: _Node) -> None:
        if node.parent is not None and node.parent.children.get(node.name) is node:
            del node.parent.children[node.name]

    def drop(self, node: _Node) -> None:
        """Stop watching a directory and everything below it."""
        self._unlink(node)
        leaving = [node]
        while leaving:
            gone = leaving.pop()
            leaving.extend(gone.children.values())
            if self._nodes.pop(gone.watch, None) is not None:
                self._remove_watch(gone.watch)

    def _remove_watch(self, watch: int) -> None:
        try:
            self._inotify.rm_watch(watch)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the kernel removed it already, with its directory
                raise


class InotifyWatcher:
    """`Watcher` over one tree; made by `watch_tree`. One task at a time waits for its changes."""

    def __init__(self, root: int, inotify: INotify, workers: Workers, skips: Skips = _nothing) -> None:
        self._inotify = inotify
        self._workers = workers
        self._tree = _Tree(root, inotify, skips)
        self._waiting: dict[Path, None] = {}
        """Directories to be watched, each once: making one and setting its mode are two events."""
        self._gathered = Gathered()
        self._events = 0
        """How many the gathered changes are made of."""
        self._handed_out = float("-inf")
        self._new: set[tuple[int, bytes]] = set()
        """Watch and name of files that were created since."""
        self._only_new = True
        self._open: set[tuple[int, bytes]] = set()
        """Watch and name of files that were created or written to and not closed yet."""

    @property
    def limited(self) -> str | None:
        return self._tree.limited

    @property
    def watched(self) -> int:
        """How many directories are watched."""
        return len(self._tree)

    async def watch_everything(self) -> None:
        """Watch the whole tree."""
        self._waiting = {(): None}
        await self._walk()

    def first_scan_follows(self) -> None:
        """What is watched by now is looked at anyway."""
        self._tree.begun = set()

    async def changes(self) -> Changes:
        while True:
            if not self._gathered and not self._waiting:
                await trio.lowlevel.wait_readable(self._inotify.fileno())
            await self._gather()
            self._events, self._only_new = 0, True
            self._open.clear()
            self._new.clear()
            if self._gathered:
                self._handed_out = trio.current_time()
                return self._gathered.take()

    async def _gather(self) -> None:
        """Read until there is silence or it has lasted long enough; what was saved whole needs no more than a pause."""
        end = trio.current_time() + GATHER_SECONDS
        while True:
            self._read()
            await self._walk()
            await trio.sleep(PAUSE_SECONDS)
            if self._saved():
                if self._read():
                    continue
                return
            with trio.move_on_at(min(end, trio.current_time() + QUIET_SECONDS)) as silence:
                await trio.lowlevel.wait_readable(self._inotify.fileno())
            if silence.cancelled_caught or trio.current_time() >= end:
                return

    async def _walk(self) -> None:
        while self._waiting:
            await self._workers.run(self._tree.walk, self._waiting)
        if self._tree.begun:
            self._gathered.appeared |= self._tree.begun
            self._tree.begun = set()

    def _saved(self) -> bool:
        """Whether what was gathered is a few new files, none of them still being written, after a time of peace.

        What is changed or deleted is always gathered: who receives it must see at once if it is much (the brake).
        """
        few = self._events <= SAVED_MOST and self._only_new and not self._open and not self._gathered.appeared
        return few and trio.current_time() - self._handed_out >= GATHER_SECONDS

    def _read(self) -> bool:
        """Take what is in the queue; whether there was anything."""
        try:
            data = os.read(self._inotify.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        for watch, mask, name in _events(data):
            self._take(watch, mask, name)
        return True

    def _take(self, watch: int, mask: int, name: bytes) -> None:
        """One event of the queue."""
        if mask & flags.Q_OVERFLOW:
            self._gathered.overflow = True
            self._waiting = {(): None}
            return
        node = self._tree.node(watch)
        if node is None:
            return
        if mask & _ROOT_LOST and node is self._tree.root:
            self._gathered.overflow = True
        if mask & flags.IGNORED:
            self._tree.drop(node)
            return
        path = node.path()
        self._events += 1
        if mask & flags.CREATE:
            self._new.add((watch, name))
        elif (watch, name) not in self._new:
            self._only_new = False
        if mask & _OPENED:
            self._open.add((watch, name))
        elif mask & _ENDED:
            self._open.discard((watch, name))
        if not mask & (flags.DELETE_SELF | flags.MOVE_SELF):
            self._gathered.changed(path, name)
        if mask & flags.ISDIR and name and not is_ours(name):
            self._take_directory(node, path, mask, name)

    def _take_directory(self, parent: _Node, path: Path, mask: int, name: bytes) -> None:
        """A subdirectory arrived or left."""
        child = parent.children.get(name)
        if mask & (_LEAVES | flags.MOVED_TO):
            if child is not None:
                self._tree.drop(child)
            self._gathered.appeared.discard((*path, name))  # those in it tell of themselves, or are looked at in vain
        # A change of permissions may have made a directory readable that could not be watched before.
        # One that is watched already was found by the listing of its parent, after it had come.
        if mask & flags.MOVED_TO or (mask & (flags.CREATE | flags.ATTRIB) and child is None):
            self._gathered.appeared.add((*path, name))
            self._waiting[*path, name] = None


_HEADER = struct.Struct("iIII")
"""struct inotify_event: watch, mask, cookie, room of the name; the name follows, padded with NULs."""


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(watch, mask, name) of the events that matter: five of six that a file makes while it is brought here name its temp."""
    place, end = 0, len(data)
    while place < end:
        watch, mask, _, room = _HEADER.unpack_from(data, place)
        place += _HEADER.size
        name = data[place : place + room].rstrip(b"\0")
        place += room
        if not name.startswith(TEMP_PREFIX):
            yield watch, mask, name


def is_ours(name: bytes) -> bool:
    """Whether a name is one of our own: the marker directory or a temp."""
    return name == MARKER or name.startswith(TEMP_PREFIX)


@asynccontextmanager
async def watch_tree(
    root: str | bytes | os.PathLike[str], workers: Workers, skips: Skips = _nothing
) -> AsyncIterator[Watcher]:
    """Watch the tree at `root`; ready when every directory is watched that `skips` does not name. FolderStopped if
    there is no root."""
    path = os.fsencode(root)
    try:
        descriptor = os.open(path, LIST)
    except OSError as error:
        raise FolderStopped(f"the folder {os.fsdecode(path)} cannot be watched ({error.strerror})") from error
    try:
        try:
            inotify = INotify(nonblocking=True)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            yield ManualWatcher(_TOO_FEW_INSTANCES)
            return
        with inotify:
            watcher = InotifyWatcher(descriptor, inotify, workers, skips)
            await watcher.watch_everything()
            watcher.first_scan_follows()
            yield watcher
    finally:
        os.close(descriptor)
