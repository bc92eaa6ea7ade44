"""The materialiser: makes the disk show what is wanted, in groups, in the write order of the formats.

Invariants (docs/formats.md, "Write order"): temps are durable before an intent names them; an intent is durable before
the rename that makes a file visible; what a rename displaced is looked at before it goes; an intent is cleared only
after a sync that made its rename durable. A file that is not exactly as placed is never replaced or removed: it is left
to the scanner. Synchronous: it runs in a worker, one group at a time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from p2psync.catalog.intents import DELETE, MOVE, WRITE, Intent
from p2psync.catalog.rows import NOTHING, Fingerprint, Placed
from p2psync.catalog.versions import Wanted
from p2psync.errors import StorageError
from p2psync.ids import ChunkId, RecordHash
from p2psync.index.paths import Path
from p2psync.index.versions import Kind
from p2psync.planner.steps import Step
from p2psync.replica.context import Context
from p2psync.replica.filesystem import MODE_MASK, Stat, temp_path
from p2psync.replica.filesystem import Kind as DiskKind
from p2psync.replica.keeping import VERSIONS, NotKept, keep_displaced
from p2psync.replica.leftovers import clear_deletable, waits_for_what_is_below
from p2psync.replica.moving import Sources
from p2psync.replica.plans import Plan, as_placed
from p2psync.replica.scanner import fingerprint_of
from p2psync.replica.standing import Booked, Standing
from p2psync.replica.xattrs import held_of, is_unseen, set_in_place, set_on_new_directory

_NEW_DIRECTORY_MODE = 0o755
"""For a parent whose own record has not been applied yet."""
_META_STEPS = frozenset({Step.META, Step.MOVE, Step.DIRECTORY})
"""They set mode or time under the final name; a sync of the path covers its directory too."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What the catalog says of the paths of a group, and what is to be written down of them."""

    standing: Standing
    sources: Sources
    booked: Booked


