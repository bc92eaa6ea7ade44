"""Retrieval: the whole content of old versions, from wherever it still is, into files of their own.

It writes into any directory through the filesystem seam: a user's own, or the directory of versions of this folder, from
where applying then takes it. What this disk has comes first, then live devices and stores are asked as for any file.
Every chunk is verified; a file takes its name only when it is complete and durable, and never that of another file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from p2psync.errors import P2psyncError
from p2psync.ids import ChunkId, Plaintext
from p2psync.index.paths import Path, show
from p2psync.index.records import iterate_chunks
from p2psync.index.versions import Kind, Version
from p2psync.planner.grouping import grouped
from p2psync.planner.sources import Piece
from p2psync.replica.assembly import Assembly
from p2psync.replica.bases import local_chunk
from p2psync.replica.chunk_lists import file_rows
from p2psync.replica.context import Context
from p2psync.replica.fetcher import Fetcher
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.materialiser import Materialiser
from p2psync.wire.peer_bodies import WantedChunk

_GROUP_FILES = 64
_GROUP_BYTES = 256 << 20


@dataclass(slots=True)
class Target:
    """A version to write to `path` of the target directory. `failed` says why it could not be."""

    version: Version
    path: Path
    failed: str | None = None
    done: bool = False
    missing: dict[ChunkId, list[tuple[int, int]]] = field(default_factory=dict)
    """chunk → its (offset, length) places."""


class Retrieval:
    def __init__(self, context: Context, filesystem: Filesystem) -> None:
        self._context, self._filesystem = context, filesystem
        self._fetcher = Fetcher(context, Materialiser(context))

    async def write(self, targets: Sequence[Target]) -> None:
        """Write the targets; each ends `done` or with the reason it `failed`."""
        for group in grouped(targets, lambda each: each.version.size, most=_GROUP_FILES, most_bytes=_GROUP_BYTES):
            for target in group:
                await self._complete_list(target)
            await self._context.workers.run(self._begin, group)
            await self._fetch(group)
            await self._context.workers.run(self._finish, group)

    async def _complete_list(self, target: Target) -> None:
        content = target.version.content
        if target.version.kind is Kind.FILE and content.depth and not target.failed:
            await self._fetcher.fetch_list(content.chunks, content.generation)

    def _begin(self, group: Sequence[Target]) -> None:
        known = set[Path]()
        for target in group:
            if target.failed is None:
                with _noting(target):
                    self._begin_one(target, known)

    def _begin_one(self, target: Target, known: set[Path]) -> None:
        version, path, filesystem = target.version, target.path, self._filesystem
        if filesystem.stat(path) is not None:
            raise FileExistsError(17, "something is there already")
        for depth in range(1, len(path)):
            if path[:depth] not in known and filesystem.stat(path[:depth]) is None:
                filesystem.make_directory(path[:depth], 0o700)
            known.add(path[:depth])
        if version.kind is Kind.DIRECTORY:
            filesystem.make_directory(path, version.mode | 0o700)
            if self._context.shape.xattrs and version.xattrs:
                filesystem.set_xattrs(path, version.xattrs)
            target.done = True
            return
        filesystem.remove_temp(path)
        if version.kind is Kind.SYMLINK:
            filesystem.make_temp_symlink(path, version.target or b"")
            return
        rows = file_rows(self._context, version)
        if rows is None:
            target.failed = "the list of its chunks can be had from nobody who is connected now"
            return
        with filesystem.open_temp(path, True) as temp:
            offset = 0
            for chunk, length in iterate_chunks(rows):
                plain = self._local(version, ChunkId(chunk), offset, length)
                if plain is None:
                    target.missing.setdefault(ChunkId(chunk), []).append((offset, length))
                else:
                    temp.write(plain, offset)
                offset += length

    def _local(self, version: Version, chunk: ChunkId, offset: int, length: int) -> Plaintext | None:
        generation = self._context.secrets.generations.get(version.content.generation)
        if generation is None:
            return None
        return local_chunk(self._context, version.content, WantedChunk(chunk, length), offset, generation)

    async def _fetch(self, group: Sequence[Target]) -> None:
        waiting: dict[ChunkId, list[Target]] = {}
        pieces: dict[ChunkId, Piece] = {}
        for target in group:
            for chunk, places in target.missing.items():
                waiting.setdefault(chunk, []).append(target)
                pieces[chunk] = Piece(chunk, places[0][1], target.version.content.generation)

        def take(came: Sequence[tuple[ChunkId, Plaintext]]) -> list[Assembly]:
            for chunk, plain in came:
                for target in waiting.get(chunk, []):
                    with _noting(target), self._filesystem.open_temp(target.path, False) as temp:
                        for offset, _ in target.missing[chunk]:
                            temp.write(plain, offset)
                        del target.missing[chunk]
            return []

        await self._fetcher.fetch_chunks(list(pieces.values()), take)

    def _finish(self, group: Sequence[Target]) -> None:
        for target in group:
            if target.failed is None and not target.done:
                with _noting(target):
                    self._finish_one(target)
            if target.failed is not None and self._filesystem.temp_stat(target.path) is not None:
                self._filesystem.remove_temp(target.path)

    def _finish_one(self, target: Target) -> None:
        version, path = target.version, target.path
        if target.missing:
            target.failed = "its content can be had from nobody who is connected now"
            return
        if version.kind is Kind.FILE:
            with self._filesystem.open_temp(path, False) as temp:
                temp.truncate(version.size)
                if self._context.shape.xattrs:
                    temp.set_xattrs(version.xattrs)  # what this disk does not take stays in the folder's history
                temp.set_meta(version.mode, version.mtime_ns)
                temp.sync()
        self._filesystem.place_new(path)
        target.done = True


@contextmanager
def _noting(target: Target) -> Iterator[None]:
    """A file that cannot be written says why and stops no other."""
    try:
        yield
    except P2psyncError as error:
        target.failed = str(error)
    except OSError as error:
        target.failed = f"{show(target.path)} cannot be written: {error.strerror}"
