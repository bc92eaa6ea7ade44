"""The scanner: compares the tree with what is placed, reads what changed, hands it to the publisher.

It walks through the filesystem seam, so no symlink is followed. Renames are hinted by (inode, size, mtime) and spare
reading. Whatever cannot be read, is special or may not be named is flagged as a problem and never taken for a delete;
a directory that another filesystem was mounted over (or unmounted from) is held back. Synchronous: the tasks around it
are in `watching.py`. Source: formats, "On disk".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from p2psync.catalog.local_changes import LocalChange as Noted
from p2psync.catalog.rows import NOTHING, Fingerprint, Outline, Placed
from p2psync.index.paths import Path, is_kept_apart, refuse_reason
from p2psync.index.versions import Kind
from p2psync.limits import INLINE_MAX, SYMLINK_TARGET_MAX
from p2psync.planner.xattrs import Look
from p2psync.replica.changes import LocalChange, Unit
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.contents import Contents
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Kind as DiskKind
from p2psync.replica.filesystem import NotRegularFile, Stat, temp_target
from p2psync.replica.flaws import why_left_alone
from p2psync.replica.reader import ChangedWhileRead, ReadStopped
from p2psync.replica.same_inodes import SameInodes
from p2psync.replica.xattrs import held_of, is_news, is_unseen, look_at_directory, look_at_file

KINDS = {DiskKind.FILE: Kind.FILE, DiskKind.DIRECTORY: Kind.DIRECTORY, DiskKind.SYMLINK: Kind.SYMLINK}
Named = Mapping[Path, Set[bytes]]
"""Directories and the entries in them that changed."""
_WHOLE: Named = {}
LARGE = 512
"""Rows from which on a directory is not listed for a few changed entries: 7 µs for each entry that it has."""
_TICK_NS = 20_000_000
"""A file this young may be written again within the same kernel clock tick, unseen by its fingerprint."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A path whose entry on disk differs from what is placed."""

    path: Path
    stat: Stat
    base: Placed | None


@dataclass(slots=True)
class Looked:
    """What comparing some directories found."""

    candidates: list[Candidate] = field(default_factory=list)
    missing: list[Placed] = field(default_factory=list)
    below: list[Path] = field(default_factory=list)
    """Subdirectories; `appeared` are those of them that were not placed before."""
    appeared: list[Path] = field(default_factory=list)
    above: list[Path] = field(default_factory=list)
    """Where directories would be that are not there: these tell what became of them."""


@dataclass(slots=True)
class Prepared:
    """Changes ready to publish, and what could not be made ready."""

    units: list[Unit] = field(default_factory=list)
    looks: list[LocalChange] = field(default_factory=list)
    """What turned out equal, with other stamps or attributes never looked at before: nothing to publish."""
    unsettled: set[Path] = field(default_factory=set)
    """Files that changed while they were read: look again soon."""


def fingerprint_of(stat: Stat) -> Fingerprint:
    return Fingerprint(stat.dev, stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns)


def seen_of(stat: Stat) -> Fingerprint:
    """What is kept of an entry: of a directory nothing that changes with what is in it."""
    return Fingerprint(stat.dev, stat.inode, 0, 0, 0) if stat.kind is DiskKind.DIRECTORY else fingerprint_of(stat)


def look(context: Context, directories: Iterable[Path], named: Named = _WHOLE) -> Looked:
    """Compare directories (not what is below them) with the catalog. Of a large one that is `named`, only those entries."""
    found = Looked()
    for directory in directories:
        with context.tree:
            _look_one(context, directory, found, named.get(directory))
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """A directory, or some names in it: what is there and what the catalog says of it, by name."""

    entries: list[tuple[bytes, Stat]]
    known: dict[bytes, Outline]
    problems: set[bytes]
    noted: dict[bytes, Noted]


def _seen(context: Context, directory: Path, found: Looked, names: Set[bytes] | None) -> _Seen | None:
    """None when it cannot be looked at, or nothing in it matters."""
    placed, shape = context.catalog.placed, context.shape
    flagged = bool(directory) and refuse_reason(directory) is not None  # a watcher may still name what is in it
    if flagged or shape.skips(directory):
        return None
    entries = None
    if names is not None and not shape.verdict(directory).ignored:
        entries = _named_entries(context, directory, names)
    noted = {} if context.publishes else context.catalog.local_changes.in_directory(directory)
    if entries is not None and names is not None:
        noted = {name: change for name, change in noted.items() if name in names}
        return _Seen(entries, placed.outlines(directory, names), placed.problem_paths(directory) & names, noted)
    entries = _entries(context, directory, found)
    if entries is None:
        return None
    return _Seen(entries, placed.in_directory(directory), placed.problem_paths(directory), noted)


