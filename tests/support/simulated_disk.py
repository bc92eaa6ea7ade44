"""A disk in memory that can lose power: of what was not synced any part may be gone, in any combination.

Every change of a name or of a file's bytes is kept apart until a sync makes it durable. `after_power_cut` gives the disk
as it may look at the next start, with exactly the pending changes that the caller chooses to have survived. Beyond that
it is an ordinary `Filesystem`; `before` is called ahead of every change, to take a picture, refuse or interfere.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from p2psync.replica.filesystem import (
    MODE_MASK,
    SYNCFS_FROM,
    Kind,
    NewTemp,
    NotRegularFile,
    Path,
    Stat,
    Whole,
    not_durable,
    stat_of,
    temp_path,
    translated,
)
from p2psync.replica.keeping import VERSIONS
from tests.support.simulated_nodes import CONTENT, META, NAMES, Change, Node, Nodes, SimulatedFile, overwrite, shown
from tests.support.simulated_xattrs import SimulatedXattrs

ROOT = 2
DEVICE = 7


@dataclass
class SimulatedDisk(SimulatedXattrs):
    nodes: Nodes = field(default_factory=lambda: {ROOT: Node(Kind.DIRECTORY, 0o755, 0, 0)})
    before: Callable[[str, Path], None] = lambda operation, path: None
    """Called ahead of every change with the name of the operation and the path it is about."""

    def __post_init__(self) -> None:
        self._kept = copy.deepcopy(self.nodes)
        self._pending: list[Change] = []
        self._tick = max((max(node.mtime, node.ctime) for node in self.nodes.values()), default=0)

    # Power.

    @property
    def pending(self) -> Sequence[Change]:
        """What a power cut may undo, oldest first."""
        return [change for change in self._pending if not (change.durable or change.doomed)]

    def after_power_cut(self, survivors: Iterable[Change]) -> SimulatedDisk:
        chosen, nodes = {id(change) for change in survivors}, copy.deepcopy(self._kept)
        for change in self._pending:
            if change.durable or id(change) in chosen:
                change.apply(nodes)
        reachable = {ROOT}
        queue = [ROOT]
        while queue:
            below = [number for number in nodes[queue.pop()].entries.values() if number in nodes]
            reachable.update(below)
            queue += below
        return SimulatedDisk({number: node for number, node in nodes.items() if number in reachable})

    def copy(self) -> SimulatedDisk:
        return self.after_power_cut(self.pending)

    def make_all_durable(self) -> None:
        self._make_durable(lambda change: True)

    def _make_durable(self, which: Callable[[Change], bool]) -> None:
        for change in self._pending:
            change.durable = change.durable or (which(change) and not change.doomed)
        while self._pending and (self._pending[0].durable or self._pending[0].doomed):
            change = self._pending.pop(0)
            if change.durable:
                change.apply(self._kept)

    def do(self, apply: Callable[[Nodes], None], *places: int, what: str = NAMES) -> None:
        apply(self.nodes)
        self._pending.append(Change(apply, places, what))

    def now(self) -> int:
        self._tick += 1_000_000
        return self._tick

    # What a user does and sees: durable at once, and never interfered with.

    def load(self, root: FilePath) -> None:
        """Take over a real tree."""
        for directory, names, files in os.walk(os.fsencode(root)):
            here = tuple(part for part in os.path.relpath(directory, os.fsencode(root)).split(b"/") if part != b".")
            for name in names + files:
                real, path = os.path.join(directory, name), (*here, name)
                status = stat_of(os.lstat(real))
                node = Node(status.kind, status.mode & 0o777, status.mtime_ns, self.now())
                if status.kind is Kind.SYMLINK:
                    node.target = os.readlink(real)
                elif status.kind is Kind.FILE:
                    node.data += FilePath(os.fsdecode(real)).read_bytes()
                self._create(path, node)
        self.make_all_durable()

    def save(self, path: Path, data: bytes) -> None:
        """What most editors do: a new file takes the name."""
        parent, name = self._parent(path)
        self._unlink(parent, name)
        self._create(path, Node(Kind.FILE, 0o644, self.now(), self.now(), data=bytearray(data)))
        self.make_all_durable()

    def overwrite(self, path: Path, data: bytes) -> None:
        """In place, as a log or a database is written."""
        number, now = self._number(path), self.now()
        self.do(lambda nodes: overwrite(nodes, number, data, now), number, what=CONTENT)
        self.make_all_durable()

    def unlink(self, path: Path) -> None:
        parent, name = self._parent(path)
        self._unlink(parent, name)
        self.make_all_durable()

    def tree(self) -> dict[str, tuple[str, bytes, int]]:
        """As `tests.support.devices.tree_of`."""
        return dict(shown(self.nodes, (), ROOT))

    def kept(self) -> dict[str, bytes]:
        """The local versions, by the names their files have."""
        names = self.nodes[self._number(VERSIONS)].entries if self.stat(VERSIONS) is not None else {}
        nodes = {name.decode(): self.nodes[number] for name, number in names.items()}
        return {name: bytes(node.data) if node.kind is Kind.FILE else node.target for name, node in nodes.items()}

    # The way down.

    def _number(self, path: Path) -> int:
        number = ROOT
        for depth, name in enumerate(path):
            if self.nodes[number].kind is not Kind.DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, "no directory", path[depth - 1])
            if name not in self.nodes[number].entries:
                raise FileNotFoundError(errno.ENOENT, "not there", name)
            number = self.nodes[number].entries[name]
        return number

    def _parent(self, path: Path) -> tuple[int, bytes]:
        number = self._number(path[:-1])
        if self.nodes[number].kind is not Kind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "no directory", path[-2])
        return number, path[-1]

    def _free(self) -> int:
        """The lowest free inode number: filesystems give them out again."""
        used = self.nodes.keys() | self._kept.keys()
        return next(number for number in range(ROOT + 1, ROOT + 2 + len(used)) if number not in used)

    def _create(self, path: Path, node: Node) -> int:
        parent, name = self._parent(path)
        if name in self.nodes[parent].entries:
            raise FileExistsError(errno.EEXIST, "something is there already", name)
        number = self._free()

        def apply(nodes: Nodes) -> None:
            if parent in nodes and name not in nodes[parent].entries:  # what freed the name was lost: so is this
                nodes[number] = copy.deepcopy(node)
                nodes[parent].entries[name] = number

        self.do(apply, parent)
        return number

    def _unlink(self, parent: int, name: bytes) -> None:
        def apply(nodes: Nodes) -> None:
            if parent not in nodes:
                return
            number = nodes[parent].entries.get(name)
            if number is None or (number in nodes and nodes[number].entries):
                return  # a directory that is not empty in this world
            del nodes[parent].entries[name]
            nodes.pop(number, None)

        self.do(apply, parent)

    def _rename(self, source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
        if target[1] in self.nodes[target[0]].entries:
            raise FileExistsError(errno.EEXIST, "something is there already", target[1])
        if source[1] not in self.nodes[source[0]].entries:
            raise FileNotFoundError(errno.ENOENT, "not there", source[1])
        now = self.now()

        def apply(nodes: Nodes) -> None:
            if source[0] not in nodes or target[0] not in nodes or source[1] not in nodes[source[0]].entries:
                return
            if target[1] in nodes[target[0]].entries:
                return  # what freed the name was lost: so is this
            number = nodes[source[0]].entries.pop(source[1])
            nodes[target[0]].entries[target[1]] = number
            if number in nodes:
                nodes[number].ctime = now

        self.do(apply, source[0], target[0])

    # The seam.

    folds = False

    def check_root(self) -> tuple[int, int]:
        return DEVICE, ROOT

    def close(self) -> None:
        """Nothing is held."""

    def free_bytes(self) -> int:
        return 1 << 40

    def in_a_row(self) -> AbstractContextManager[None]:
        return nullcontext()

    def list_directory(self, path: Path) -> list[tuple[bytes, Stat]]:
        number = self._number(path)
        if self.nodes[number].kind is not Kind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "no directory", path[-1])
        return [(name, self.stat_number(below)) for name, below in sorted(self.nodes[number].entries.items())]

    def stat_number(self, number: int) -> Stat:
        node = self.nodes[number]
        size = len(node.data) if node.kind is Kind.FILE else len(node.target)
        return Stat(node.kind, DEVICE, number, size, node.mtime, node.ctime, node.mode)

    def stat(self, path: Path) -> Stat | None:
        try:
            return self.stat_number(self._number(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def stats(self, paths: Sequence[Path]) -> dict[Path, Stat | None]:
        return {path: self.stat(path) for path in paths}

    def temp_stat(self, path: Path) -> Stat | None:
        return self.stat(temp_path(path))

    def read_link(self, path: Path) -> bytes:
        return self.nodes[self._number(path)].target

    @contextmanager
    def open_file(self, path: Path) -> Iterator[SimulatedFile]:
        yield self._open(path)

    def read_whole(self, paths: Sequence[Path], most: int) -> dict[Path, Whole]:
        found: dict[Path, Whole] = {}
        for path in paths:
            with suppress(OSError, NotRegularFile):
                file = self._open(path)
                if (stat := file.stat()).size <= most:
                    found[path] = Whole(stat, file.read(0, stat.size))
        return found

    def _open(self, path: Path) -> SimulatedFile:
        number = self._number(path)
        if self.nodes[number].kind is not Kind.FILE:
            raise NotRegularFile("not a plain file")
        return SimulatedFile(self, number, path)

    @contextmanager
    def open_temp(self, path: Path, create: bool) -> Iterator[SimulatedFile]:
        if create:
            self._make_temp(path)
        yield self._open(temp_path(path))

    def write_temps(self, files: Sequence[NewTemp]) -> dict[Path, Stat]:
        """Step by step, so that power can fail between any two."""
        found: dict[Path, Stat] = {}
        for new in files:
            with suppress(OSError, NotRegularFile), self.open_temp(new.path, True) as temp:
                temp.write(new.data, 0)
                self.before("set_meta", new.path)
                temp.set_meta(new.mode, new.mtime_ns)
                found[new.path] = temp.stat()
        return found

    @translated
    def _make_temp(self, path: Path) -> None:
        self.before("open_temp", path)
        self._create(temp_path(path), Node(Kind.FILE, 0o600, self.now(), self.now()))

    @translated
    def remove_temp(self, path: Path) -> None:
        try:
            parent, name = self._parent(temp_path(path))
        except FileNotFoundError:
            return
        if name in self.nodes[parent].entries:
            self.before("remove_temp", path)
            self._unlink(parent, name)

    @translated
    def remove_file(self, path: Path) -> None:
        self.before("remove_file", path)
        self._unlink(*self._parent(path))

    @translated
    def make_temp_symlink(self, path: Path, target: bytes) -> None:
        self.before("make_temp_symlink", path)
        self._create(temp_path(path), Node(Kind.SYMLINK, 0o777, self.now(), self.now(), target=target))

    @translated
    def place_new(self, path: Path) -> Stat:
        self.before("place_new", path)
        self._rename(self._parent(temp_path(path)), self._parent(path))
        return self.stat_number(self._number(path))

    @translated
    def swap(self, path: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, "this disk exchanges names of one directory only")

    @translated
    def move(self, source: Path, target: Path) -> None:
        self.before("move", target)
        self._rename(self._parent(source), self._parent(target))

    @translated
    def move_to_temp(self, path: Path) -> Stat:
        self.before("move_to_temp", path)
        self._rename(self._parent(path), self._parent(temp_path(path)))
        return self.stat_number(self._number(temp_path(path)))

    @translated
    def exchange(self, path: Path) -> Stat:
        self.before("exchange", path)
        (parent, name), (_, temp) = self._parent(path), self._parent(temp_path(path))
        for each in (name, temp):
            if each not in self.nodes[parent].entries:
                raise FileNotFoundError(errno.ENOENT, "not there", each)
        now = self.now()

        def apply(nodes: Nodes) -> None:
            entries = nodes[parent].entries if parent in nodes else {}
            if name in entries and temp in entries:
                entries[name], entries[temp] = entries[temp], entries[name]
                for each in (entries[name], entries[temp]):
                    nodes[each].ctime = now

        self.do(apply, parent)
        return self.stat_number(self._number(temp_path(path)))

    def exchange_back(self, path: Path) -> None:
        self.exchange(path)

    @translated
    def make_directory(self, path: Path, mode: int) -> None:
        self.before("make_directory", path)
        self._create(path, Node(Kind.DIRECTORY, mode & MODE_MASK, self.now(), self.now()))

    @translated
    def remove_directory(self, path: Path) -> None:
        self.before("remove_directory", path)
        parent, name = self._parent(path)
        node = self.nodes[self._number(path)]
        if node.kind is not Kind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "no directory", name)
        if node.entries:
            raise OSError(errno.ENOTEMPTY, "not empty", name)
        self._unlink(parent, name)

    @translated
    def set_mode(self, path: Path, mode: int) -> None:
        self.before("set_mode", path)
        number, now = self._number(path), self.now()
        self.set_values(number, mode=mode & MODE_MASK, ctime=now)

    @translated
    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        self.before("set_mtime", path)
        self.set_values(self._number(path), mtime=mtime_ns, ctime=self.now())

    def set_values(self, number: int, **values: int) -> None:
        def apply(nodes: Nodes) -> None:
            for name, value in values.items() if number in nodes else ():
                setattr(nodes[number], name, value)

        self.do(apply, number, what=META)

    def sync(self, paths: Sequence[Path]) -> None:
        numbers = {self._number(path) for path in (*paths, *(path[:-1] for path in paths if path))}
        chosen = [change for change in self._pending if numbers.intersection(change.places)]
        try:
            self.before("sync", paths[0] if paths else ())
        except OSError as error:
            for change in chosen:
                change.doomed = change.what == CONTENT and not change.durable
            raise not_durable(error) from error
        if len(paths) >= SYNCFS_FROM:
            self.make_all_durable()
            return
        named = {id(change) for change in chosen}
        self._make_durable(lambda change: id(change) in named)
