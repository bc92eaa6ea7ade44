"""Watching: the tasks that decide when the scanner looks where, and what it finds goes to the publisher.

One task works through directories, one follows the watcher, one asks for a full rescan now and then, one lets missing
paths settle before they become tombstones (a rename's other half may still be on its way). Group commit needs no timer:
what changes while a commit is in flight is the next group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

import trio

from p2psync.catalog.rows import Placed
from p2psync.index.paths import Path
from p2psync.planner.grouping import grouped
from p2psync.planner.ignoring import SHARED
from p2psync.replica.bases import Fresh, remember
from p2psync.replica.changes import Unit
from p2psync.replica.context import Context, Signal
from p2psync.replica.marker import check_marker
from p2psync.replica.missing import deletions, moved_away, pages
from p2psync.replica.noting import publish_or_note
from p2psync.replica.publisher import Committed
from p2psync.replica.reader import give_back_windows
from p2psync.replica.scanner import Candidate, Looked, Named, look, prepare
from p2psync.replica.watcher import Gathered, Watcher

SETTLE_SECONDS = 0.25
"""How long a path must be missing before its tombstone is published."""
RESCAN_SECONDS = 3600
"""A full rescan ±25 %, against whatever a watcher missed."""
_LOOK_DIRECTORIES = 64
_PREPARE_FILES = 1024
_PREPARE_BYTES = 64 << 20
_PREPARE_FIRST = 128
"""The first group of a walk is small: other devices begin with it while the next one is prepared."""
_MISSING_AT_ONCE = 5000
"""Rows of what is missing that are held in memory until the walk is through."""
_UNSETTLED_SECONDS = 0.05
_BREATH = 4.0
"""A directory scan waits this many times its own duration before the next, so that a busy tree cannot eat a core."""
_BREATH_MAX = 1.0
_ECHO_SECONDS = 2.0
"""While this device brings files here, mostly these are what is heard of: a scan that found nothing else waits so long."""


class WatcherFactory(Protocol):
    def __call__(self) -> AbstractAsyncContextManager[Watcher]: ...


class Watching:
    """The scanning side of one replica. `run` it in a nursery; FolderStopped comes out of it."""

    def __init__(self, context: Context, replica: bytes, watcher: WatcherFactory, places: Callable[[], bool]) -> None:
        """`places`: whether files are brought here just now."""
        self._context, self._replica, self._watcher, self._places = context, replica, watcher, places
        self._noticed = Gathered()
        """What the watcher named, and what has to settle, to be looked at beside what is dirty."""
        self._missing = Gathered()
        """Where something is missing."""
        self._went_missing = Signal()
        self._looking = trio.Lock()
        """Held by a walk, and by each page of tombstones: what moved is found under its new name before the old one goes."""
        self._everything = True
        self._stop = False
        self._busy = True
        self._resting = False
        """Between two walks, when nothing is looked at until the first was long enough ago."""
        self._echoes = trio.CancelScope()
        """Around the pause of a walk that found nothing but what was placed here."""
        self._settling_files = 0
        """Pauses under way, after which something is looked at once more."""
        self.settling = False
        self._requested = self._served = 0
        """Full scans asked for, and up to which request one that began after it is done."""
        self._passed = Signal()
        self._following = trio.CancelScope()
        """Around waiting for the watcher."""
        self._patterns = 0
        """Which patterns the watches were set up with."""
        self.limited: str | None = None

    @property
    def scanning(self) -> bool:
        """Whether something is looked at or waits for it."""
        waiting = self._everything or self._settling_files or self._noticed or self._context.dirty
        return self._busy and (bool(waiting) or not self._resting)

    def rescan_everything(self) -> None:
        self._everything = True
        self._echoes.cancel()
        self._context.look_again.notify()

    async def whole_pass(self) -> None:
        """Look at everything once; returns when a full scan that began after this call is done."""
        self._requested += 1
        wanted = self._requested
        self.rescan_everything()
        while self._served < wanted:
            await self._passed.wait(self._passed.count)

    async def run(self) -> None:
        """Watch first, scan after: what changes during the first scan has an event."""
        self._everything, self._stop = True, False
        self._patterns = self._context.shape.patterns
        try:
            async with self._watcher() as watcher, trio.open_nursery() as nursery:
                self.limited = watcher.limited
                nursery.start_soon(self._follow, watcher)
                nursery.start_soon(self._rescan_now_and_then)
                nursery.start_soon(self._settle)
                await self._ignores_are_here()
                nursery.start_soon(self._work, nursery)
        finally:
            self._stop = True
            self._busy, self._resting, self._settling_files = True, False, 0  # what changes until it runs is not known

    async def _follow(self, watcher: Watcher) -> None:
        while True:
            with trio.CancelScope() as self._following:
                changes = await watcher.changes()
            if self._following.cancelled_caught:
                await watcher.watch_everything()  # patterns changed: more may matter than before
                continue
            self.limited = watcher.limited
            if changes.overflow:
                self.rescan_everything()
            self._context.rescan(set(changes.appeared))
            self._notice({directory: changes.names.get(directory) for directory in changes.directories})

    def _notice(self, where: Mapping[Path, Set[bytes] | None]) -> None:
        """Look at these directories, or at these entries of them, again."""
        for directory, names in where.items():
            for name in names or (None,):
                self._noticed.changed(directory, name)
        if where:
            self._context.look_again.notify()
            self._context.changed.notify()

    async def _rescan_now_and_then(self) -> None:
        while True:
            spread = int.from_bytes(self._context.randomness.bytes(2), "big") / 65535 - 0.5
            await trio.sleep(RESCAN_SECONDS * (1 + spread / 2))
            self.rescan_everything()

    async def _work(self, nursery: trio.Nursery) -> None:
        context = self._context
        while True:
            seen = context.look_again.count
            everything, self._everything = self._everything, False
            noticed, directories, context.dirty = self._noticed.take(), context.dirty, set()
            named = {place: names for place, names in noticed.names.items() if place not in directories}
            directories |= noticed.directories
            if not everything and not directories:
                self._busy = False
                give_back_windows()
                context.changed.notify()
                await context.look_again.wait(seen)
                continue
            self._busy = True
            serving = self._requested
            everything = await self._patterns_changed(nursery) or everything
            started = trio.current_time()
            async with self._looking:
                where = deque([()] if everything else sorted(directories, key=len))
                unsettled, found = await self._walk(where, named, everything)
            if unsettled:
                self._settling_files += 1
                nursery.start_soon(self._look_later, unsettled)
            if everything:
                self._served = serving
                self._passed.notify()
            elif directories:
                await self._rest(trio.current_time() - started, found)

    async def _rest(self, busy: float, found: int) -> None:
        """After a walk that took so many seconds and found so many changes."""
        self._resting = True
        self._context.changed.notify()
        await trio.sleep(max(0.0, min(_BREATH_MAX, _BREATH * busy) - 0.02))
        if not (found or self._everything):
            with trio.move_on_after(_ECHO_SECONDS) as self._echoes:
                while self._places():
                    await self._context.changed.wait(self._context.changed.count)
        self._resting = False

    async def _ignores_are_here(self) -> None:
        """A folder's first scan waits for the folder's ignore file: what it names must not be published before."""
        context = self._context

        def missing() -> bool:
            if not (context.shape.type.publishes and context.shape.type.writes):
                return False
            need = context.catalog.needs.at(SHARED)
            return (
                need is not None and need.live and context.catalog.placed.get(SHARED) is None
                and context.filesystem.stat(SHARED) is None
            )  # fmt: skip

        while True:
            seen = context.changed.count
            if not await context.workers.run(missing):
                return
            await context.changed.wait(seen)

    async def _patterns_changed(self, nursery: trio.Nursery) -> bool:
        """Before each walk: take changed ignore files, and come back while they settle."""
        context, now = self._context, trio.current_time()

        def look() -> float | None:
            with context.tree:
                return context.shape.look(context.filesystem, now)

        again = await context.workers.run(look)
        subject, sentence = context.shape.trouble
        if context.trouble.get(subject) != sentence:
            context.set_trouble(subject, sentence)
        if again is not None:
            self._settling_files += 1
            nursery.start_soon(self._look_later, {SHARED}, again)
        if self._patterns == context.shape.patterns:
            return False
        self._patterns = context.shape.patterns
        self._following.cancel()
        context.work_arrived.notify()
        return True

    async def _look_later(self, files: set[Path], seconds: float = _UNSETTLED_SECONDS) -> None:
        await trio.sleep(seconds)
        self._settling_files -= 1
        where: dict[Path, set[bytes]] = {}
        for path in files:
            where.setdefault(path[:-1], set()).add(path[-1])
        self._notice(where)

    async def _walk(self, pending: deque[Path], named: Named, everything: bool) -> tuple[set[Path], int]:
        """Files to be looked at again soon, and how many changes were found."""
        context, unsettled, missing, changed, gone = self._context, set[Path](), list[Placed](), 0, 0
        named_here = set(pending)
        await context.workers.run(check_marker, context.filesystem, context.folder, self._replica)
        while pending:
            batch = [pending.popleft() for _ in range(min(_LOOK_DIRECTORIES, len(pending)))]
            found: Looked = await context.workers.run(self._look, batch, {} if everything else named)
            if everything:
                pending += found.below
            else:
                above = set(found.above) - named_here  # once, however many that are gone were in it
                pending += (path for path in (*found.appeared, *sorted(above)) if path not in named_here)
                named_here |= above
            groups = grouped(
                found.candidates, lambda each: each.stat.size,
                most=_PREPARE_FILES, most_bytes=_PREPARE_BYTES,
                first=_PREPARE_FIRST if changed < _PREPARE_FIRST else None,
            )  # fmt: skip
            changed += len(found.candidates)
            for group in groups:
                unsettled |= await self._publish(group)
            missing += found.missing
            gone += len(found.missing)
            if not pending or len(missing) > _MISSING_AT_ONCE:
                await self._tell_missing(missing)
                missing = []
        return unsettled, changed + gone

    def _look(self, directories: Sequence[Path], named: Named) -> Looked:
        """In turn where something was named, mostly what was placed here just now; a full scan may wait for a disk."""
        with self._context.workers.turn if named else nullcontext():
            return look(self._context, directories, named)

    async def _tell_missing(self, missing: list[Placed]) -> None:
        """Renamed directories go at once, now that the walk was where they are; whatever else is missing settles first."""
        if not missing:
            return
        context = self._context

        def work() -> tuple[set[Path], Committed]:
            check_marker(context.filesystem, context.folder, self._replica)
            moved = moved_away(context, missing)
            told = self._tell(moved) if moved else Committed()
            return {change.path for unit in moved for change in unit}, told

        gone, committed = await context.workers.run(work)
        if gone:
            self._announce(committed)
        for placed in missing:
            if placed.path not in gone:
                self._missing.changed(placed.path[:-1], placed.path[-1])
        if self._missing:
            self.settling = True
            self._went_missing.notify()

    async def _publish(self, candidates: list[Candidate]) -> set[Path]:
        def work() -> tuple[set[Path], Committed]:
            prepared = prepare(self._context, candidates, lambda: self._stop)
            committed = self._tell(prepared.units) if prepared.units else Committed()
            # What was only renamed was looked at when it came.
            changes = [change for unit in prepared.units for change in unit if change.rows and change.origin is None]
            remember(
                self._context,
                [
                    Fresh(path=c.path, size=c.fingerprint.size, edited=c.base is not None, data=c.inline)
                    for c in changes
                ],
            )
            return prepared.unsettled, committed

        unsettled, committed = await self._context.workers.run(work)
        self._announce(committed)
        return unsettled

    def _tell(self, units: Sequence[Unit]) -> Committed:
        """But for what the ignore files name by now: whoever writes them first may count on it, also during a walk."""
        context = self._context
        with context.tree:
            if context.shape.heed(context.filesystem):
                context.dirty.add(())
            return publish_or_note(context, units)

    def _announce(self, committed: Committed) -> None:
        context = self._context
        if context.dirty:
            context.look_again.notify()
        if committed.versions:
            context.feeds_grew.notify()
        if committed.queued:
            context.uploads_grew.notify()
        context.work_arrived.notify()
        context.changed.notify()

    async def _settle(self) -> None:
        """Publish tombstones of what stays missing, after the marker was seen once more."""
        context = self._context
        while True:
            seen = self._went_missing.count
            if not self._missing:
                self.settling = False
                context.changed.notify()
                await self._went_missing.wait(seen)
            missing = self._missing.take()  # what goes missing from here on gets a pause of its own
            await trio.sleep(SETTLE_SECONDS)
            left = pages(context, missing)

            def work(left: Iterator[list[Placed]] = left) -> Committed | None:
                check_marker(context.filesystem, context.folder, self._replica)
                page = next(left, None)
                units = deletions(context, page) if page is not None else []
                return self._tell(units) if units else None if page is None else Committed()

            while True:
                async with self._looking:
                    committed = await context.workers.run(work)
                if committed is None:
                    context.rescan(set(context.dirty))
                    break
                self._announce(committed)
