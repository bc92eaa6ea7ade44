"""Needed chunks: the list of those that the content of some version no other covers is made of.

It is made anew for whoever leaves chunks out: a snapshot, or the forgetting of entries. Blocking; the caller holds the
tree and a transaction. Source: formats, "Snapshots".
"""

from __future__ import annotations

from collections.abc import Iterator

from p2psync.ids import ChunkId
from p2psync.index.records import iterate_chunks, recall_version
from p2psync.index.versions import Version
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context


def list_needed(context: Context) -> bool:
    """List the needed chunks; False when a long chunk list has not come, so that some are not told. Whoever asked for the
    list ends it."""
    missing: list[Version] = []
    context.catalog.needed_chunks.begin(_needed(context, missing))
    return not missing


def _needed(context: Context, missing: list[Version]) -> Iterator[ChunkId]:
    for dot, data in context.catalog.snapshots.frontier_records():
        version = recall_version(data, dot)
        yield from (ChunkId(chunk) for chunk, _ in iterate_chunks(version.content.chunks))
        if version.content.depth:
            rows = file_rows(context, version)
            if rows is None:
                missing.append(version)
            yield from (ChunkId(chunk) for chunk, _ in iterate_chunks(rows or b""))
