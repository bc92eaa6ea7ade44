"""Bases for merges: the content of a version that both sides of a conflict knew, if this device still has it.

`keep` and `content_of` are the whole interface; `remember` fills the cache after files were published or placed. Only
text-like content of at most 1 MiB is kept. `content_of` also looks at everything else on this disk: entries that carry
chunks, placed files, local versions. It never asks anybody. Synchronous; runs in workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from p2psync.catalog.bases import is_text_like
from p2psync.catalog.rows import Placed, content_key
from p2psync.errors import P2psyncError
from p2psync.ids import ChunkId, Plaintext
from p2psync.index.paths import Path
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Content, Kind, Version
from p2psync.limits import BASE_MAX
from p2psync.planner.grouping import grouped
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context
from p2psync.replica.keeping import read_past
from p2psync.replica.serving import find_chunk
from p2psync.vault.secrets import Generation
from p2psync.wire.peer_bodies import WantedChunk

_COMMIT_FILES, _COMMIT_BYTES = 1000, 4 << 20
"""Bases gathered for one commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A file that was just published or placed. `edited`: it replaced another version. `data`: its whole content, if
    that is at hand: then nothing is read again. `content`: what it was verified to be, if it was."""

    path: Path
    size: int
    edited: bool
    data: bytes | None = None
    content: Content | None = None


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
    return found if found is not None else read_past(context, content, wanted.chunk, offset, wanted.length, generation)


def remember(context: Context, files: Iterable[Fresh]) -> None:
    """Keep what stands at these paths as bases, many in one commit."""
    bases = context.catalog.bases
    texts = [
        file
        for file in files
        if 0 < file.size <= BASE_MAX
        and (file.edited or bases.has_room(file.size))
        and (file.data is None or is_text_like(file.data))
    ]
    for group in grouped(texts, lambda file: file.size, most=_COMMIT_FILES, most_bytes=_COMMIT_BYTES):
        bases.put_all(_contents(context, group))


def _contents(context: Context, files: Sequence[Fresh]) -> Iterator[tuple[Content, bytes, bool]]:
    """What is text of these files, verified, and not here already: content, bytes, whether it replaced another version."""
    bases, placed = context.catalog.bases, context.catalog.placed
    unsure = placed.get_all([file.path for file in files if file.content is None or file.data is None])
    contents = {path: row.content for path, row in unsure.items() if row.kind is Kind.FILE}
    contents |= {file.path: file.content for file in files if file.path not in unsure and file.content is not None}
    keys = {path: content_key(content) for path, content in contents.items()}
    here = bases.held(list(keys.values()))
    for file in files:
        if file.path not in keys or keys[file.path] in here:
            continue
        row, data = unsure.get(file.path), file.data
        if data is None and not (file.edited or bases.has_room(file.size)):
            continue
        if row is not None and (data is None or not _holds(context, row, data)):
            data = _read_placed(context, row)
        if data is not None and is_text_like(data):
            yield contents[file.path], data, file.edited


def _read_placed(context: Context, placed: Placed) -> bytes | None:
    """The whole of a small placed file, verified; None when it is another by now."""
    try:
        with context.filesystem.open_file(placed.path) as file:
            data = file.read(0, placed.fingerprint.size)
    except (OSError, P2psyncError):
        return None
    return data if _holds(context, placed, data) else None


def _holds(context: Context, placed: Placed, data: bytes) -> bool:
    """Whether this is the content of a placed file."""
    generation = context.secrets.generations.get(placed.content.generation)
    if generation is None or placed.content.depth:
        return False
    offset = 0
    for chunk, length in iterate_chunks(placed.content.chunks):
        if generation.chunk_id(data[offset : offset + length]) != chunk:
            return False
        offset += length
    return offset == len(data)
