"""Scrubbing: the files that this disk should hold are read again and compared with the chunks they are placed as.

It owns the judgement what is bit rot: other bytes under the very stamp (device, inode, size, both times) that the catalog
knows. Whatever has another stamp was changed through the kernel, and is the scanner's. The right content is brought first,
in full and verified, below `.p2psync/rotten/`; then the two names are exchanged, so that at no moment the wrong bytes are
an edit or the file is missing. What nobody can give is left where it is and flagged. Source: formats, "On disk"; property 54.
"""

from __future__ import annotations

import datetime
import errno
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from p2psync.catalog.rows import Placed
from p2psync.errors import P2psyncError, StorageError, UserError
from p2psync.index.paths import MARKER, Path
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Kind
from p2psync.planner.grouping import grouped
from p2psync.replica.context import Context
from p2psync.replica.flaws import ROTTEN
from p2psync.replica.history import version_of
from p2psync.replica.retrieval import Retrieval, Target
from p2psync.replica.scanner import fingerprint_of, placed_rows

ROTTEN_FILES: Path = (MARKER, b"rotten")
_PAGE = 1000
_GROUP_FILES = 256
_GROUP_BYTES = 64 << 20
"""Read in one go of a worker."""


@dataclass(frozen=True, slots=True)
class Found:
    """A rotten file. `kept`: it is right again, and what it held is there now. `left` says why it could not be mended."""

    path: Path
    kept: Path | None = None
    left: str | None = None


@dataclass(slots=True)
class Scrubbed:
    """What a scrub looked at: files and bytes that were compared, and files that could not be (changed just now)."""

    files: int = 0
    bytes: int = 0
    unchecked: int = 0
    found: list[Found] = field(default_factory=list)


Tell = Callable[[Found], Awaitable[None]]


