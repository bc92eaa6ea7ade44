"""The shape of one replica: its type, whether it syncs extended attributes, which ignore patterns are in force.

It reads `.p2pignore.local` and `.p2pignore`, keeps the last good patterns in the catalog, and owns the rules for their change:
- Patterns that are read anew ignore at once, also during a walk: before anything that it found is told. What they no
  longer ignore stays ignored until the files have been still for a moment: an editor that replaces a file must not
  publish a tree for that moment.
- A file that cannot be understood changes nothing: the last good patterns stay, and the folder says why.
- What becomes ignored stays as it is, and its absence means nothing. What no longer is ignored is forgotten by
  `placed` and meets the folder like the files of a first scan. Neither is a deletion.
What a pattern means is `planner/ignoring.py`'s; who asks is the scanner, the publisher and the materialiser.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.rows import Placed
from p2psync.catalog.versions import Wanted
from p2psync.errors import FolderStopped
from p2psync.index.paths import Path, show
from p2psync.index.versions import Kind
from p2psync.planner.ignoring import (
    FILE_BYTES_MAX,
    IgnoreError,
    Ignores,
    Verdict,
    parse_ignores,
    parse_rule,
)
from p2psync.planner.shaping import FolderType, ignored_here, is_left_alone
from p2psync.replica.filesystem import Filesystem, Fingerprint, NotRegularFile

SETTLE_SECONDS = 0.5
"""How long ignore files must be still before what they no longer ignore is synced."""
TYPE = "type"
"""Single values of the catalog: the folder's type here, whether extended attributes are synced, the last good patterns."""
XATTRS = "xattrs"
_KEY = "ignores"
_TROUBLE = "ignore files"


@dataclass(slots=True)
class _Reading:
    """What the ignore files said, and how every file that was looked at stood."""

    prints: dict[Path, Fingerprint | None] = field(default_factory=dict)
    ignores: Ignores | None = None
    error: str | None = None


