"""The extended attributes of a simulated disk: set one after another, each lost or kept by itself when power fails."""

from __future__ import annotations

import os
from collections.abc import Callable

from p2psync.index.xattrs import Xattrs, sorted_xattrs
from p2psync.planner.xattrs import Shown
from p2psync.replica.filesystem import Kind, Path, Stat, lent_mode, translated
from p2psync.replica.keeping import VERSIONS
from tests.support.simulated_nodes import META, Nodes


class SimulatedXattrs:
    """A part of `SimulatedDisk`."""

    nodes: Nodes
    before: Callable[[str, Path], None]

    def now(self) -> int:
        raise NotImplementedError

    def do(self, apply: Callable[[Nodes], None], *places: int, what: str = META) -> None:
        raise NotImplementedError

    def stat(self, path: Path) -> Stat | None:
        raise NotImplementedError

    def tree(self) -> dict[str, tuple[str, bytes, int]]:
        raise NotImplementedError

    def make_all_durable(self) -> None:
        raise NotImplementedError

    def set_values(self, number: int, **values: int) -> None:
        raise NotImplementedError

    def _number(self, path: Path) -> int:
        raise NotImplementedError

    # What a user does and sees.

    def tagged(self) -> dict[str, dict[str, bytes]]:
        """As `tests.support.devices.tagged_of`: what has extended attributes, temps too."""
        found: dict[str, dict[str, bytes]] = {}
        for name in self.tree():
            node = self.nodes[self._number(tuple(os.fsencode(name).split(b"/")))]
            if node.xattrs:
                found[name] = {os.fsdecode(key): value for key, value in node.xattrs.items()}
        return found

    def kept_tagged(self) -> list[dict[str, bytes]]:
        """The extended attributes of the local versions."""
        names = self.nodes[self._number(VERSIONS)].entries if self.stat(VERSIONS) is not None else {}
        kept = (self.nodes[number].xattrs for number in names.values())
        return [{os.fsdecode(key): value for key, value in xattrs.items()} for xattrs in kept]

    def tag(self, path: Path, name: bytes, value: bytes) -> None:
        self._set_xattr(self._number(path), name, value)
        self.make_all_durable()

    # The seam.

    def xattrs(self, path: Path) -> Shown:
        return sorted_xattrs(self.nodes[self._number(path)].xattrs.items())

    @translated
    def set_xattrs(self, path: Path, wanted: Xattrs) -> Shown:
        return self.set_xattrs_of(self._number(path), path, wanted)

    def set_xattrs_of(self, number: int, path: Path, wanted: Xattrs) -> Shown:
        """One after another, since a power cut may keep any of them."""
        node, then = self.nodes[number], dict(wanted)
        mode, lent = node.mode, lent_mode(node.mode, directory=node.kind is Kind.DIRECTORY)
        if lent != mode:
            self.before("lend", path)
            self.set_values(number, mode=lent, ctime=self.now())
        for name in sorted(node.xattrs.keys() | then.keys()):
            if node.xattrs.get(name) != then.get(name):
                self.before("set_xattrs", path)
                self._set_xattr(number, name, then.get(name))
        if lent != mode:
            self.before("take back", path)
            self.set_values(number, mode=mode, ctime=self.now())
        return wanted

    def _set_xattr(self, number: int, name: bytes, value: bytes | None) -> None:
        now = self.now()

        def apply(nodes: Nodes) -> None:
            if number not in nodes:
                return
            nodes[number].ctime = now
            if value is None:
                nodes[number].xattrs.pop(name, None)
            else:
                nodes[number].xattrs[name] = value

        self.do(apply, number, what=META)
