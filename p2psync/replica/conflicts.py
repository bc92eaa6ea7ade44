"""Conflicts of a folder as its user settles them: which there are, how the sides differ, which of them stays.

Nothing is written here: a resolution is published in one entry, and applying brings it to the disk as it would another
device's; what it takes away goes to history. While the disk shows something that was not looked at yet, nothing is
resolved. Source: formats, "Conflict copies".
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import trio

from p2psync.catalog.conflicts import Copy
from p2psync.catalog.versions import Wanted
from p2psync.errors import UserError
from p2psync.ids import IdentityKey, short_device_id
from p2psync.index.paths import Path, show
from p2psync.index.text_merging import comparable, is_text
from p2psync.index.versions import NO_CONTENT, Dot, Kind, Origin, Version
from p2psync.limits import NAME_MAX
from p2psync.planner.conflicts import Keep
from p2psync.replica import bases
from p2psync.replica.context import Context
from p2psync.replica.merging import RECORD_ROOM, TEXT_MERGE, add_merged, base_of, may_settle, may_write, vectors_of
from p2psync.replica.publisher import EntryWriter
from p2psync.vault.device_keys import device_id

_APPLY_SECONDS = 30.0
"""How long a resolution waits for the disk to show it; what lacks content comes by itself later."""
_LOOK_SECONDS = 10.0
"""How long it waits for the scanner to have looked at what the disk shows."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a conflict. `whose` wrote it; `mtime_ns` is the file's, for display only."""

    path: Path
    whose: IdentityKey | None
    kind: Kind
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """`standing` is None when nothing has the name any more."""

    path: Path
    standing: Side | None
    copies: tuple[Side, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """The two sides of a conflict for a merge tool, and what they come from (None: not known, or not here any more)."""

    copy: Path
    sides: tuple[Dot, Dot]
    """What stands, and the copy, when this was asked for."""
    mine: bytes
    theirs: bytes
    base: bytes | None


@dataclass(frozen=True, slots=True)
class Merged:
    """What the user made of both sides."""

    texts: Texts
    text: bytes


class Conflicts:
    def __init__(self, context: Context, look: Callable[[], Awaitable[None]]) -> None:
        """`look` scans the whole tree and returns when what it found is published."""
        self._context, self._look = context, look

    async def merges_text(self) -> bool:
        return await self._context.workers.run(self._context.catalog.get, TEXT_MERGE) != b"off"

    async def set_text_merge(self, wanted: bool) -> None:
        """Whether texts are merged here from now on; conflicts that stand are looked at again."""
        await self._context.workers.run(self._context.catalog.set, TEXT_MERGE, b"on" if wanted else b"off")
        self._context.work_arrived.notify()

    async def all(self) -> list[Conflict]:
        return await self._context.workers.run(self._all)

    def _all(self) -> list[Conflict]:
        found: dict[Path, list[Copy]] = {}
        with self._context.catalog.reading():
            for copy in self._context.catalog.conflicts.all():
                found.setdefault(copy.of, []).append(copy)
            return [
                Conflict(path, self._standing(path), tuple(self._side(copy.path, copy.version) for copy in copies))
                for path, copies in found.items()
            ]

    def _standing(self, path: Path) -> Side | None:
        wanted = self._context.catalog.versions.wanted(path)
        if wanted is None or wanted.kind is Kind.DELETED:
            return None
        return self._side(path, self._context.catalog.versions.wanted_version(wanted))

    def _side(self, path: Path, version: Version) -> Side:
        whose = self._context.catalog.feeds.state(version.dot.feed).identity
        return Side(path, whose, version.kind, version.size, version.mtime_ns)

    # Differences.

    async def difference(self, path: Path) -> list[tuple[Path, Path, list[str]]]:
        """(what stands, copy, lines of a unified diff) for each copy of a path, or for the copy that a path is."""
        return await self._context.workers.run(self._difference, path)

    def _difference(self, path: Path) -> list[tuple[Path, Path, list[str]]]:
        return [(copy.of, copy.path, list(self._compare(copy))) for copy in self._copies(path)]

    def _compare(self, copy: Copy) -> Iterator[str]:
        sides = [self._shown(copy.of), self._shown(copy.path)]
        texts = [side for side in sides if side is not None and is_text(side)]
        if len(texts) < 2 or not comparable(*texts):
            yield f"{show(copy.of)} and {show(copy.path)} cannot be compared line by line"
            return
        one, other = (text.decode().splitlines() for text in texts)
        yield from difflib.unified_diff(one, other, show(copy.of), show(copy.path), lineterm="")

    def _shown(self, path: Path) -> bytes | None:
        """The content of a path as the folder wants it: b"" where nothing stands, None when it is no file or not here."""
        wanted = self._context.catalog.versions.wanted(path)
        if wanted is None or wanted.kind is Kind.DELETED:
            return b""
        return bases.content_of(self._context, self._context.catalog.versions.wanted_version(wanted))

    async def texts(self, path: Path) -> Texts:
        """What a merge tool needs for a conflict with one copy, or for the copy that a path is."""
        return await self._context.workers.run(self._texts, path)

    def _texts(self, path: Path) -> Texts:
        versions = self._context.catalog.versions
        with self._context.catalog.reading():
            copy = self._one_copy(path, "merges")
            wanted = versions.wanted(copy.of)
            if wanted is None or wanted.kind is not Kind.FILE or copy.version.kind is not Kind.FILE:
                raise UserError(f"{show(copy.of)} and its copy are not two files: choose with --keep")
            standing = versions.wanted_version(wanted)
        texts = [bases.content_of(self._context, side) for side in (standing, copy.version)]
        known = [text for text in texts if text is not None]
        if len(known) < 2:
            raise UserError(
                f"{show(copy.of)} or its copy is larger than 1 MiB, or not all here yet: choose with --keep"
            )
        base = base_of(self._context, standing, copy.version)
        origin = None if base is None else bases.content_of(self._context, base)
        mine, theirs = reversed(known) if self._is_mine(copy, wanted) else known
        return Texts(copy.path, (standing.dot, copy.version.dot), mine, theirs, origin)

    # Resolving.

    async def resolve(self, path: Path, how: Keep | Merged) -> Path:
        """Settle a conflict; returns the path whose conflict it was. UserError says why not."""
        context, settled = self._context, None
        await self._look()
        with trio.move_on_after(_LOOK_SECONDS):
            while (settled := await context.workers.run(self._publish, path, how)) is None:
                seen = context.changed.count
                context.rescan(set(context.dirty))
                with trio.move_on_after(0.5):
                    await context.changed.wait(seen)
        if settled is None:
            raise UserError(f"{show(path)} is being changed right now; try again when that is over")
        context.wake_for_uploads()
        with trio.move_on_after(_APPLY_SECONDS):
            seen = context.changed.count
            while await context.workers.run(self._pending, settled):
                await context.changed.wait(seen)
                seen = context.changed.count
        return settled[0]

    def _pending(self, paths: Sequence[Path]) -> bool:
        return any(self._context.catalog.needs.has(path) for path in paths)

    def _publish(self, path: Path, how: Keep | Merged) -> list[Path] | None:
        """Publish the resolution; the paths it touches, what it was a conflict of first. None: the disk moved on."""
        context = self._context
        if not may_write(context):
            raise UserError(
                "this device does not both give and take changes of this folder: settle it on one that does"
            )
        with context.tree, context.catalog.transaction():
            copies = self._copies(path)
            if not all(may_settle(context, copy.of) for copy in copies):
                return None
            of, writer = copies[0].of, EntryWriter(context)
            wanted = context.catalog.versions.wanted(of)
            touched, kept = [of], None
            if isinstance(how, Keep) and how is not Keep.BOTH:
                kept = self._kept(path, wanted, copies, how)
            if how is Keep.BOTH:
                touched += [self._give_a_name(writer, copy) for copy in copies]
            self._cover(writer, of, wanted, copies, how, kept)
            for copy in copies:
                touched.append(copy.path)
                if not copy.derived:
                    writer.begin_unit(RECORD_ROOM)
                    writer.add_decided(_gone(copy.path, copy.version), [copy.vector])
            writer.flush()
            return touched

    def _cover(
        self, writer: EntryWriter, of: Path, wanted: Wanted | None, copies: Sequence[Copy], how: Keep | Merged,
        kept: Copy | None,
    ) -> None:  # fmt: skip
        """A version of the path that covers its losers: with what stands there, the copy that is kept, or a new text."""
        versions = self._context.catalog.versions
        standing = versions.wanted_version(wanted) if wanted is not None else None
        chosen = standing if kept is None else kept.version
        same = kept is None and not isinstance(how, Merged)
        if chosen is None or (same and not any(copy.derived for copy in copies)):
            return
        if not same and self._context.catalog.wanted_tree.live_below(of):
            raise UserError(f"{show(of)} is a directory with something in it: use --keep both, or rename the copy")
        losers, settled = versions.losers(of), [copy.version.dot for copy in copies]
        writer.begin_unit(RECORD_ROOM * (2 + len(losers)))
        for other in losers:
            if other.dot not in settled:
                writer.keep_copy(other)
        seen = vectors_of(versions.lost_with(of, losers))
        seen += [wanted.vector] if wanted is not None else []
        decided = replace(chosen, path=of, replaces=standing.hash if standing is not None else None, origin=None)
        if not isinstance(how, Merged):
            writer.add_decided(decided, seen)
            return
        if (chosen.dot, copies[0].version.dot) != how.texts.sides:
            raise UserError(f"{show(of)} or its copy has changed meanwhile; nothing was done: merge them again")
        now_ns = int(self._context.clock.now() * 1e9)
        add_merged(self._context, writer, replace(decided, mtime_ns=now_ns), how.text, seen)

    def _give_a_name(self, writer: EntryWriter, copy: Copy) -> Path:
        """Publish a copy as a file of its own, which no longer is a conflict copy by its name."""
        versions = self._context.catalog.versions
        identity = self._context.catalog.feeds.state(copy.version.dot.feed).identity
        whose = b"another device" if identity is None else short_device_id(device_id(identity)).encode()
        stem, dot, extension = copy.of[-1].rpartition(b".")
        if not dot or not stem:
            stem, dot, extension = copy.of[-1], b"", b""
        number = 1
        while True:
            tail = b" from " + whose + (b" %d" % number if number > 1 else b"") + dot + extension
            name = (*copy.of[:-1], stem[: max(1, NAME_MAX - len(tail))] + tail)
            held = versions.wanted(name)
            if (held is None or held.kind is Kind.DELETED) and self._context.filesystem.stat(name) is None:
                break
            number += 1
        origin = Origin(copy.of if copy.derived else copy.path, copy.version.dot)
        seen = [held.vector] if held is not None else []
        writer.begin_unit(RECORD_ROOM)
        writer.add_decided(replace(copy.version, path=name, replaces=copy.version.hash, origin=origin), seen)
        return name

    def _kept(self, path: Path, wanted: Wanted | None, copies: Sequence[Copy], keep: Keep) -> Copy | None:
        """The copy that takes the name; None: what has it keeps it."""
        mine = [copy for copy in copies if self._is_mine(copy, wanted)]
        if keep is Keep.MINE:
            if len(mine) != 1 and (wanted is None or wanted.kind is Kind.DELETED):
                raise UserError(f"nothing stands at {show(copies[0].of)} any more: use --keep theirs or --keep both")
            return mine[0] if len(mine) == 1 else None
        if mine:
            return None
        return self._one_copy(path, "theirs is")

    def _is_mine(self, copy: Copy, wanted: Wanted | None) -> bool:
        """Whether this device wrote the copy and not what has the name."""
        own, feeds = self._context.device.identity_key, self._context.catalog.feeds
        standing = wanted is not None and feeds.state(wanted.dot.feed).identity == own
        return not standing and feeds.state(copy.version.dot.feed).identity == own

    def _copies(self, path: Path) -> list[Copy]:
        copies = self._context.catalog.conflicts.of(path)
        if not copies:
            raise UserError(f"{show(path)} has no conflict copy; p2psync conflicts lists those there are")
        return copies

    def _one_copy(self, path: Path, what: str) -> Copy:
        copies = [copy for copy in self._copies(path) if copy.path == path] or self._copies(path)
        if len(copies) > 1:
            raise UserError(f"{show(path)} has {len(copies)} conflict copies: name the copy that {what} meant")
        return copies[0]


def _gone(path: Path, version: Version) -> Version:
    return replace(
        version, path=path, kind=Kind.DELETED, size=0, mtime_ns=0, mode=0, target=None, content=NO_CONTENT,
        xattrs=(), replaces=version.hash, origin=None,
    )  # fmt: skip