def _look_one(context: Context, directory: Path, found: Looked, names: Set[bytes] | None) -> None:
    placed, shape = context.catalog.placed, context.shape
    seen = _seen(context, directory, found, names)
    if seen is None:
        return
    entries, known, problems, noted = seen.entries, seen.known, seen.problems, seen.noted
    on_the_way, kept, before = shape.verdict(directory).ignored, False, len(found.candidates)
    for name, stat in entries:
        path, outline, reason = (*directory, name), known.pop(name, None), None
        if (
            outline is not None
            and _is_settled(outline, stat, shape.xattrs)
            and name not in problems
            and name not in noted
        ):
            kept = kept or not shape.ignores(path, outline.kind)
            continue
        base = None if outline is None else outline.whole()
        if shape.ignores(path, None if base is None else base.kind):
            if stat.kind is DiskKind.DIRECTORY and not shape.skips(path):
                found.below.append(path)
                found.appeared += [path] if on_the_way else []
        else:
            kept = True
            reason = why_left_alone(context, path, stat, base, name in problems)
            if reason is None:
                _compare(context, path, stat, base, noted.pop(name, None), found)
        if reason is not None or name in problems:
            placed.set_problem(path, reason)
    if len(found.candidates) > before and placed.has_rows_in(directory):
        found.candidates[before:] = _with_deletions(context, found.candidates[before:])
    if on_the_way and kept:
        _claim_the_way(context, directory, found)
    found.missing += _missing(context, known.values(), noted)
    for change in noted.values():  # added here, and gone again
        context.catalog.local_changes.forget(change.path)
    for name in problems - {name for name, _ in entries}:
        placed.set_problem((*directory, name), None)


def _is_settled(outline: Outline, stat: Stat, xattrs: bool) -> bool:
    """Whether an entry is a file or symlink as it was placed: it needs no further look. A directory always does."""
    same_kind = stat.kind is not DiskKind.DIRECTORY and outline.kind is KINDS.get(stat.kind)
    if not same_kind or not outline.shows(stat.fingerprint):
        return False
    return not xattrs or outline.looked_at or outline.kind is Kind.SYMLINK


def _missing(context: Context, left: Iterable[Outline], noted: dict[bytes, Noted]) -> Iterable[Placed]:
    """What was placed and is not there, but for what is ignored or known to be missing; taken out of `noted`."""
    for gone in (outline.whole() for outline in left):
        change = noted.pop(gone.path[-1], None)
        if not context.shape.ignores(gone.path, gone.kind) and (change is None or change.seen != NOTHING):
            yield gone


def _entries(context: Context, directory: Path, found: Looked) -> list[tuple[bytes, Stat]] | None:
    """What is in a directory but for our own files; None when it cannot be listed."""
    try:
        entries = context.filesystem.list_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        found.above.append(directory[:-1])
        return None
    except OSError as error:
        if directory:
            reason = f"cannot be read: {error.strerror}; what is below it is left alone"
            context.catalog.placed.set_problem(directory, reason)
        return None
    for name, _ in entries:
        if (target := temp_target(name)) is not None:
            context.temps.add((*directory, target))
    return [(name, stat) for name, stat in entries if not is_kept_apart((*directory, name))]


def _named_entries(context: Context, directory: Path, names: Set[bytes]) -> list[tuple[bytes, Stat]] | None:
    """Those of these entries that are there, if the directory is a large one; None: it is to be listed."""
    if not directory or not context.catalog.placed.is_large(directory, LARGE):
        return None
    stands = context.filesystem.stat(directory)
    if stands is None or stands.kind is not DiskKind.DIRECTORY:
        return None
    paths = [(*directory, name) for name in sorted(names)]
    stats = context.filesystem.stats(paths)
    if any(path not in stats for path in paths):
        return None
    there = ((path[-1], stats[path]) for path in paths if not is_kept_apart(path))
    return [(name, stat) for name, stat in there if stat is not None]


