"""Claiming: a directory that a file or symlink competes with is published again when something lives below it.

Synchronous; runs in a worker. Source: formats, "Versions and merging".
"""

from __future__ import annotations

from collections.abc import Collection

from p2psync.index.paths import Path
from p2psync.index.records import CHUNK_ROW
from p2psync.index.versions import Kind
from p2psync.limits import CHUNK_LIST_INLINE
from p2psync.replica.context import Context
from p2psync.replica.publisher import EntryWriter

_FIELDS = 512
"""Bytes a record takes beside path, chunk rows and vector."""


def claim_directories(context: Context, paths: Collection[Path]) -> int:
    """Publish a directory at each path where a file or symlink is wanted although something is wanted below it.

    Which of the two came first has no say: files below must not be lost, so the directory stands (formats, "Merging").
    """
    claimed = 0
    with context.tree, context.catalog.transaction():
        writer = EntryWriter(context)
        for path in sorted(paths) if not context.unsure else ():
            wanted = context.catalog.versions.wanted(path)
            if wanted is None or wanted.kind not in (Kind.FILE, Kind.SYMLINK) or wanted.source is not None:
                continue
            if context.catalog.wanted_tree.live_below(path):
                writer.begin_unit(2 * (CHUNK_LIST_INLINE * CHUNK_ROW + _FIELDS + 2 * sum(map(len, path))))
                writer.claim_directory(path)
                claimed += 1
        writer.flush()
    return claimed