class Materialiser:
    """Carries out plans. Not for two threads at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._batch = context.catalog.intents.last_batch()
        self._unsynced: set[Path] = set()
        """What the last group changed and no sync has made durable yet: directories by their names, files by their mode
        and time. A file's mode is no part of its directory: a lost one would come back as the user's change."""
        self._restricted: list[tuple[Path, Placed]] = []
        """Directories we may write into only until everything below them is in place."""
        self.not_kept = False
        """A displaced file could not be kept, so its change waits: try again in a while."""
        self.opened: list[tuple[ChunkId, int, int]] = []
        """Frames opened by the fetcher, marked verified together with the next group."""

    def ensure_parents(self, path: Path, known: set[Path]) -> Path | None:
        """Make missing directories above `path`; returns what stands there instead of one, or None.

        `known` are directories seen a moment ago, and grows: most files of a batch share theirs.
        """
        if path[:-1] in known:
            return None
        for depth in range(1, len(path)):
            parent = path[:depth]
            if parent in known:
                continue
            stat = self._context.filesystem.stat(parent)
            if stat is None:
                with self._context.tree:  # between its two steps a scan would see a mode that nobody set
                    self._context.filesystem.make_directory(parent, _NEW_DIRECTORY_MODE)
                self._unsynced.add(parent[:-1])
            elif stat.kind is not DiskKind.DIRECTORY:
                return parent
            known.add(parent)
        return None

    def place(self, plans: Sequence[Plan]) -> int:
        """Bring a group into place; returns how many succeeded. Temps of WRITE and LINK plans are complete."""
        context = self._context
        temps = context.filesystem.stats([temp_path(plan.path) for plan in plans])
        plans = [plan for plan in plans if self._temp_is_right(plan, temps)]
        self._sync([plan.path for plan in plans if plan.step in (Step.WRITE, Step.LINK)])
        # What the intents are written from still holds when they are carried out.
        with context.workers.turn, context.tree, context.catalog.reading(), context.filesystem.in_a_row():
            group = self._intend(plans)
            with context.catalog.transaction():
                done = 0
                for plan in plans:
                    if plan.base is not None and plan.base.live:
                        group.booked.write()  # what it takes away is looked for in the whole catalog
                    done += self._carry_out(plan, group)
                group.booked.write()
        return done

    def _intend(self, plans: Sequence[Plan]) -> _Group:
        """Write the intents of a group, durably, and let go of the last one's, which the sync made durable."""
        context = self._context
        self._batch += 1
        with context.catalog.transaction():
            context.catalog.intents.clear(self._batch - 1)
            group = _Group(Standing(context, [plan.path for plan in plans]), Sources(context, plans), Booked(context))
            context.catalog.intents.add(self._batch, [i for plan in plans for i in self._intents(plan, group.sources)])
            if self.opened:
                context.catalog.locations.mark_verified(self.opened)
        self.opened, self._unsynced = [], set()
        return group

    def finish(self) -> None:
        """Make the last group durable, clear its intents, and take write permission from directories that have none."""
        restricted, self._restricted = self._restricted, []
        for path, row in restricted:
            with self._context.tree:
                if self._is_to_be_restricted(row):
                    self._context.filesystem.set_mode(path, row.mode)
                    self._unsynced.add(path)
        self._sync([])
        self._unsynced = set()
        with self._context.tree, self._context.catalog.transaction():
            for path, row in restricted:
                # Not before the sync: its intent may be gone by now, and a mode that was lost would be the user's change.
                if (held := self._is_to_be_restricted(row)) is not None:
                    self._context.catalog.placed.put(replace(row, xattrs=held.xattrs))
                    self._context.catalog.versions.check_need(path)
            self._context.catalog.intents.clear(self._batch)

    def _is_to_be_restricted(self, row: Placed) -> Placed | None:
        """What the catalog says of a directory that is still as it was made; None when it is not."""
        held = self._context.catalog.placed.get(row.path)
        as_made = held is not None and (held.kind, held.dot, held.vector) == (Kind.DIRECTORY, row.dot, {})
        return held if as_made else None

    def _temp_is_right(self, plan: Plan, temps: Mapping[Path, Stat | None]) -> bool:
        """A file has its temp (somebody may have removed the directory meanwhile), every other step has none.

        What an abandoned download left must not be taken for a displaced edit by a recovery.
        """
        filesystem, temp = self._context.filesystem, temp_path(plan.path)
        there = (temps[temp] if temp in temps else filesystem.temp_stat(plan.path)) is not None
        if plan.step in (Step.WRITE, Step.LINK):
            if not there:
                self._context.dirty.add(plan.path[:-1])
            return there
        if there:
            filesystem.remove_temp(plan.path)
        return True

    def _sync(self, written: list[Path]) -> None:
        """Make the temps of `written`, and what the last group did, durable. A path that is gone leaves it to its parent."""
        filesystem = self._context.filesystem
        changed = set()
        with filesystem.in_a_row():
            for path in sorted(self._unsynced):
                while path and filesystem.stat(path) is None:
                    path = path[:-1]
                changed.add(path)
        if not (written or changed):
            return
        try:
            filesystem.sync([*map(temp_path, written), *sorted(changed)])
        except StorageError:
            self._context.spoiled |= set(written)
            raise

    def _intents(self, plan: Plan, sources: Sources) -> list[Intent]:
        match plan.step:
            case Step.MOVE if plan.source is not None and plan.version is not None:
                seen = plan.source.fingerprint._replace(mtime_ns=plan.version.mtime_ns)
                return [
                    Intent(MOVE, plan.path, plan.base, self._row(plan, seen)),
                    Intent(DELETE, plan.source.path, plan.source, sources.tombstone(plan.source)),
                ]
            case Step.RECORD | Step.LOOK:
                return []
            case Step.DELETE:
                return [Intent(DELETE, plan.path, plan.base, self._row(plan, NOTHING))]
            case Step.META if plan.base is not None and plan.version is not None:
                seen = plan.base.fingerprint._replace(mtime_ns=plan.version.mtime_ns)
                return [Intent(WRITE, plan.path, plan.base, self._row(plan, seen))]
            case _:
                return [Intent(WRITE, plan.path, plan.base, self._row(plan, plan.temp))]

    def _row(self, plan: Plan, seen: Fingerprint) -> Placed | None:
        """The placed row this plan leads to; None when the path is to be forgotten."""
        version, wanted = plan.version, plan.wanted
        if version is None or wanted is None:
            return None
        return Placed(
            path=plan.path, dot=wanted.dot, hash=RecordHash(version.hash), kind=version.kind, vector=wanted.vector,
            fingerprint=seen, mode=version.mode, target=version.target, content=version.content,
            xattrs=plan.xattrs,
        )  # fmt: skip

    def _carry_out(self, plan: Plan, group: _Group) -> bool:
        """One plan under the tree lock. What does not fit any more is left to the scanner."""
        context = self._context
        wanted = group.standing.wanted(plan.path)
        if not self._still_valid(plan, wanted, group.standing):
            return False
        try:
            seen = self._act(plan, group)
        except (FileExistsError, FileNotFoundError, NotADirectoryError, IsADirectoryError):
            seen = None
        except NotKept as error:
            context.refuse_now(plan.path, f"waits: {error}")
            self.not_kept = True
            return False
        except OSError as error:
            context.refuse_now(plan.path, f"cannot be written: {error.strerror}")
            return False
        if seen is None:
            context.dirty.add(plan.path[:-1])
            return False
        row = self._row(plan, seen)
        if row is not None and is_unseen(context, row):
            context.dirty.add(plan.path[:-1])
        if row is None:
            context.catalog.placed.forget(plan.path)
            context.catalog.versions.note_need(plan.path, wanted, row)
        else:
            if row.kind is Kind.DIRECTORY and row.mode & 0o700 != 0o700:
                # Not yet as wanted, and with an empty vector the catalog keeps saying so, until `finish` is through.
                self._restricted.append((plan.path, row))
                row = replace(row, mode=row.mode | 0o700, vector={})
            group.booked.add(row, plan.rows or None, wanted, new=plan.base is None)
        self._unsynced.add(plan.path if plan.step in _META_STEPS else plan.path[:-1])
        context.temps.discard(plan.path)
        return True

    def _still_valid(self, plan: Plan, wanted: Wanted | None, standing: Standing) -> bool:
        """Whether the catalog is as it was when the plan was made."""
        if wanted != plan.wanted:
            return False
        if self._context.catalog.versions.left_alone(plan.path, wanted, plan.base):
            return False
        return standing.placed(plan.path) == plan.base

    def _act(self, plan: Plan, group: _Group) -> Fingerprint | None:
        """Do it; the fingerprint of what now stands there (NOTHING after a delete), or None: look again."""
        if plan.step is Step.MOVE:
            return self._move(plan, group)
        actions: dict[Step, Callable[[Plan], Fingerprint | None]] = {
            Step.WRITE: self._put, Step.LINK: self._put, Step.DIRECTORY: self._make_directory,
            Step.META: self._set_meta, Step.DELETE: self._delete, Step.RECORD: self._record, Step.LOOK: lambda _: None,
        }  # fmt: skip
        return actions[plan.step](plan)

    def _put(self, plan: Plan) -> Fingerprint | None:
        filesystem, base = self._context.filesystem, plan.base
        if base is not None and base.live:
            stat = filesystem.stat(plan.path)
            if stat is None or not as_placed(base, stat):
                return None
            if base.kind is Kind.DIRECTORY:
                filesystem.remove_directory(plan.path)
                filesystem.place_new(plan.path)
            else:
                displaced = fingerprint_of(filesystem.exchange(plan.path))
                if not displaced.same_file(base.fingerprint):
                    filesystem.exchange_back(plan.path)
                    return None
                self._keep(plan, base, filesystem.exchange_back)
        else:
            return self._as_expected(filesystem.place_new(plan.path), plan.temp)
        return self._placed_as(plan.path, plan.temp)

    def _keep(self, plan: Plan, old: Placed, undo: Callable[[Path], object]) -> None:
        """What stands at the temp name goes to the versions; if it cannot, the change is undone (NotKept)."""
        try:
            keep_displaced(self._context, plan.path, old, plan.dot)
        except NotKept:
            undo(plan.path)
            raise
        self._unsynced.add(VERSIONS)

    def _placed_as(self, path: Path, expected: Fingerprint) -> Fingerprint | None:
        """Echo check: what stands there now is what we wrote; its ctime is kept from now on."""
        return self._as_expected(self._context.filesystem.stat(path), expected)

    def _as_expected(self, stat: Stat | None, expected: Fingerprint) -> Fingerprint | None:
        seen = None if stat is None else fingerprint_of(stat)
        return seen if seen is not None and seen.same_file(expected) else None

    def _make_directory(self, plan: Plan) -> Fingerprint | None:
        assert plan.version is not None
        filesystem, base = self._context.filesystem, plan.base
        if base is not None and base.live:
            taken = fingerprint_of(filesystem.move_to_temp(plan.path))
            if not taken.same_file(base.fingerprint):
                filesystem.place_new(plan.path)
                return None
            self._keep(plan, base, filesystem.place_new)
        filesystem.make_directory(plan.path, plan.version.mode | 0o700)
        plan.xattrs = set_on_new_directory(self._context, plan.path, plan.xattrs)
        stat = filesystem.stat(plan.path)
        return None if stat is None else Fingerprint(stat.dev, stat.inode, 0, 0, 0)

    def _set_meta(self, plan: Plan) -> Fingerprint | None:
        assert plan.version is not None
        filesystem = self._context.filesystem
        before = held_of(plan.base, plan.version.kind)
        xattrs = set_in_place(self._context, plan.path, before, plan.xattrs)
        if xattrs is None:
            return None
        plan.xattrs = xattrs
        if plan.version.kind is Kind.FILE:
            filesystem.set_mode(plan.path, plan.version.mode)
        if plan.version.kind is Kind.DIRECTORY:
            filesystem.set_mode(plan.path, plan.version.mode | 0o700)
            stat = filesystem.stat(plan.path)
            return None if stat is None else Fingerprint(stat.dev, stat.inode, 0, 0, 0)
        filesystem.set_mtime(plan.path, plan.version.mtime_ns)
        stat = filesystem.stat(plan.path)
        if stat is None or plan.base is None:
            return None
        expected = plan.base.fingerprint._replace(mtime_ns=plan.version.mtime_ns)
        return fingerprint_of(stat) if fingerprint_of(stat).same_file(expected) else None

    def _delete(self, plan: Plan) -> Fingerprint | None:
        filesystem, base = self._context.filesystem, plan.base
        assert base is not None
        if base.kind is Kind.DIRECTORY:
            return self._delete_directory(plan.path)
        taken = fingerprint_of(filesystem.move_to_temp(plan.path))
        if not taken.same_file(base.fingerprint):
            filesystem.place_new(plan.path)
            return None
        self._keep(plan, base, filesystem.place_new)
        return NOTHING

    def _delete_directory(self, path: Path) -> Fingerprint | None:
        try:
            self._context.filesystem.remove_directory(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if clear_deletable(self._context.shape, self._context.filesystem, path):
                self._context.filesystem.remove_directory(path)
                return NOTHING
            if waits_for_what_is_below(self._context.catalog, self._context.shape, path):
                raise FileNotFoundError(path) from None
            # Something here is not synced, or new: the scanner publishes the directory again rather than lose it.
            self._context.dirty.add(path[:-1])
        return NOTHING

    def _record(self, plan: Plan) -> Fingerprint | None:
        filesystem, base = self._context.filesystem, plan.base
        if plan.version is None or not plan.version.live:
            return NOTHING
        stat = filesystem.stat(plan.path)
        return None if stat is None or base is None or not as_placed(base, stat) else base.fingerprint

    def _move(self, plan: Plan, group: _Group) -> Fingerprint | None:
        """A rename somewhere else is a rename here: no byte is read."""
        assert plan.version is not None and plan.source is not None
        filesystem, source, version = self._context.filesystem, plan.source, plan.version
        stat = filesystem.stat(source.path)
        if stat is None or not as_placed(source, stat) or not group.sources.holds(source):
            return None
        filesystem.move(source.path, plan.path)
        if stat.mode & MODE_MASK != version.mode:
            filesystem.set_mode(plan.path, version.mode)
        if stat.mtime_ns != version.mtime_ns:
            filesystem.set_mtime(plan.path, version.mtime_ns)
        seen = self._placed_as(plan.path, source.fingerprint._replace(mtime_ns=version.mtime_ns))
        group.standing.forget(source.path)
        group.sources.note_gone(source, group.booked)
        self._unsynced.add(source.path[:-1])
        return seen
