"""Overriding: a send-only folder says that its disk is right.

Where the folder wants something else than stands here, a version of what stands here is published that covers it: the
same file again, or its deletion. Conflict copies that hang on such a path are published under their own names first (so
every value stays known to history), and go the same way. Synchronous: it runs in a worker.
"""

from __future__ import annotations

from p2psync.catalog.rows import NOTHING, Placed
from p2psync.errors import FolderStopped
from p2psync.index.paths import Path
from p2psync.index.versions import NO_CONTENT, Kind, join_vectors
from p2psync.replica.changes import LocalChange
from p2psync.replica.context import Context
from p2psync.replica.plans import as_placed
from p2psync.replica.publisher import commit
from p2psync.replica.scanner import placed_rows

_ROUNDS = 4
"""Each may bring conflict copies of its own to light; more would mean that others write against us right now."""
_PAGE = 500


def override(context: Context) -> int:
    """Publish ours over theirs; returns how many paths that was. What the scanner has not seen yet is left to it."""
    done = 0
    for _ in range(_ROUNDS):
        before = done
        for live in (False, True):
            after = 0
            while needs := context.catalog.needs.page(live, after, _PAGE):
                after = needs[-1].id
                paths = sorted((need.path for need in needs), key=len, reverse=True)
                with context.tree, context.catalog.transaction():
                    done += _override_page(context, paths)
        if done == before:
            break
    return done


def _override_page(context: Context, paths: list[Path]) -> int:
    units = [(change,) for path in paths if (change := _ours(context, path)) is not None]
    committed = commit(context, units)
    if committed.stale:
        raise FolderStopped("the catalog changed while the folder was overridden; try again")
    return len(units)


def _ours(context: Context, path: Path) -> LocalChange | None:
    """What this disk shows at a path, as a change of what the folder wants there; None when that is not known."""
    catalog = context.catalog
    wanted, held, stat = catalog.versions.wanted(path), catalog.placed.get(path), context.filesystem.stat(path)
    row = held if held is not None and held.live else None
    if stat is not None if row is None else (stat is None or not as_placed(row, stat)):
        context.dirty.add(path[:-1])
        return None
    if wanted is None:
        catalog.placed.forget(path)  # a conflict copy nobody wants any more: the scanner takes it for a file of its own
        context.dirty.add(path[:-1])
        return None
    rows = placed_rows(context, row) if row is not None else b""
    if rows is None:
        return None
    theirs = catalog.versions.wanted_version(wanted)
    seen = row.fingerprint if row is not None else NOTHING
    base = Placed(
        path=path, dot=wanted.dot, hash=theirs.hash, kind=theirs.kind, fingerprint=seen, mode=theirs.mode,
        vector=join_vectors([wanted.vector, *([held.vector] if held is not None else [])]), content=NO_CONTENT,
    )  # fmt: skip
    catalog.placed.put(base)
    if row is None:
        return LocalChange(path=path, kind=Kind.DELETED, base=base)
    return LocalChange(
        path=path, kind=row.kind, base=base, fingerprint=seen, mode=row.mode, target=row.target,
        parameters=row.content.parameters, rows=rows, xattrs=row.xattrs.overriding(),
    )  # fmt: skip
