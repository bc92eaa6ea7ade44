"""Bases for merges: the content of a version that both sides of a conflict knew, if this device still has it.

`keep` and `content_of` are the whole interface; `remember` fills the cache after files were published or placed. Only
text-like content of at most 1 MiB is kept. `content_of` also looks at everything else on this disk: entries that carry
chunks, placed files, local versions. It never asks anybody. Synchronous; runs in workers.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2psync.catalog.rows import Placed
from p2psync.errors import P2psyncError
from p2psync.ids import ChunkId, Plaintext
from p2psync.index.paths import Path
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Content, Kind, Version
from p2psync.limits import BASE_MAX
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context
from p2psync.replica.keeping import read_kept
from p2psync.replica.serving import find_chunk
from p2psync.vault.secrets import Generation
from p2psync.wire.peer_bodies import WantedChunk

_LOOKED_AT = 8192
"""Bytes in which a NUL says that a content is no text (as git and grep judge)."""


def is_text_like(data: bytes) -> bool:
    return b"\0" not in data[:_LOOKED_AT]


def keep(context: Context, version: Version, data: bytes) -> None:
    """Keep the content of a version as a base, if it is text-like and small enough. The caller has verified it."""
    if version.kind is Kind.FILE and is_text_like(data):
        context.catalog.bases.put(version.content, data, edited=version.replaces is not None)


def content_of(context: Context, version: Version) -> bytes | None:
    """The whole content of a file version of at most 1 MiB, verified; None when this device has it no more."""
    if version.kind is not Kind.FILE or version.size > BASE_MAX:
        return None
    if version.size == 0:
        return b""
    held = context.catalog.bases.get(version.content)
    if held is not None:
        return held
    generation, rows = context.secrets.generations.get(version.content.generation), file_rows(context, version)
    if generation is None or not rows:
        return None
    parts: list[bytes] = []
    offset = 0
    for chunk, length in iterate_chunks(rows):
        part = local_chunk(context, version.content, WantedChunk(ChunkId(chunk), length), offset, generation)
        if part is None:
            return None
        parts.append(part)
        offset += length
    return b"".join(parts)


def local_chunk(
    context: Context, content: Content, wanted: WantedChunk, offset: int, generation: Generation
) -> Plaintext | None:
    """One chunk of a content, from wherever this disk still has it, verified. `offset` is its place in the content."""
    found = find_chunk(context, wanted, generation)
    return found if found is not None else read_kept(context, content, wanted.chunk, offset, wanted.length, generation)


def remember(context: Context, paths: Iterable[tuple[Path, int, bool]]) -> None:
    """Keep what stands at these (path, size, replaces another version) as bases: they were just published or placed."""
    bases = context.catalog.bases
    for path, size, edited in paths:
        if not 0 < size <= BASE_MAX or not (edited or bases.has_room(size)):
            continue
        placed = context.catalog.placed.get(path)
        if placed is None or placed.kind is not Kind.FILE or bases.has(placed.content):
            continue
        data = _read_placed(context, placed)
        if data is not None and is_text_like(data):
            bases.put(placed.content, data, edited=edited)


def _read_placed(context: Context, placed: Placed) -> bytes | None:
    """The whole of a small placed file, verified; None when it is another by now."""
    generation = context.secrets.generations.get(placed.content.generation)
    if generation is None or placed.content.depth:
        return None
    try:
        with context.filesystem.open_file(placed.path) as file:
            data = file.read(0, placed.fingerprint.size)
    except (OSError, P2psyncError):
        return None
    offset = 0
    for chunk, length in iterate_chunks(placed.content.chunks):
        if generation.chunk_id(data[offset : offset + length]) != chunk:
            return None
        offset += length
    return data if offset == len(data) else None