class Scrubbing:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._one_at_a_time = trio.Lock()
        self._stop = False

    async def damage(self) -> list[str]:
        """What is wrong with the catalog's own file; nothing when every page of it is sound."""
        return await self._context.workers.run(self._context.catalog.damage)

    async def run(self, tell: Tell) -> Scrubbed:
        """Compare every file that is placed here. UserError when the folder is not open; StorageError of the disk."""
        context, done, after = self._context, Scrubbed(), None
        async with self._one_at_a_time:
            if context.opened is None or context.unsure:
                raise UserError("the folder is stopped or still finding out what it held; p2psync status says more")
            while page := await context.workers.run(context.catalog.placed.page, after, _PAGE):
                after = page[-1].path
                files = [row for row in page if row.kind is Kind.FILE]
                for group in grouped(
                    files, lambda row: row.fingerprint.size, most=_GROUP_FILES, most_bytes=_GROUP_BYTES
                ):
                    for rotten in await self._compare(group, done):
                        found = await self._mend(rotten)
                        if found is not None:
                            done.found.append(found)
                            await tell(found)
        if context.dirty:
            context.look_again.notify()
        context.work_arrived.notify()  # what was planned for a file that was mended is planned anew
        context.changed.notify()
        return done

    async def _compare(self, rows: Sequence[Placed], done: Scrubbed) -> list[Placed]:
        """Those of these that are rotten. A worker cannot be cancelled, so it is told to stop."""
        self._stop = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            found = await self._context.workers.run(self._rotten_among, rows, done)
            nursery.cancel_scope.cancel()
        return found

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._stop = True

    def _rotten_among(self, rows: Sequence[Placed], done: Scrubbed) -> list[Placed]:
        found = []
        for row in rows:
            if self._stop:
                break
            sound = self._is_sound(row)
            if sound is None:
                done.unchecked += 1
                continue
            done.files += 1
            done.bytes += row.fingerprint.size
            if not sound:
                found.append(row)
            elif self._context.catalog.rotten.seen(row.path) is not None:
                _clear(self._context, row.path)  # somebody put it right without its stamp telling
        return found

    def _is_sound(self, row: Placed) -> bool | None:
        """Whether a file holds what it is placed as; None when that cannot be said, as when it was just changed."""
        context = self._context
        generation, rows = context.secrets.generations.get(row.content.generation), placed_rows(context, row)
        if generation is None or rows is None:
            return None
        offset, sound = 0, True
        try:
            with context.filesystem.open_file(row.path) as file:
                if fingerprint_of(file.stat()) != row.fingerprint:
                    self._changed(row)
                    return None
                for chunk, length in iterate_chunks(rows):
                    if self._stop:
                        return None
                    plain = file.read(offset, length)
                    offset += length
                    if len(plain) != length or generation.chunk_id(plain) != chunk:
                        sound = False
                        break
                if fingerprint_of(file.stat()) != row.fingerprint:
                    self._changed(row)
                    return None
        except StorageError as error:
            return False if _unreadable(error) else None
        except (OSError, P2psyncError):
            self._changed(row)
            return None
        return sound

    def _changed(self, row: Placed) -> None:
        """Somebody is at it, or was: an ordinary scan looks at it."""
        self._context.dirty.add(row.path[:-1])

    async def _mend(self, row: Placed) -> Found | None:
        """Put the right content in its place; None when the file was changed meanwhile after all."""
        context = self._context
        aside = await context.workers.run(self._aside, row.path)
        target = Target(version_of(row), aside)
        await Retrieval(context, context.filesystem).write([target])
        if not target.done:
            await context.workers.run(self._leave, row, aside)
            return Found(row.path, left=target.failed)
        return await context.workers.run(self._exchange, row, aside)

    def _aside(self, path: Path) -> Path:
        """A free name for what a file holds now: below the moment of this scrub, where its path is kept."""
        moment = datetime.datetime.fromtimestamp(self._context.clock.now(), datetime.UTC)
        number, name = 0, f"{moment:%Y%m%d-%H%M%S}"
        while self._context.filesystem.stat((*ROTTEN_FILES, name.encode(), *path)) is not None:
            number += 1
            name = f"{moment:%Y%m%d-%H%M%S}-{number}"
        return (*ROTTEN_FILES, name.encode(), *path)

    def _leave(self, row: Placed, aside: Path) -> None:
        """Nobody could give the content: from now on the file is flagged, as long as it looks as it does."""
        context = self._context
        with context.tree, context.catalog.transaction():
            if context.catalog.placed.get(row.path) == row:
                context.catalog.rotten.put(row.path, row.fingerprint)
                context.catalog.placed.set_problem(row.path, ROTTEN)
        _remove_empty(context, aside)

    def _exchange(self, row: Placed, aside: Path) -> Found | None:
        """The right content, which stands at `aside`, and the wrong change places, unless a user was faster."""
        context, filesystem = self._context, self._context.filesystem
        with context.tree:
            stat = filesystem.stat(row.path)
            changed = stat is None or fingerprint_of(stat) != row.fingerprint
            if changed or context.catalog.placed.get(row.path) != row:
                self._changed(row)
                self._give_up(aside)
                return None
            try:
                filesystem.swap(row.path, aside)
            except OSError as error:
                self._give_up(aside)
                self._leave(row, aside)
                return Found(row.path, left=f"it cannot be exchanged on this disk ({error.strerror})")
            displaced = filesystem.stat(aside)
            if displaced is None or not fingerprint_of(displaced).same_file(row.fingerprint):
                filesystem.swap(row.path, aside)  # a user replaced it at this very moment
                self._changed(row)
                self._give_up(aside)
                return None
            filesystem.sync([row.path, aside])
            self._note_mended(row)
        return Found(row.path, kept=aside)

    def _note_mended(self, row: Placed) -> None:
        context = self._context
        stat = context.filesystem.stat(row.path)
        with context.catalog.transaction():
            if stat is not None and stat.size == row.fingerprint.size:
                # Of the attributes only those agreed came along: those on the disk are looked at as for the first time.
                context.catalog.placed.refresh(row.path, fingerprint_of(stat), row.xattrs.unseen())
                if context.shape.xattrs:
                    self._changed(row)
            _clear(context, row.path)

    def _give_up(self, aside: Path) -> None:
        self._context.filesystem.remove_file(aside)
        _remove_empty(self._context, aside)


def _clear(context: Context, path: Path) -> None:
    context.catalog.rotten.forget(path)
    context.catalog.placed.set_problem(path, None)


def _remove_empty(context: Context, aside: Path) -> None:
    """Directories that were made for a file that never came."""
    for depth in range(len(aside) - 1, len(ROTTEN_FILES) - 1, -1):
        with suppress(OSError):
            context.filesystem.remove_directory(aside[:depth])


def _unreadable(error: StorageError) -> bool:
    """Whether the disk could not read what it holds: as rotten as other bytes."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO
