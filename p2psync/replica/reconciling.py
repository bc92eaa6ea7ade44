"""Reconciling: which of the things the catalog says of the disk still hold, before a new incarnation publishes anything.

Catalog and tree of a restored home may be of different times, and a rebuilt catalog knows nothing of the tree. A file is
taken for the version the catalog says only if it has that content. One that shows an older version of its path is an old
copy of that version. Everything else loses its base: equal content is adopted, different content becomes a conflict
copy, and what is missing was not deleted. Blocking. Source: formats, "Incarnations".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from p2psync.catalog.rows import NOTHING, Placed
from p2psync.errors import P2psyncError
from p2psync.index.paths import Path, is_internal
from p2psync.index.versions import Kind, Version
from p2psync.limits import INLINE_MAX
from p2psync.planner.xattrs import HeldXattrs
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Stat
from p2psync.replica.history import Records
from p2psync.replica.reader import Content, read_content
from p2psync.replica.scanner import KINDS, fingerprint_of, placed_rows

_VERSIONS_OF_ONE = 10_000
"""Versions of one path that a file may be an old copy of; beyond them it becomes a conflict copy."""


def reconcile(context: Context, should_stop: Callable[[], bool]) -> None:
    """Bring `placed` to what the disk shows. May be stopped and begun again; nothing is published and no file touched."""
    _check_rows(context, should_stop)
    pending: list[Path] = [()]
    while pending and not should_stop():
        pending += _find_old_copies(context, pending.pop(), should_stop)


def _check_rows(context: Context, should_stop: Callable[[], bool]) -> None:
    after: Path | None = None
    while not should_stop() and (page := context.catalog.placed.page(after)):
        for row in page:
            kept = _still_true(context, row)
            with context.tree, context.catalog.transaction():
                if kept is None:
                    context.catalog.placed.forget(row.path)
                elif kept != row:
                    context.catalog.placed.put(kept, placed_rows(context, row))
                context.catalog.versions.check_need(row.path)
        after = page[-1].path


def _still_true(context: Context, row: Placed) -> Placed | None:
    """The row as the disk bears it out; None when it does not."""
    try:
        stat = context.filesystem.stat(row.path)
        if not row.live:
            return row if stat is None else None
        if stat is None or KINDS.get(stat.kind) is not row.kind or row.fingerprint == NOTHING:
            return None
        row = replace(row, xattrs=row.xattrs.unseen())
        if row.kind is Kind.DIRECTORY:
            seen = row.fingerprint._replace(dev=stat.dev, inode=stat.inode)
            return _as_found(row, replace(row, fingerprint=seen), stat)
        if row.kind is Kind.SYMLINK:
            same = context.filesystem.read_link(row.path) == row.target
            return replace(row, fingerprint=fingerprint_of(stat)) if same else None
        if row.fingerprint == fingerprint_of(stat):
            return row
        content = _read(context, row.path)
    except (OSError, P2psyncError):
        return None  # cannot be looked at now: no base, nothing lost
    if content.chunks != placed_rows(context, row):
        return None
    return _as_found(row, replace(row, fingerprint=fingerprint_of(content.stat)), content.stat)


def _as_found(row: Placed, found: Placed, stat: Stat) -> Placed:
    """With other mode or time than the version's, the vector is empty: the path is queued until they are the folder's."""
    mode = stat.mode & 0o777
    same = mode == row.mode and (row.kind is Kind.DIRECTORY or row.fingerprint.mtime_ns == stat.mtime_ns)
    return found if same else replace(found, mode=mode, vector={})


def _find_old_copies(context: Context, directory: Path, should_stop: Callable[[], bool]) -> list[Path]:
    """Give files without a base the old version they show, if they do; returns the directories below."""
    below: list[Path] = []
    if context.shape.skips(directory):
        return below
    try:
        entries = context.filesystem.list_directory(directory)
    except OSError:
        return below
    for name, stat in entries:
        path = (*directory, name)
        kind = KINDS.get(stat.kind)
        if should_stop() or is_internal(name) or kind is None or context.shape.ignores(path, kind):
            continue
        if kind is Kind.DIRECTORY:
            below.append(path)
        if context.catalog.placed.get(path) is None and (found := _old_version(context, path, kind, stat)):
            with context.tree, context.catalog.transaction():
                context.catalog.placed.put(*found)
                context.catalog.versions.check_need(path)
    return below


def _old_version(context: Context, path: Path, kind: Kind, stat: Stat) -> tuple[Placed, bytes] | None:
    wanted = context.catalog.versions.wanted(path)
    if wanted is None:
        return None
    records, old = Records(context), list[Version]()
    for row in context.catalog.history.of_path(path, _VERSIONS_OF_ONE):
        if row.kind is kind and (version := records.version(path, row.dot)) is not None:
            old.append(version)
    if not old:
        return None
    try:
        if kind is Kind.FILE:
            content = _read(context, path)
            stat, rows = content.stat, content.chunks
            shown = [version for version in old if file_rows(context, version) == rows]
        elif kind is Kind.SYMLINK:
            rows, target = b"", context.filesystem.read_link(path)
            shown = [version for version in old if version.target == target]
        else:
            rows, shown = b"", old
    except (OSError, P2psyncError):
        return None
    covered = [version for version in shown if wanted.vector.get(version.dot.feed, 0) >= version.dot.seq]
    if not covered or (wanted.kind is kind and _shows_wanted(context, path, rows)):
        return None
    return _placed_as(max(covered, key=lambda version: version.dot), stat), rows


def _shows_wanted(context: Context, path: Path, rows: bytes) -> bool:
    """Whether the content is also what stands now: then it is adopted, which knows mode and time."""
    wanted = context.catalog.versions.wanted(path)
    if wanted is None or wanted.kind is not Kind.FILE:
        return wanted is not None
    return file_rows(context, context.catalog.versions.wanted_version(wanted)) == rows


def _placed_as(version: Version, stat: Stat) -> Placed:
    return Placed(
        path=version.path, dot=version.dot, hash=version.hash, kind=version.kind, vector=version.vector,
        fingerprint=fingerprint_of(stat), mode=stat.mode & 0o777, target=version.target, content=version.content,
        xattrs=HeldXattrs(version.xattrs),
    )  # fmt: skip


def _read(context: Context, path: Path) -> Content:
    generation = context.secrets.generation
    return read_content(
        context.filesystem, path, chunk_key=generation.chunk_key, seed=generation.seed, inline_limit=INLINE_MAX
    )