def _claim_the_way(context: Context, directory: Path, found: Looked) -> None:
    """Ignored directories that lead to something kept are part of the folder, too."""
    for depth in range(1, len(directory) + 1):
        path = directory[:depth]
        base = context.catalog.placed.get(path)
        if (base is None or base.kind is not Kind.DIRECTORY) and context.shape.verdict(path).ignored:
            stat = context.filesystem.stat(path)
            if stat is not None and stat.kind is DiskKind.DIRECTORY:
                found.candidates.append(Candidate(path, stat, base))


def _compare(context: Context, path: Path, stat: Stat, base: Placed | None, noted: Noted | None, found: Looked) -> None:
    kind = KINDS[stat.kind]
    same_kind = base is not None and base.kind is kind
    if kind is Kind.DIRECTORY:
        found.below.append(path)
        if not same_kind and noted is None:
            found.appeared.append(path)
        unchanged = base is not None and same_kind and base.mode == stat.mode & 0o777
        unchanged = unchanged and base is not None and not is_news(context, path, base)
    else:
        unchanged = base is not None and same_kind and base.fingerprint == fingerprint_of(stat)
        unchanged = unchanged and base is not None and not is_unseen(context, base)
    if noted is not None and unchanged:
        context.catalog.local_changes.forget(path)
    if unchanged or (noted is not None and noted.seen == seen_of(stat)):
        return
    found.candidates.append(Candidate(path, stat, base))


def _with_deletions(context: Context, candidates: list[Candidate]) -> list[Candidate]:
    """A deletion that was applied here is the base of what is new at its path."""
    known = context.catalog.placed.get_all([each.path for each in candidates if each.base is None])
    return [
        replace(each, base=known[each.path]) if each.base is None and each.path in known else each
        for each in candidates
    ]


def prepare(context: Context, candidates: Iterable[Candidate], should_stop: Callable[[], bool]) -> Prepared:
    """Read what changed and describe it; what turns out equal only has its fingerprint refreshed."""
    prepared = Prepared()
    candidates = list(candidates)
    inodes = SameInodes(context, _new_inodes(candidates))
    contents = Contents(context, _surely_read(candidates, inodes), should_stop)
    for candidate in candidates:
        try:
            unit = _prepare_one(context, candidate, inodes, contents, prepared)
        except (ChangedWhileRead, FileNotFoundError):
            prepared.unsettled.add(candidate.path)
        except ReadStopped:
            break
        except (NotRegularFile, NotADirectoryError):
            prepared.unsettled.add(candidate.path)
        except OSError as error:
            context.catalog.placed.set_problem(candidate.path, f"cannot be read: {error.strerror}")
        else:
            if unit:
                prepared.units.append(unit)
    if prepared.looks:
        _note_looks(context, prepared.looks)
    return prepared


def _surely_read(candidates: Iterable[Candidate], inodes: SameInodes) -> list[Path]:
    """The small files among them that nothing placed can be the same as."""
    return [
        each.path
        for each in candidates
        if each.stat.size <= INLINE_MAX and each.stat.kind is DiskKind.FILE and not inodes.knows(each.stat.inode)
    ]


def _prepare_one(
    context: Context, candidate: Candidate, inodes: SameInodes, contents: Contents, prepared: Prepared
) -> Unit:
    path, stat, base = candidate.path, candidate.stat, candidate.base
    kind, mode = KINDS[stat.kind], stat.mode & 0o777
    held = held_of(base, kind)
    if kind is Kind.DIRECTORY:
        xattrs = look_at_directory(context, path, held)
        change = LocalChange(path=path, kind=kind, base=base, fingerprint=seen_of(stat), mode=mode, xattrs=xattrs)
        return _unless_equal(context, change, prepared)
    if kind is Kind.SYMLINK:
        target = context.filesystem.read_link(path)
        if len(target) > SYMLINK_TARGET_MAX:
            raise OSError(36, "the symlink's target is too long")
        return (
            LocalChange(path=path, kind=kind, base=base, fingerprint=fingerprint_of(stat), mode=0o777, target=target),
        )
    renamed = _renamed_from(context, candidate, inodes)
    if renamed is not None:
        return renamed
    if base is not None and base.kind is kind and base.fingerprint == fingerprint_of(stat):
        rows = placed_rows(context, base)
        if rows is not None:  # the content is known: only attributes that nobody has looked at brought it here
            seen = _settled(context, base.fingerprint, _now_ns(context), path, prepared)
            change = LocalChange(
                path=path, kind=kind, base=base, fingerprint=seen, mode=mode,
                parameters=base.content.parameters, rows=rows, xattrs=look_at_file(context, path, base.fingerprint, held),
            )  # fmt: skip
            return _unless_equal(context, change, prepared)
    content, read_ns = contents.of(path)
    mode, seen = content.stat.mode & 0o777, _settled(context, fingerprint_of(content.stat), read_ns, path, prepared)
    parameters = (content.parameters.minimum, content.parameters.average, content.parameters.maximum)
    change = LocalChange(
        path=path, kind=kind, base=base, fingerprint=seen, mode=mode, parameters=parameters, rows=content.chunks,
        inline=content.inline, xattrs=held.looked(content.xattrs) if context.shape.xattrs else held.unseen(),
    )  # fmt: skip
    return _unless_equal(context, change, prepared)


