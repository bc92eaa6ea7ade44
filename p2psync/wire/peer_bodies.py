"""The forms of bodies between devices: entry lists, chunk lists, and sealed streams as they lie on the wire.

entry list = entries, each behind its length (4 bytes big endian). chunk list = rows of chunk id (32) ‖ plain length (4).
sealed stream = epoch id (16) ‖ salt (32), then for every chunk found, in the order asked: index in the chunk list (4) ‖
sealed length (4) ‖ sealed bytes. A chunk that is not here is left out. This module owns lengths and bounds; it can open
nothing. Heads have the form they have at a store (`bodies`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from p2psync.errors import PeerError
from p2psync.ids import ChunkId, Ciphertext, EpochId
from p2psync.limits import CHUNK_MAX, ENTRY_MAX, MIB

ENTRIES_MAX = 256
ENTRIES_BYTES_MAX = 8 * MIB
"""Entry bytes in one list: at least one entry always fits."""
ENTRY_LIST_MAX = ENTRIES_BYTES_MAX + ENTRIES_MAX * 4
CHUNKS_MAX = 1024
"""Chunks in one request."""
CHUNKS_BYTES_MAX = 4 * MIB
"""Plain bytes one request may ask for: one largest chunk, or many small ones."""
CHUNK_ROW = 36
CHUNK_LIST_MAX = CHUNKS_MAX * CHUNK_ROW
STREAM_HEADER = 16 + 32
STREAM_FRAME_HEADER = 8
SEALED_OVERHEAD = 17
"""Sealing adds a kind byte and a tag (`vault/pack`)."""


def stream_size_max(lengths: Iterable[int]) -> int:
    """The most bytes a stream of chunks of these plain lengths can have."""
    return STREAM_HEADER + sum(STREAM_FRAME_HEADER + SEALED_OVERHEAD + length for length in lengths)


def encode_entries(entries: Iterable[Ciphertext]) -> list[bytes]:
    """Buffers of an entry list."""
    return [part for entry in entries for part in (len(entry).to_bytes(4, "big"), entry)]


def decode_entries(data: bytes | memoryview) -> list[Ciphertext]:
    """The entries of a list; what each says is not looked at. PeerError when the lengths do not add up."""
    entries: list[Ciphertext] = []
    place, view = 0, memoryview(data)
    while place < len(view):
        size = int.from_bytes(view[place : place + 4], "big")
        place += 4
        if not 0 < size <= ENTRY_MAX or place + size > len(view) or len(entries) == ENTRIES_MAX:
            raise PeerError("an entry list whose lengths do not add up")
        entries.append(Ciphertext(bytes(view[place : place + size])))
        place += size
    return entries


class WantedChunk(NamedTuple):
    chunk: ChunkId
    length: int


def encode_chunk_list(wanted: Sequence[WantedChunk]) -> bytes:
    return b"".join(each.chunk + each.length.to_bytes(4, "big") for each in wanted)


def decode_chunk_list(data: bytes) -> list[WantedChunk]:
    """PeerError on more than one request may ask for."""
    if not data or len(data) % CHUNK_ROW or len(data) > CHUNK_LIST_MAX:
        raise PeerError("a chunk list is not made of whole rows")
    wanted = [
        WantedChunk(ChunkId(data[at : at + 32]), int.from_bytes(data[at + 32 : at + CHUNK_ROW], "big"))
        for at in range(0, len(data), CHUNK_ROW)
    ]
    if any(not 0 < each.length <= CHUNK_MAX for each in wanted):
        raise PeerError("a chunk list has an impossible length")
    if sum(each.length for each in wanted) > CHUNKS_BYTES_MAX:
        raise PeerError("a chunk list asks for more than one request may")
    return wanted


@dataclass(frozen=True, slots=True)
class SealedFrame:
    """One sealed chunk of a stream; `index` is its place in the chunk list that was asked."""

    index: int
    sealed: memoryview


@dataclass(frozen=True, slots=True)
class StreamParts:
    epoch: EpochId
    salt: bytes
    frames: list[SealedFrame]
    whole: bool
    """False when the stream was cut: `frames` are those that had arrived completely."""


def encode_stream(epoch: EpochId, salt: bytes, frames: Iterable[tuple[int, bytes]]) -> list[Ciphertext]:
    """A stream as buffers one after another: frames are megabytes, so they are not copied together."""
    buffers = [Ciphertext(epoch + salt)]
    for index, sealed in frames:
        buffers += [Ciphertext(index.to_bytes(4, "big") + len(sealed).to_bytes(4, "big")), Ciphertext(sealed)]
    return buffers


def split_stream(data: bytes | bytearray, count: int) -> StreamParts | None:
    """Read a stream, cut or not, that answers `count` chunks; None when not even its header came.

    PeerError when indexes do not grow or a length is impossible.
    """
    view = memoryview(data)
    if len(view) < STREAM_HEADER:
        return None
    epoch, salt = EpochId(bytes(view[:16])), bytes(view[16:STREAM_HEADER])
    frames: list[SealedFrame] = []
    place, before = STREAM_HEADER, -1
    while len(view) - place >= STREAM_FRAME_HEADER:
        index = int.from_bytes(view[place : place + 4], "big")
        size = int.from_bytes(view[place + 4 : place + 8], "big")
        if not before < index < count or not SEALED_OVERHEAD <= size <= CHUNK_MAX + SEALED_OVERHEAD:
            raise PeerError("a stream holds a frame that was not asked for")
        if place + STREAM_FRAME_HEADER + size > len(view):
            break
        place, before = place + STREAM_FRAME_HEADER, index
        frames.append(SealedFrame(index, view[place : place + size]))
        place += size
    return StreamParts(epoch, salt, frames, place == len(view))
