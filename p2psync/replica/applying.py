"""Applying: the task that works off the `need` queue in rounds.

A round goes through everything alive first (directories, renames, metadata, then content as it arrives) and through
deletions last, so that what is to be deleted can still serve as a source. A file whose local content lives on only as
a conflict copy is not replaced before that copy stands. What cannot be done now stays queued.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

import trio

from p2psync.catalog.needs import Need
from p2psync.errors import StorageError
from p2psync.index.paths import Path, show
from p2psync.index.versions import Kind
from p2psync.planner.ignoring import SHARED
from p2psync.planner.steps import Step
from p2psync.replica.assembly import Assembly
from p2psync.replica.bases import Fresh, remember
from p2psync.replica.braking import Braking
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.claiming import claim_directories
from p2psync.replica.context import Context
from p2psync.replica.failures import only_failure
from p2psync.replica.fetcher import Fetcher
from p2psync.replica.materialiser import Materialiser
from p2psync.replica.merging import Merging
from p2psync.replica.namesakes import Namesakes
from p2psync.replica.plans import Plan, Sight, as_placed, plan_path
from p2psync.replica.recovery import recover
from p2psync.replica.scanner import fingerprint_of

_CREATING = (Step.WRITE, Step.LINK, Step.DIRECTORY)
_GROUP = 512
"""Files placed under one pair of syncs."""
_DISK_RETRY_SECONDS = 5.0
_MOVED_RETRY_SECONDS = 0.5


class Applying:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._materialiser = Materialiser(context)
        self.braking = Braking(context)
        self._fetcher = Fetcher(context, self._materialiser)
        self._merging = Merging(context, self.braking.may_apply)
        self._placing = trio.Lock()
        self._claims: set[Path] = set()
        """Paths where a file or symlink is wanted and perhaps something below it as well."""
        self._working, self._seen = False, context.work_arrived.count
        self._live_done = 0
        """Up to where (`Versions.taken_in`) everything alive was gone through in this round."""

    @property
    def busy(self) -> bool:
        """Whether there is, or may be, something to do at once."""
        return self._working or self._seen != self._context.work_arrived.count

    async def run(self) -> None:
        """Work until cancelled; a refusing disk is shown and tried again."""
        context, interrupted = self._context, False
        while True:
            seen = self._seen = context.work_arrived.count
            self._working = True
            try:
                if interrupted:
                    await context.workers.run(recover, context)
                progress, interrupted = await self._round(), False
                context.set_trouble("disk", None)
                wait = self._retry_after()
            except (StorageError, OSError, ExceptionGroup) as error:
                progress, interrupted = 0, True
                wait = self._after_refusal(error)
            context.rescan(set(context.dirty))
            if progress:
                continue
            self._working = interrupted  # what a refusing disk left half done is not done
            context.changed.notify()
            with trio.move_on_after(wait if wait is not None else float("inf")):
                await context.work_arrived.wait(seen)

    def _retry_after(self) -> float | None:
        wait = self._fetcher.retry_after
        if not self._materialiser.not_kept:
            return wait
        return _DISK_RETRY_SECONDS if wait is None else min(wait, _DISK_RETRY_SECONDS)

    def _after_refusal(self, error: Exception) -> float:
        """Show why the disk refused; seconds until the next try. Raises again what is no refusal of the disk."""
        failure = only_failure(error, (StorageError, OSError))
        if failure is None:
            raise error
        self._context.dirty.add(())
        if isinstance(failure, StorageError):
            self._context.set_trouble("disk", str(failure))
            return _DISK_RETRY_SECONDS
        return _MOVED_RETRY_SECONDS  # a directory went away or changed its kind between planning and doing

    async def _round(self) -> int:
        context = self._context
        context.begin_round()
        self._materialiser.not_kept = self._fetcher.came_in_vain = False
        progress = await self._ignores_first()
        progress += self._announce(await context.workers.run(self._merge_texts))
        for live in (True, False):
            after = 0
            while True:
                needs = await context.workers.run(self._next_needs, live, after)
                if not needs:
                    break
                after = needs[-1].id
                progress += await (self._apply_live(needs) if live else self._apply_deletions(needs))
                context.changed.notify()
        await context.workers.run(self._materialiser.finish)
        progress += await self._claim_directories()
        if context.temps:
            await context.workers.run(self._remove_stale_temps)
        context.end_round()
        return progress + (context.catalog.versions.taken_in != self._live_done)

    def _merge_texts(self) -> int:
        self.braking.judge()
        return self._merging.run()

    def _next_needs(self, live: bool, after: int) -> Sequence[Need]:
        """The next page of the queue; whatever came since the last one is judged by the brake first, so that nothing in the
        page waits for the next judgement while what it must come before does not."""
        catalog, versions = self._context.catalog, self._context.catalog.versions
        with self._context.workers.turn, catalog.reading():
            self.braking.judge()
            if not live and versions.taken_in != self._live_done:
                return []  # what came since may be the other side of a rename: first what is alive of it
            self._live_done = versions.taken_in
            if live and not self._context.peers:  # a live peer may have what no store was told of
                return catalog.needs.with_source(after)
            return catalog.needs.page(live, after)

    async def _ignores_first(self) -> int:
        """The ignore file comes before everything it may ignore."""
        context = self._context
        need = await context.workers.run(self._need_of_ignores)
        if need is None or not context.shape.type.writes:
            return 0
        done = await (self._apply_live([need]) if need.live else self._apply_deletions([need]))
        if done:
            await context.workers.run(self._take_ignores)
        return done

    def _need_of_ignores(self) -> Need | None:
        self.braking.judge()
        return self._context.catalog.needs.at(SHARED)

    def _take_ignores(self) -> None:
        context = self._context
        with context.tree:
            if context.shape.take_now(context.filesystem):
                context.dirty.add(())

    async def _claim_directories(self) -> int:
        claims, self._claims = self._claims, set()
        if not claims or not self._context.publishes:
            return 0
        return self._announce(await self._context.workers.run(claim_directories, self._context, claims))

    def _announce(self, published: int) -> int:
        if published:
            self._context.feeds_grew.notify()
            self._context.uploads_grew.notify()
            self._context.changed.notify()
        return published

    def _remove_stale_temps(self) -> None:
        """Between rounds nothing is being assembled: what no queued path needs was given up."""
        context = self._context
        temps = list(context.temps)
        for path in set(temps) - context.catalog.needs.among(temps):
            with suppress(OSError):  # it stays where it is, and must stop no other path
                context.filesystem.remove_temp(path)
            context.temps.discard(path)

    async def _apply_deletions(self, needs: Sequence[Need]) -> int:
        def work() -> int:
            deepest_first = sorted(needs, key=lambda need: len(need.path), reverse=True)
            return self._materialiser.place(self._plans(deepest_first, self._sight(needs)))

        async with self._placing:
            return await self._context.workers.run(work)

    async def _apply_live(self, needs: Sequence[Need]) -> int:
        context = self._context
        async with self._placing:
            placed, plans = await context.workers.run(self._directories_first, needs)
        writes = [plan for plan in plans if plan.step is Step.WRITE]
        rest = sorted((plan for plan in plans if plan.step is not Step.WRITE), key=lambda plan: len(plan.path))
        async with self._placing:
            placed += await context.workers.run(self._materialiser.place, rest)
        lists = [plan for plan in writes if plan.version is not None and plan.version.content.depth and not plan.rows]
        for plan in lists:
            await self._complete_list(plan)
        ready: list[Plan] = []

        async def take(assemblies: list[Assembly]) -> None:
            """Whoever finds the disk free places all that is ready; the others only add to it."""
            nonlocal placed
            ready.extend(assembly.plan for assembly in assemblies)
            if self._placing.locked() and len(ready) < _GROUP:
                return
            async with self._placing:
                while group := ready[:_GROUP]:
                    # Cancelled here, when the last chunk has come, it leaves them to whoever comes after the transfer.
                    placed += await context.workers.run(self._place, group)
                    del ready[: len(group)]
                    context.content_grew.notify()
                    context.changed.notify()

        fetchable = [plan for plan in writes if plan.rows or plan.size == 0]
        if fetchable:
            await self._fetcher.fetch(fetchable, take)
            await take([])
        return placed

    def _place(self, group: Sequence[Plan]) -> int:
        placed = self._materialiser.place(group)
        fresh = [
            Fresh(
                path=plan.path,
                size=plan.size,
                edited=plan.version.replaces is not None,
                data=plan.whole,
                content=plan.version.content,
            )
            for plan in group
            if plan.version and plan.text
        ]
        with self._context.workers.turn:
            remember(self._context, fresh)
        return placed

    async def _complete_list(self, plan: Plan) -> None:
        assert plan.version is not None
        content = plan.version.content
        await self._fetcher.fetch_list(content.chunks, content.generation)
        rows: bytes | None = await self._context.workers.run(file_rows, self._context, plan.version)
        plan.rows = rows or b""

    def _directories_first(self, needs: Sequence[Need]) -> tuple[int, list[Plan]]:
        """Make the directories among these needs, as they are wanted, before what may be in them is planned; returns how
        many were placed, and the plans of the rest."""
        sight = self._sight(needs)
        directories = [need for need in needs if sight.wants_directory(need.path)]
        placed = 0
        if directories:
            directories.sort(key=lambda need: len(need.path))
            ahead = {need.path for need in directories}
            placed = self._materialiser.place(self._plans(directories, sight, ahead))
        return placed, self._plans([need for need in needs if not sight.wants_directory(need.path)], sight)

    def _sight(self, needs: Sequence[Need]) -> Sight:
        with self._context.workers.turn:
            return Sight(self._context, [need.path for need in needs])

    def _plans(self, needs: Sequence[Need], sight: Sight, ahead: Collection[Path] = ()) -> list[Plan]:
        """`ahead` are directories that are about to be made: nobody need make them as parents of something."""
        parents, namesakes = set(ahead), Namesakes(self._context.filesystem)
        with self._context.workers.turn:
            return [plan for need in needs if (plan := self._plan(need, sight, parents, namesakes)) is not None]

    def _plan(self, need: Need, sight: Sight, parents: set[Path], namesakes: Namesakes) -> Plan | None:
        """What to do about a queued path, ready to be done; None when it must wait. One bad path stops no other."""
        context = self._context
        try:
            if self.braking.holds and self._is_held(need.path):
                return None
            plan = plan_path(sight, need.path)
            if plan.dot is not None and not self.braking.may_apply(plan.dot):
                return None  # came after the brake judged: the next page sees it
            if not self._may_act(plan):
                return None
            if plan.step in _CREATING and (other := namesakes.of(plan.path)) is not None:
                context.refuse_now(plan.path, f"waits: this disk takes it for {show(other)}; rename one of the two")
                return None
            if plan.step is Step.LOOK:
                context.dirty.add(need.path[:-1])
                return None
            return plan if self._prepared(plan, sight, parents) else None
        except OSError as error:
            context.refuse_now(need.path, f"cannot be written: {error.strerror}")
            context.dirty.add(need.path[:-1])
            return None

    def _is_held(self, path: Path) -> bool:
        wanted = self._context.catalog.versions.wanted(path)
        return wanted is not None and not self.braking.may_apply(wanted.dot)

    def _may_act(self, plan: Plan) -> bool:
        """Whether this disk takes part in what the path needs."""
        context = self._context
        if context.catalog.versions.left_alone(plan.path, plan.wanted, plan.base):
            return False
        if plan.step is Step.LOOK and context.catalog.local_changes.get(plan.path) is not None:
            return False  # it differs on purpose, until it is reverted
        return context.shape.type.writes or plan.step in (Step.RECORD, Step.LOOK)

    def _prepared(self, plan: Plan, sight: Sight, parents: set[Path]) -> bool:
        """Get a plan ready to carry out or fetch for; False when it must wait."""
        context = self._context
        if plan.step in (Step.WRITE, Step.LINK, Step.DIRECTORY) and not self._may_create(plan, parents):
            return False
        if plan.step is Step.WRITE and plan.version is not None:
            plan.rows = file_rows(context, plan.version) or b""
            self._prefer_rename(plan, sight)
        elif plan.step is Step.LINK and plan.version is not None:
            context.filesystem.remove_temp(plan.path)
            context.filesystem.make_temp_symlink(plan.path, plan.version.target or b"")
            stat = context.filesystem.temp_stat(plan.path)
            if stat is None:
                return False
            plan.temp = fingerprint_of(stat)
        return True

    def _may_create(self, plan: Plan, parents: set[Path]) -> bool:
        context = self._context
        if plan.base is not None and plan.base.live and not context.catalog.versions.copies_placed(plan.path):
            return False  # its content survives only as a conflict copy that is not there yet
        obstacle = self._materialiser.ensure_parents(plan.path, parents)
        if obstacle is not None:
            context.refuse_now(plan.path, f"waits: {show(obstacle)} is no directory here")
            self._claims.add(obstacle)
            return False
        if plan.step is not Step.DIRECTORY and plan.base is not None and plan.base.kind is Kind.DIRECTORY:
            self._claims.add(plan.path)  # if something lives below, the directory stays
        return True

    def _prefer_rename(self, plan: Plan, sight: Sight) -> None:
        """If the content stands at the path this version came from, and that path is to go, move it."""
        version = plan.version
        if version is None or version.origin is None or (plan.base is not None and plan.base.live):
            return
        source, wanted = sight.placed.get(version.origin.path), sight.wanted.get(version.origin.path)
        if source is None or not source.same_state(version) or (wanted is not None and wanted.kind is not Kind.DELETED):
            return
        if wanted is not None and not self.braking.may_apply(wanted.dot):
            return  # that it goes there is held
        if self._context.catalog.versions.left_alone(source.path, wanted, source):
            return
        if self._context.shape.xattrs and not source.xattrs.has(version.xattrs):
            return  # two things at once could not be told apart after a crash
        stat = sight.stat(source.path)
        if stat is not None and as_placed(source, stat):
            plan.xattrs = source.xattrs.given(version.xattrs) if self._context.shape.xattrs else plan.xattrs
            plan.step, plan.source = Step.MOVE, source
