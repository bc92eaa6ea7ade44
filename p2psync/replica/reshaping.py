"""Reshaping: the folder's type on this device, changed while it runs, and the two ways to end a difference.

`override` makes a send-only folder's disk the folder's state, `revert` the folder's state a receive-only disk's. Both
look at the whole tree first. What status says of all this stands here too.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.errors import UserError
from p2psync.index.paths import show
from p2psync.planner.ignoring import LOCAL, SHARED
from p2psync.planner.shaping import FolderType
from p2psync.replica.context import Context
from p2psync.replica.importing import import_ignores
from p2psync.replica.noting import revert
from p2psync.replica.overriding import override
from p2psync.replica.watching import Watching

DIFFERENCES_MAX = 10_000
"""Nobody reads more, and an answer must fit a line of the control socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeFigures:
    """What this device keeps differently from the folder, in paths. None of it counts as need: it is meant so."""

    type: FolderType = FolderType.SENDRECEIVE
    differing: int = 0
    """Send-only: paths where the folder wants something else than stands here."""
    local_changes: int = 0
    """Receive-only, and readers: paths changed here and not published."""
    kept: int = 0
    """Archive: files others deleted."""
    ignore_patterns: int = 0
    xattrs: bool = False
    """Whether extended attributes are synced here."""


@dataclass(frozen=True, slots=True)
class Reverted:
    """`aside`: the directory below the root where what stood there is now, None if nothing had to move."""

    paths: int
    aside: str | None


class Reshaping:
    def __init__(self, context: Context, watching: Watching) -> None:
        self._context, self._watching = context, watching

    @property
    def type(self) -> FolderType:
        return self._context.shape.type

    def figures(self, needs: int) -> ShapeFigures:
        """`needs`: how many paths are queued."""
        context, kind = self._context, self.type
        return ShapeFigures(
            type=kind, differing=0 if kind.writes else needs,
            local_changes=0 if context.publishes else context.catalog.local_changes.count(),
            kept=context.catalog.wanted_tree.kept_files() if kind is FolderType.ARCHIVE else 0,
            ignore_patterns=context.shape.rules, xattrs=context.shape.xattrs,
        )  # fmt: skip

    def differences(self) -> list[tuple[str, str]]:
        """(path, how it differs from the folder on purpose), at most `DIFFERENCES_MAX` of each kind."""
        context, catalog, found = self._context, self._context.catalog, list[tuple[str, str]]()
        if not self.type.writes:
            for live in (True, False):
                found += [(show(need.path), "not written") for need in catalog.needs.page(live, 0, DIFFERENCES_MAX)]
        if not context.publishes:
            noted = catalog.local_changes.all()[:DIFFERENCES_MAX]
            found += [(show(each.path), f"{each.change.value} here") for each in noted]
        if self.type is FolderType.ARCHIVE:
            found += [(show(path), "kept") for path in catalog.wanted_tree.kept()[:DIFFERENCES_MAX]]
        return sorted(found)

    async def change_type(self, folder: FolderType) -> None:
        """From now on this type; what that lets go on begins at once."""
        if folder is self.type:
            return

        def work() -> None:
            with self._context.tree:
                self._context.shape.change_type(folder)

        await self._context.workers.run(work)
        self._go_on()

    @property
    def xattrs(self) -> bool:
        """Whether extended attributes are synced here."""
        return self._context.shape.xattrs

    async def switch_xattrs(self, on: bool) -> None:
        """Sync them from now on, or not; with `on` when they are already, what a disk refused is tried again."""
        if not on and not self.xattrs:
            return

        def work() -> None:
            with self._context.tree:
                self._context.shape.switch_xattrs(on)

        await self._context.workers.run(work)
        self._go_on()

    async def override(self) -> int:
        """Publish what stands here over what others changed; returns how many paths that was. UserError unless send-only."""
        if self.type.writes:
            raise UserError(
                "only a send-only folder can be overridden: in this one, what others change is written anyway"
            )
        if not self._context.publishes:
            raise UserError("this device is a reader of the folder: what it published would be refused by the others")
        await self._watching.whole_pass()
        done: int = await self._context.workers.run(override, self._context)
        self._go_on()
        return done

    async def revert(self) -> Reverted:
        """Take the folder's state back; what stood here moves aside. UserError where local changes are published."""
        if self._context.publishes:
            raise UserError("only a receive-only folder can be reverted: in this one, what you change is published")
        await self._watching.whole_pass()
        paths, aside = await self._context.workers.run(revert, self._context)
        self._go_on()
        return Reverted(paths, aside)

    async def import_ignores(self, *, shared: bool) -> tuple[int, str]:
        """Take `.stignore` over, for this device or for all; (patterns, the file they are in). UserError if it cannot be."""
        context, target = self._context, SHARED if shared else LOCAL

        def work() -> int:
            with context.tree:
                return import_ignores(context.filesystem, target)

        count = await context.workers.run(work)
        self._go_on()
        return count, show(target)

    def _go_on(self) -> None:
        self._watching.rescan_everything()
        self._context.wake_for_uploads()