class Shape:
    """What this device keeps of its folder: its type here and the patterns in force. Safe to ask from any thread."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.type = FolderType((catalog.get(TYPE) or b"sendreceive").decode())
        self.xattrs = catalog.get(XATTRS) == b"on"
        """Whether extended attributes are synced here."""
        self._active = _remembered(catalog)
        self._coming: Ignores | None = None
        self._reading = _Reading()
        self._changed_at: float | None = None
        """When what is to come was first looked at; None: not yet."""
        self.patterns = 0
        """Grows whenever other paths may be ignored than before."""
        self.error: str | None = None
        catalog.versions.left_alone = self.leaves_alone

    # Asking.

    def verdict(self, path: Path) -> Verdict:
        """While new patterns settle, what either list ignores is ignored."""
        now, coming = self._active.verdict(path), self._coming
        if coming is None:
            return now
        then = coming.verdict(path)
        if now.ignored and then.ignored:
            return Verdict(True, now.deletable and then.deletable, now.descend and then.descend, now.rule)
        return now if now.ignored else then

    def ignores(self, path: Path, kind: Kind | None) -> bool:
        return ignored_here(kind, self.verdict(path))

    def leaves_alone(self, path: Path, wanted: Wanted | None, placed: Placed | None) -> bool:
        """Whether the difference between what is wanted and placed at `path` asks nothing of this disk."""
        source = wanted.source if wanted is not None else None
        return is_left_alone(
            wanted=None if wanted is None else wanted.kind, placed=None if placed is None else placed.kind,
            verdict=self.verdict(source or path), folder=self.type,
        )  # fmt: skip

    def skips(self, directory: Path) -> bool:
        """Whether nothing in this directory or below can matter: it need not even be watched."""
        return self.verdict(directory).skipped

    @property
    def rules(self) -> int:
        return len(self._active.rules)

    @property
    def settling(self) -> bool:
        return self._coming is not None

    # Reading.

    def begin(self, filesystem: Filesystem) -> None:
        """When the folder opens: take the files as they are. FolderStopped when they say nothing and never did."""
        self._read(filesystem)
        if self._reading.ignores is not None:
            self._switch(self._reading.ignores)
        elif self._catalog.get(_KEY) is None:
            raise FolderStopped(f"{self.error}; nothing is synced before the ignore files can be read")

    def look(self, filesystem: Filesystem, now: float) -> float | None:
        """Look whether the ignore files changed; returns after how many seconds to look again, None: all is settled.

        `now` is any clock that does not jump.
        """
        if not self.heed(filesystem) and self._coming is not None and self._is_still(now):
            before = self._coming
            self._read(filesystem)
            fresh = self._reading.ignores
            if fresh is not None and before.same_as(fresh):
                self._switch(fresh)
            else:
                self._consider()
        if self._coming is None:
            return None
        if self._changed_at is None:
            self._changed_at = now
        return SETTLE_SECONDS

    def heed(self, filesystem: Filesystem) -> bool:
        """Ignore what the files name by now as well, if they changed; whether they did. `look` must follow soon."""
        if all(_print_of(filesystem, path) == seen for path, seen in self._reading.prints.items()):
            return False
        self._read(filesystem)
        self._consider()
        return True

    def _is_still(self, now: float) -> bool:
        return self._changed_at is not None and now - self._changed_at >= SETTLE_SECONDS

    def _consider(self) -> None:
        """What was just read is to come, unless it says nothing new."""
        fresh, self._changed_at = self._reading.ignores, None
        if fresh is None or fresh.same_as(self._active):
            self._take(fresh or self._active, None)
        else:
            self._take(self._active, fresh)

    def take_now(self, filesystem: Filesystem) -> bool:
        """Take files that were put in place whole, without settling; whether the patterns changed."""
        self._read(filesystem)
        fresh = self._reading.ignores
        if fresh is None or (fresh.same_as(self._active) and self._coming is None):
            return False
        self._switch(fresh)
        return True

    def _read(self, filesystem: Filesystem) -> None:
        self._reading = _read(filesystem)
        self.error = self._reading.error

    def _take(self, active: Ignores, coming: Ignores | None) -> None:
        self.patterns += (self._coming is not None) or (coming is not None)
        self._active, self._coming = active, coming

    @property
    def trouble(self) -> tuple[str, str | None]:
        """What a status shows while the files cannot be understood: a subject and a sentence, None if all is well."""
        return _TROUBLE, None if self.error is None else f"{self.error}; the patterns there were stay in force"

    def _switch(self, fresh: Ignores) -> None:
        """Put patterns in force, and tell catalog and queue. The caller holds the tree lock."""
        old, self._active, self._coming = self._active, fresh, None
        self.patterns += 1
        if self._catalog.get(_KEY) is not None and old.same_as(fresh):
            return
        with self._catalog.transaction():
            self._catalog.set(_KEY, "\n".join(rule.text for rule in fresh.rules).encode())
            self._forget_what_was_ignored(old)
            for path in self._catalog.wanted_tree.paths():
                self._catalog.versions.check_need(path)

    def _forget_what_was_ignored(self, old: Ignores) -> None:
        """Nobody looked at these files while they were ignored: what `placed` says of them means nothing any more."""
        placed, versions = self._catalog.placed, self._catalog.versions
        for path in placed.paths():
            if not old.verdict(path).ignored:
                continue
            row, wanted = placed.get(path), versions.wanted(path)
            if row is None or (wanted is not None and wanted.source is not None):
                continue  # conflict copies are kept whatever their names match
            if ignored_here(row.kind, old.verdict(path)) and not self.ignores(path, row.kind):
                placed.forget(path)

    def change_type(self, folder: FolderType) -> None:
        """From now on this type. The caller holds the tree lock.

        What an archive kept would be deleted by any other type: instead it meets the folder like files of a first scan.
        """
        old, self.type = self.type, folder
        with self._catalog.transaction():
            self._catalog.set(TYPE, folder.value.encode())
            if folder.publishes:
                self._catalog.local_changes.clear()
            if old is FolderType.ARCHIVE is not folder:
                for path in self._catalog.wanted_tree.kept():
                    self._catalog.placed.forget(path)
            for path in self._catalog.wanted_tree.paths():
                self._catalog.versions.check_need(path)

    def switch_xattrs(self, on: bool) -> None:
        """From now on look at extended attributes, or not any more. The caller holds the tree lock.

        What was seen of them is forgotten: when next looked at, those agreed and those on the disk are united.
        """
        self.xattrs = on
        with self._catalog.transaction():
            self._catalog.set(XATTRS, b"on" if on else b"off")
            for path in self._catalog.placed.forget_looks():
                self._catalog.versions.check_need(path)


def _remembered(catalog: Catalog) -> Ignores:
    """The last good patterns, from before this process."""
    lines = (catalog.get(_KEY) or b"").decode().split("\n")
    return Ignores([parse_rule(line, "the last good patterns", number) for number, line in enumerate(lines, 1) if line])


def _read(filesystem: Filesystem) -> _Reading:
    reading = _Reading()

    def read(path: Path) -> bytes | None:
        reading.prints[path] = _print_of(filesystem, path)
        return read_ignore_file(filesystem, path)

    try:
        reading.ignores = parse_ignores(read)
    except IgnoreError as error:
        reading.error = str(error)
    return reading


def read_ignore_file(filesystem: Filesystem, path: Path) -> bytes | None:
    """What it holds, a byte too many of one that is too large; None if there is none. IgnoreError if it cannot be read."""
    try:
        with filesystem.open_file(path) as file:
            return file.read(0, FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except NotRegularFile:
        raise IgnoreError(f"{show(path)} is no plain file") from None
    except OSError as error:
        raise IgnoreError(f"{show(path)} cannot be read: {error.strerror}") from None


def _print_of(filesystem: Filesystem, path: Path) -> Fingerprint | None:
    stat = filesystem.stat(path)
    return None if stat is None else stat.fingerprint
