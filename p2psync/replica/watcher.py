"""The watcher seam: word that something in a directory changed.

It owns what a watcher says (`Changes`) and promises, and the watcher that is fed by hand. It does not know inotify
(`inotify.py` does). A watcher says where to look, never what happened: the scanner looks and decides. It may stay
silent about anything (a full queue, watches that ran out), so a periodic rescan always stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

import trio

from p2psync.replica.filesystem import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to look at. A path may be gone by the time it is looked at.

    `directories`: their entries, or entries' content or metadata, changed; look at each, not below.
    `names`: of some of those the only entries that changed, where these are few: a large one need not be looked at whole.
    `appeared`: directories that were created or moved in, and those below that are newly watched; look at each, and at
    what is new below. Word of every change after the watcher returned this is certain for them too.
    `overflow`: word was lost, or the root itself went away; check the root and rescan everything.
    """

    directories: frozenset[Path]
    appeared: frozenset[Path]
    overflow: bool
    names: Mapping[Path, Set[bytes]] = field(default_factory=dict, compare=False)


NAMES_MOST = 64
"""Beyond so many changed entries the whole directory is looked at."""
Skips = Callable[[Path], bool]
"""Whether nothing in a directory or below it can matter, so that it need not be watched."""


class Watcher(Protocol):
    @property
    def limited(self) -> str | None:
        """None, or a sentence for the user: why changes are found late, by rescans, and what to do about it."""

    async def watch_everything(self) -> None:
        """Set watches anew over the whole tree, because other directories may matter now."""

    async def changes(self) -> Changes:
        """Wait for the next changes, gathered over a short quiet window. Cancelled, it loses none of them."""


@dataclass(slots=True)
class Gathered:
    """Changes not yet handed out."""

    directories: set[Path] = field(default_factory=set)
    appeared: set[Path] = field(default_factory=set)
    overflow: bool = False
    names: dict[Path, set[bytes]] = field(default_factory=dict)

    def changed(self, directory: Path, name: bytes | None) -> None:
        """Something in a directory changed: the entry `name`, or (None) whatever it was."""
        if directory not in self.directories:
            self.directories.add(directory)
            if name:
                self.names[directory] = {name}
        elif directory in self.names:
            names = self.names[directory]
            if not name or len(names) >= NAMES_MOST:
                del self.names[directory]
            else:
                names.add(name)

    def __bool__(self) -> bool:
        return bool(self.directories or self.appeared or self.overflow)

    def take(self) -> Changes:
        """Hand out everything and begin anew."""
        changes = Changes(
            directories=frozenset(self.directories),
            appeared=frozenset(self.appeared),
            overflow=self.overflow,
            names=self.names,
        )
        self.directories, self.appeared, self.overflow, self.names = set(), set(), False, {}
        return changes


class ManualWatcher:
    """A watcher fed by hand: for simulations, and where the system offers none (then `limited` says so)."""

    def __init__(self, limited: str | None = None) -> None:
        self._limited = limited
        self._gathered = Gathered()
        self._fed = trio.Event()

    @property
    def limited(self) -> str | None:
        return self._limited

    def touch(self, directory: Path) -> None:
        """Something directly in `directory` changed."""
        self._gathered.changed(directory, None)
        self._fed.set()

    def appear(self, directory: Path) -> None:
        """`directory` was created or moved in."""
        self._gathered.changed(directory[:-1], directory[-1])
        self._gathered.appeared.add(directory)
        self._fed.set()

    def overflow(self) -> None:
        """Word was lost."""
        self._gathered.overflow = True
        self._fed.set()

    async def watch_everything(self) -> None:
        await trio.lowlevel.checkpoint()

    async def changes(self) -> Changes:
        await self._fed.wait()
        self._fed = trio.Event()
        return self._gathered.take()
