"""The chunk lists of file versions: inline in the record while short, else cut into chunks of their own.

A long list travels and is kept as chunks like any content; this module goes both ways between it and what a record
carries. Source: formats, "Records".
"""

from __future__ import annotations

from p2psync.chunking.chunker import Chunker, Parameters
from p2psync.errors import PeerError
from p2psync.ids import ChunkId
from p2psync.index.records import CHUNK_ROW, iterate_chunks
from p2psync.index.versions import Content, Version
from p2psync.limits import CHUNK_LIST_INLINE
from p2psync.replica.context import Context


def file_rows(context: Context, version: Version) -> bytes | None:
    """A file version's full chunk list; None while parts of a long list are not here yet."""
    if version.content.depth == 0:
        return version.content.chunks
    parts = [context.catalog.locations.list_chunk(ChunkId(c)) for c, _ in iterate_chunks(version.content.chunks)]
    if None in parts:
        return None
    rows = b"".join(part for part in parts if part is not None)
    try:
        fits = sum(length for _, length in iterate_chunks(rows)) == version.size
    except PeerError:
        fits = False
    return rows if fits else None  # a list that does not add up never touches the disk


def is_listed(rows: bytes) -> bool:
    """Whether a chunk list is cut into chunks of its own."""
    return len(rows) > CHUNK_LIST_INLINE * CHUNK_ROW


def content_of(context: Context, rows: bytes, parameters: tuple[int, int, int]) -> Content:
    """The content fields of a file: its chunk list, or, when long, the list of that list's chunks."""
    generation = context.secrets.generation
    if not is_listed(rows):
        return Content(generation=generation.number, parameters=parameters, depth=0, chunks=rows)
    lists, place = bytearray(), 0
    cutter = Chunker(Parameters.for_size(len(rows)), generation.seed)
    for length in cutter.cut(rows, True):
        part = rows[place : place + length]
        chunk = generation.chunk_id(part)
        lists += chunk + length.to_bytes(4, "big")
        if not context.catalog.locations.known(chunk):
            context.catalog.locations.queue_upload([(chunk, length)])
        context.catalog.locations.add_list_chunk(chunk, part)
        place += length
    return Content(generation=generation.number, parameters=parameters, depth=1, chunks=bytes(lists))