def _settled(context: Context, seen: Fingerprint, read_ns: int, path: Path, prepared: Prepared) -> Fingerprint:
    """The fingerprint; without its ctime, so that it is looked at again, when it was changed a moment before it was read."""
    if read_ns - seen.ctime_ns >= _TICK_NS or seen.ctime_ns > _now_ns(context):
        return seen
    prepared.unsettled.add(path)
    return Fingerprint(seen.dev, seen.inode, seen.size, seen.mtime_ns, 0)


def _now_ns(context: Context) -> int:
    return int(context.clock.now() * 1e9)


def _unless_equal(context: Context, change: LocalChange, prepared: Prepared) -> Unit:
    """The change, unless content, mode, mtime and extended attributes are as placed: then there is nothing to publish."""
    base = change.base
    same = base is not None and base.kind is change.kind
    same = same and base is not None and base.mode == change.mode
    if base is not None and same and change.kind is Kind.FILE:
        same = base.fingerprint.mtime_ns == change.fingerprint.mtime_ns and placed_rows(context, base) == change.rows
    if base is None or not same:
        return (change,)
    if base.xattrs.agreed != change.xattrs.agreed:
        # What was never looked at is no edit: it waits for a version that is on its way, rather than compete with it.
        if not is_unseen(context, base) or context.catalog.needs.at(change.path) is None:
            return (change,)
        change = replace(change, xattrs=base.xattrs)
    prepared.looks.append(change)
    return ()


def _note_looks(context: Context, looks: Iterable[LocalChange]) -> None:
    """Take the new inode or ctime over, and what attributes were seen."""
    placed = context.catalog.placed
    with context.tree, context.catalog.transaction():
        for change in looks:
            base = change.base
            if base is None or placed.get(change.path) != base:
                continue
            placed.refresh(change.path, change.fingerprint, change.xattrs)
            if Look.OWED in (base.xattrs.look, change.xattrs.look):
                context.catalog.versions.check_need(change.path)
            if not context.publishes:
                context.catalog.local_changes.forget(change.path)


def placed_rows(context: Context, placed: Placed) -> bytes | None:
    """The full chunk list of a placed file; None while parts of a long list are not here."""
    if placed.content.depth == 0:
        return placed.content.chunks
    wanted = context.catalog.versions.version(placed.path, placed.dot)
    return None if wanted is None else file_rows(context, wanted)


def _new_inodes(candidates: Iterable[Candidate]) -> set[int]:
    new = (each for each in candidates if each.base is None or not each.base.live)
    return {each.stat.inode for each in new if each.stat.kind is DiskKind.FILE}


def _renamed_from(context: Context, candidate: Candidate, inodes: SameInodes) -> Unit | None:
    """If this very file (inode, size, mtime) is placed under another name that is gone: the two sides of a rename."""
    path, stat, base = candidate.path, candidate.stat, candidate.base
    if base is not None and base.live:
        return None
    if not inodes.knows(stat.inode):
        return None
    seen = fingerprint_of(stat)
    for old in inodes.gone(seen):
        rows = placed_rows(context, old)
        if rows is None or context.shape.ignores(old.path, old.kind):
            continue
        inodes.taken.add(old.path)
        change = LocalChange(
            path=path, kind=Kind.FILE, base=base, fingerprint=seen, mode=stat.mode & 0o777,
            parameters=old.content.parameters, rows=rows, origin=old,
            xattrs=look_at_file(context, path, seen, held_of(old, Kind.FILE)),
        )  # fmt: skip
        return (LocalChange(path=old.path, kind=Kind.DELETED, base=old), change)
    return None
