"""Restoring: old versions become new ordinary ones at their paths, or files elsewhere; one device's changes are undone.

In place, nothing is written here: first the content is brought to this disk (`retrieval.py`, into the local versions),
then a version with that content is published, and applying puts it there as it would another device's: what stands there
goes to history, and what was not looked at is never replaced. Source: formats, "History".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import trio

from p2psync.catalog.history import Past
from p2psync.catalog.rows import Fingerprint, Placed
from p2psync.catalog.settings import FolderSettings, load_settings, save_settings
from p2psync.errors import UserError
from p2psync.ids import ChunkId, FeedId, IdentityKey
from p2psync.index.membership import MAY_WRITE
from p2psync.index.paths import Path, show
from p2psync.index.records import RecordType, iterate_chunks
from p2psync.index.versions import NO_CONTENT, Dot, Kind, Version
from p2psync.planner.undoing import may_undo, state_before
from p2psync.planner.xattrs import HeldXattrs
from p2psync.replica.bases import local_chunk
from p2psync.replica.changes import LocalChange
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.history import PastVersion, Records, list_history, version_of
from p2psync.replica.keeping import free_name, kept_path
from p2psync.replica.publisher import EntryWriter, room_of
from p2psync.replica.retrieval import Retrieval, Target
from p2psync.wire.peer_bodies import WantedChunk

_PAGE = 500
_VERSIONS_OF_ONE = 10_000
"""Versions of one path that undoing looks at."""
_APPLY_SECONDS = 60.0
"""How long a restore waits for the disk to show what it published; what still lacks then comes by itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one path. `version` is what it shows again (None: nothing, it is deleted); `left` why it did not."""

    path: Path
    version: Version | None
    left: str | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    path: Path
    version: Version | None
    """None: nothing is to stand there."""


class Restoring:
    def __init__(self, context: Context, look: Callable[[], Awaitable[None]]) -> None:
        """`look` scans the whole tree and returns when what it found is published."""
        self._context, self._look = context, look

    async def history(self, path: Path, limit: int) -> list[PastVersion]:
        return await self._context.workers.run(list_history, self._context, path, limit)

    async def authors(self) -> dict[FeedId, IdentityKey]:
        """Whose each feed is."""
        states = await self._context.workers.run(self._context.catalog.feeds.states)
        return {state.feed: state.identity for state in states if state.identity is not None}

    async def settings(self) -> FolderSettings:
        return await self._context.workers.run(load_settings, self._context.catalog)

    async def set_settings(self, settings: FolderSettings) -> None:
        """Choose the brake's limits and how long versions are kept, on this device alone."""
        await self._context.workers.run(save_settings, self._context.catalog, settings)
        self._context.work_arrived.notify()

    async def restore(
        self, path: Path, *, at_ms: int | None, dot: Dot | None, exact: bool
    ) -> AsyncGenerator[Outcome, None]:
        """Bring a path, and what is below it, back to what it was: at a time, or one version of it.

        Files made since stay, unless `exact`. UserError when there was nothing.
        """
        self._check_writer()
        await self._look()
        async with aclosing(self._pages(path, at_ms, dot, exact)) as pages:
            async for wishes in pages:
                for outcome in await self._carry_out(wishes, overrule=False):
                    yield outcome

    async def restore_to(
        self, path: Path, filesystem: Filesystem, *, at_ms: int | None, dot: Dot | None
    ) -> AsyncGenerator[Outcome, None]:
        """Write what a path, and what is below it, was into another directory, under the path's own name."""
        retrieval = Retrieval(self._context, filesystem)
        async with aclosing(self._pages(path, at_ms, dot, False, everything=True)) as pages:
            async for wishes in pages:
                top = max(len(path) - 1, 0)
                targets = [Target(wish.version, wish.path[top:]) for wish in wishes if wish.version is not None]
                await retrieval.write(targets)
                for wish, target in zip([w for w in wishes if w.version is not None], targets, strict=True):
                    yield Outcome(wish.path, target.version, target.failed)

    async def undo(self, feeds: Collection[FeedId], since_ms: int) -> AsyncGenerator[Outcome, None]:
        """Take back what the device of these feeds changed since then; what others changed after it is left."""
        self._check_writer()
        await self._look()
        after = 0
        while True:
            after, wishes, left = await self._context.workers.run(self._undone, set(feeds), since_ms, after)
            for outcome in [*left, *await self._carry_out(wishes, overrule=True)]:
                yield outcome
            if not after:
                return

    def _check_writer(self) -> None:
        role = self._context.membership.role_of(self._context.device.identity_key)
        if role is None or RecordType.FILE not in MAY_WRITE[role]:
            raise UserError("a reader's changes are refused by the other devices: restore elsewhere with --to DIR")
        folder = self._context.shape.type
        if not (folder.publishes and folder.writes):
            raise UserError(
                f"this folder is {folder.value} here, and what is restored in place is published and written: restore"
                " elsewhere with --to DIR, or on another device"
            )

    # What is to stand where.

    async def _pages(
        self, path: Path, at_ms: int | None, dot: Dot | None, exact: bool, everything: bool = False
    ) -> AsyncGenerator[list[_Wish], None]:
        run = self._context.workers.run
        top = await run(self._top, path, at_ms, dot)
        time_ms = top.time_ms if top is not None and at_ms is None else at_ms
        if top is not None and top.kind is not Kind.DIRECTORY:
            version = await run(Records(self._context).version, path, top.dot)
            yield [_Wish(path, self._readable(top, version))]
            return
        assert time_ms is not None
        after: Path | None = None
        found = False
        while True:
            rows = await run(self._context.catalog.history.standing_at, path, time_ms, after, _PAGE)
            if not rows:
                break
            after = rows[-1].path
            wishes = await run(self._wishes, rows, time_ms, exact, everything)
            found = found or any(row.time_ms <= time_ms and row.kind is not Kind.DELETED for row in rows)
            yield wishes
        if not found:
            raise UserError(f"there was nothing at {show(path) or 'this folder'} then; p2psync history lists what was")

    def _top(self, path: Path, at_ms: int | None, dot: Dot | None) -> Past | None:
        """The version of the path itself; None for the root."""
        history = self._context.catalog.history
        if not path:
            if at_ms is None:
                raise UserError("a whole folder is restored by time: use --at")
            return None
        if dot is None:
            assert at_ms is not None
            found = history.version_at(path, at_ms)
        else:
            found = next((row for row in history.of_path(path, _VERSIONS_OF_ONE) if row.dot == dot), None)
            kept = next((k for k in self._context.catalog.kept.of_path(path) if k.placed.dot == dot), None)
            if found is None and kept is not None:
                found = Past(path, dot, kept.kept_ms, kept.placed.kind, kept.size)
        gone = found is None or found.kind is Kind.DELETED
        if gone and not (at_ms is not None and self._context.catalog.history.of_tree(path, 1)):
            raise UserError(f"there was nothing at {show(path)} then; p2psync history lists what was")
        return None if gone else found

    def _readable(self, past: Past, version: Version | None) -> Version:
        if version is not None:
            return version
        for kept in self._context.catalog.kept.of_path(past.path):
            if kept.placed.dot == past.dot:
                return version_of(kept.placed)
        raise UserError(f"the record of this version of {show(past.path)} is not kept any more")

    def _wishes(self, rows: Iterable[Past], time_ms: int, exact: bool, everything: bool) -> list[_Wish]:
        records, wishes = Records(self._context), []
        for row in rows:
            if row.time_ms <= time_ms and row.kind is not Kind.DELETED:
                version = self._readable(row, records.version(row.path, row.dot))
                if everything or not self._stands(row.path, version):
                    wishes.append(_Wish(row.path, version))
            elif exact and self._live(row.path):
                wishes.append(_Wish(row.path, None))
        return wishes

    def _stands(self, path: Path, version: Version) -> bool:
        """Whether the folder shows this state already."""
        versions = self._context.catalog.versions
        wanted = versions.wanted(path)
        if wanted is None or wanted.kind is not version.kind:
            return False
        now = versions.wanted_version(wanted)
        return version.kind is Kind.DIRECTORY or (
            now.same_state(version) and (now.mode, now.xattrs) == (version.mode, version.xattrs)
        )

    def _live(self, path: Path) -> bool:
        wanted = self._context.catalog.versions.wanted(path)
        return wanted is not None and wanted.kind is not Kind.DELETED and wanted.source is None

    def _undone(self, feeds: set[FeedId], since_ms: int, after: int) -> tuple[int, list[_Wish], list[Outcome]]:
        """A page of paths that these feeds changed: (number to go on from, 0 at the end; what to do; what is left)."""
        catalog, records = self._context.catalog, Records(self._context)
        wishes: list[_Wish] = []
        left: list[Outcome] = []
        page = catalog.history.by_authors(feeds, since_ms, after, _PAGE)
        for _, path in page:
            rows = catalog.history.of_path(path, _VERSIONS_OF_ONE)
            mine = [row for row in rows if row.dot.feed in feeds and row.time_ms >= since_ms]
            undone = [v for row in mine if (v := records.version(path, row.dot)) is not None]
            chosen = {row.dot for row in mine}
            others = [v for row in rows if row.dot not in chosen and (v := records.version(path, row.dot)) is not None]
            wanted = catalog.versions.wanted(path)
            if wanted is None:
                continue
            before = state_before(undone, others)
            now = catalog.versions.wanted_version(wanted)
            if (before is None and not now.live) or (before is not None and self._stands(path, before)):
                continue
            if not may_undo(wanted.dot, undone):
                left.append(Outcome(path, now, "somebody else changed it since"))
            elif len(others) + len(undone) < len(rows):
                left.append(Outcome(path, now, "records of its past are not kept any more"))
            else:
                wishes.append(_Wish(path, before))
        return (page[-1][0] if len(page) == _PAGE else 0), wishes, left

    # Doing it.

    async def _carry_out(self, wishes: Sequence[_Wish], *, overrule: bool) -> list[Outcome]:
        """Bring the content here, publish, and wait until the disk shows it."""
        if not wishes:
            return []
        context = self._context
        failed = await self._bring([wish.version for wish in wishes if wish.version is not None])
        able = [wish for wish in wishes if wish.version is None or wish.version.dot not in failed]
        await context.workers.run(self._publish, able, overrule)
        context.wake_for_entries()
        outcomes = [
            Outcome(wish.path, wish.version, failed.get(wish.version.dot) if wish.version is not None else None)
            for wish in wishes
        ]
        await self._applied([wish.path for wish in able])
        return outcomes

    async def _bring(self, versions: Sequence[Version]) -> dict[Dot, str]:
        """Have the content of these versions on this disk; by dot, why some cannot be had."""
        context = self._context
        prepared = await context.workers.run(self._away, versions)
        targets = [Target(version, kept_path(name)) for version, name, _ in prepared]
        await Retrieval(context, context.filesystem).write(targets)

        def write_down() -> None:
            now_ms = int(context.clock.now() * 1000)
            for target, (_, name, row) in zip(targets, prepared, strict=True):
                if target.done:
                    context.catalog.kept.add(name, row, now_ms, None, taken=False)

        await context.workers.run(write_down)
        return {target.version.dot: target.failed for target in targets if target.failed is not None}

    def _away(self, versions: Sequence[Version]) -> list[tuple[Version, str, Placed]]:
        found = []
        for version in versions:
            if version.kind is Kind.FILE and version.size and not self._is_here(version):
                row = Placed(
                    path=version.path, dot=version.dot, hash=version.hash, kind=version.kind, vector=version.vector,
                    fingerprint=Fingerprint(0, 0, version.size, version.mtime_ns, 0), mode=version.mode,
                    content=version.content, xattrs=HeldXattrs(version.xattrs),
                )  # fmt: skip
                found.append((version, free_name(self._context, row), row))
        return found

    def _is_here(self, version: Version) -> bool:
        """Whether every byte can be read here, verified."""
        context, offset = self._context, 0
        generation, rows = context.secrets.generations.get(version.content.generation), file_rows(context, version)
        if generation is None or rows is None:
            return False
        if context.catalog.bases.has(version.content):
            return True
        for chunk, length in iterate_chunks(rows):
            wanted = WantedChunk(ChunkId(chunk), length)
            if local_chunk(context, version.content, wanted, offset, generation) is None:
                return False
            offset += length
        return True

    def _publish(self, wishes: Sequence[_Wish], overrule: bool) -> None:
        context = self._context
        with context.tree, context.catalog.transaction():
            if context.unsure:
                raise UserError(
                    "this device takes in what it wrote before its home was restored or copied; try again soon"
                )
            writer = EntryWriter(context, {wish.path for wish in wishes})
            for wish in wishes:
                base, wanted = context.catalog.placed.get(wish.path), context.catalog.versions.wanted(wish.path)
                version = wish.version
                change = LocalChange(path=wish.path, kind=Kind.DELETED, base=base)
                if version is not None:
                    change = LocalChange(
                        path=wish.path, kind=version.kind, base=base, mode=version.mode, target=version.target,
                        fingerprint=Fingerprint(0, 0, version.size, version.mtime_ns, 0), rows=version.content.chunks,
                        xattrs=HeldXattrs(version.xattrs),
                    )  # fmt: skip
                seen = wanted.vector if overrule and wanted is not None else {}
                writer.begin_unit(room_of(writer.before, change, wanted, False) + 48 * len(seen))
                writer.add_restored(change, wanted, version.content if version is not None else NO_CONTENT, seen)
            writer.flush()

    async def _applied(self, paths: Sequence[Path]) -> None:
        """Until the disk shows what was published, or for a while."""
        context = self._context
        with trio.move_on_after(_APPLY_SECONDS):
            while True:
                seen = context.changed.count
                waiting = await context.workers.run(self._waiting, paths)
                if all(path in context.refused for path in waiting):
                    return
                await context.changed.wait(seen)

    def _waiting(self, paths: Sequence[Path]) -> list[Path]:
        return [path for path in paths if self._context.catalog.needs.has(path)]
