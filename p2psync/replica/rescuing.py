"""Rescuing: content that a snapshot left out although files here hold it goes to the stores once more.

A snapshot's author leaves out what no version needs as far as it has seen; a version it had not seen may need it all the
same. Whoever has such content in a file uploads it, and says where it lies then. Blocking. Source: formats, "Snapshots".
"""

from __future__ import annotations

from collections.abc import Iterator

from p2psync.ids import ChunkId
from p2psync.index.membership import Role
from p2psync.index.paths import Path
from p2psync.index.records import iterate_chunks
from p2psync.limits import CHUNK_LIST_INLINE
from p2psync.replica.context import Context
from p2psync.replica.scanner import placed_rows

_PAGE = 1000
_LISTED_FROM = CHUNK_LIST_INLINE * 1024
"""Bytes of a file that may have a chunk list of its own: no chunk but a file's last is cut as short as this assumes."""


def rescue_chunks(context: Context) -> int:
    """Queue for upload what files here hold and nothing but what a snapshot replaced tells of; returns how many chunks.

    A reader leaves that to others: nobody would believe it where they lie.
    """
    if context.membership.role_of(context.device.identity_key) is Role.READER:
        return 0
    found = 0
    for paths in _holders(context):
        with context.tree, context.catalog.transaction():
            found += sum(_queue(context, path) for path in paths)
    return found


def _holders(context: Context) -> Iterator[list[Path]]:
    """Files that may hold such content, page by page."""
    locations, placed = context.catalog.locations, context.catalog.placed
    chunk = ChunkId(b"")
    while chunks := locations.stale_chunks(chunk, _PAGE):
        chunk = chunks[-1]
        yield sorted({path for path, _ in placed.holders_of_all(chunks).values()})
    pack = 0
    while packs := locations.stale_packs(pack, _PAGE):
        pack = packs[-1]
        yield locations.files_of(packs)
    if pack:
        yield placed.of_size(_LISTED_FROM)  # the lists of their chunks are chunks themselves


def _queue(context: Context, path: Path) -> int:
    locations, placed = context.catalog.locations, context.catalog.placed.get(path)
    if placed is None:
        return 0
    sizes = {ChunkId(chunk): size for chunk, size in iterate_chunks(placed_rows(context, placed) or b"")}
    sizes |= {ChunkId(chunk): size for chunk, size in iterate_chunks(placed.content.chunks)}
    left_out = locations.all_left_out(list(sizes))
    locations.queue_upload([(chunk, sizes[chunk]) for chunk in sizes if chunk in left_out])
    return len(left_out)
