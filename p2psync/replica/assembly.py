"""Assemblies: files being put together in their temps, chunk by chunk, from whatever source has a chunk.

A temp is filled in any order and verified chunk by chunk as it is written, so a temp left by a killed process is worth
exactly the chunks in it that still hash to their ids. Local sources come first: an entry that carries the chunk, then
any placed file that should hold it (the file about to be replaced included). Synchronous; runs in workers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from p2psync.catalog.bases import is_text_like
from p2psync.catalog.locations import Inline
from p2psync.errors import P2psyncError, StorageError
from p2psync.ids import ChunkId, FeedId, Plaintext
from p2psync.index.paths import Path, show
from p2psync.index.records import iterate_chunks
from p2psync.replica.context import Context
from p2psync.replica.filesystem import NewTemp, NotRegularFile, TempFile, temp_path
from p2psync.replica.keeping import read_past
from p2psync.replica.plans import Plan
from p2psync.replica.scanner import fingerprint_of
from p2psync.replica.statements import held_records, inline_plain
from p2psync.replica.xattrs import set_on_temp
from p2psync.vault.secrets import Generation

_NOWHERE = (FeedId(b""), 0, 0)
_WHOLE_MAX = 16 * 1024
"""Bytes of a small text kept until it is placed; a group is 512 files."""
_UNFINISHED_MAX = 64
"""Files whose progress is remembered between batches; a forgotten one is verified from its temp again."""


@dataclass(slots=True)
class Assembly:
    """One file on its way: which chunks are still missing, by index in its list."""

    plan: Plan
    chunks: list[tuple[ChunkId, int, int]] = field(default_factory=list)
    """(id, offset, length)."""
    missing: set[int] = field(default_factory=set)
    inode: int | None = None
    """The temp it is put together in: if another file stands there later, what was written is gone."""
    writing: threading.Lock = field(default_factory=threading.Lock)
    """Held while a part is written: the kernel lets one write to a file at a time, and spins while another waits."""
    spoiled: bool = False
    """The temp went away under our hands (its inode number may be given to the next one): the next batch starts over."""

    @property
    def complete(self) -> bool:
        return not self.missing


class Assembler:
    """Fills the temps of one batch of files. `wanted` says which assemblies wait for a chunk."""

    def __init__(self, context: Context, unfinished: dict[Path, Assembly]) -> None:
        """`unfinished` are the assemblies an earlier batch of this process had to leave; replaced by `leave`."""
        self._context, self._unfinished = context, unfinished
        self._begun: list[Assembly] = []
        self._lock = threading.Lock()
        self.wanted: dict[ChunkId, list[tuple[Assembly, int]]] = {}
        self._body: tuple[tuple[bytes, int], tuple[bytes, ...]] | None = None

    def begin(self, plans: Sequence[Plan]) -> list[Assembly]:
        """Take plans in; what a temp already holds is counted. Returns those that are complete (empty files)."""
        done = []
        filesystem, places = self._context.filesystem, [temp_path(plan.path) for plan in plans]
        temps = filesystem.stats(places)
        self._context.temps.update(plan.path for plan in plans)
        for plan, place in zip(plans, places, strict=True):
            assembly = _assembly_of(plan)
            try:
                self._begun.append(assembly)
                known = not self._discard_if_spoiled(plan.path) and place in temps
                temp = temps[place] if known else filesystem.temp_stat(plan.path)
                if temp is not None and not self._continues(assembly, temp.inode):
                    self._resume(assembly)
                if not assembly.missing and self.seal(assembly):
                    done.append(assembly)
                for index in assembly.missing:
                    self.wanted.setdefault(assembly.chunks[index][0], []).append((assembly, index))
            except OSError as error:
                self._set_aside(assembly, error)
        return done

    def length_of(self, chunk: ChunkId) -> int:
        """Bytes of a chunk that is wanted."""
        assembly, index = self.wanted[chunk][0]
        return assembly.chunks[index][2]

    def _discard_if_spoiled(self, path: Path) -> bool:
        if path not in self._context.spoiled:
            return False
        self._context.filesystem.remove_temp(path)
        self._unfinished.pop(path, None)
        self._context.spoiled.discard(path)
        return True

    def leave(self) -> bool:
        """Remember what is not complete, so that the next batch need not read and hash it again. Returns whether something
        came in vain, since its temp went away."""
        for assembly in self._begun:
            self._unfinished.pop(assembly.plan.path, None)
            if assembly.missing and assembly.inode is not None and not assembly.spoiled:
                self._unfinished[assembly.plan.path] = assembly
        while len(self._unfinished) > _UNFINISHED_MAX:
            del self._unfinished[next(iter(self._unfinished))]
        return any(assembly.spoiled for assembly in self._begun)

    def _continues(self, assembly: Assembly, inode: int) -> bool:
        """Whether this very temp was filled by this process a moment ago: every chunk in it was verified then."""
        earlier = self._unfinished.get(assembly.plan.path)
        if earlier is None or earlier.inode != inode or earlier.chunks != assembly.chunks:
            return False
        assembly.missing, assembly.inode = set(earlier.missing), inode
        return True

    def _set_aside(self, assembly: Assembly, error: OSError) -> None:
        """One file that cannot be written (name too long, no permission, directory gone) does not stop the others."""
        path = assembly.plan.path
        self._context.refuse_now(path, f"cannot be written: {error.strerror}")
        self._context.dirty.add(path[:-1])

    def _resume(self, assembly: Assembly) -> None:
        """A temp left by an earlier try is worth the chunks in it that still verify.

        One that has its file's mode already, without the permission to write it, is made anew.
        """
        filesystem, path, generation = self._context.filesystem, assembly.plan.path, self._generation(assembly)
        try:
            with filesystem.open_temp(path, False) as temp:
                size, assembly.inode = temp.stat().size, temp.stat().inode
                for index, (chunk, offset, length) in enumerate(assembly.chunks):
                    if offset + length <= size and generation.chunk_id(temp.read(offset, length)) == chunk:
                        assembly.missing.discard(index)
        except (FileNotFoundError, NotRegularFile, PermissionError):
            filesystem.remove_temp(path)
            assembly.missing, assembly.inode = set(range(len(assembly.chunks))), None

    def _generation(self, assembly: Assembly) -> Generation:
        version = assembly.plan.version
        assert version is not None
        return self._context.secrets.generations[version.content.generation]

    def take(self, came: Sequence[tuple[ChunkId, Plaintext]]) -> list[Assembly]:
        """Write verified chunks wherever they are wanted; returns the files they completed."""
        small: list[tuple[Assembly, int, Plaintext]] = []
        parts: list[tuple[Assembly, int, Plaintext]] = []
        with self._lock:
            for chunk, plain in came:
                for assembly, index in self.wanted.pop(chunk, ()):
                    (small if len(assembly.chunks) == 1 else parts).append((assembly, index, plain))
        for assembly, index, plain in small + parts:
            if assembly.chunks[index][1] == 0:
                _look_at_beginning(assembly, plain)
        done, left = self._write_together(small)
        for assembly, index, plain in left + parts:
            try:
                if self._write(assembly, index, plain):
                    done.append(assembly)
            except OSError as error:
                self._set_aside(assembly, error)
        return done

    def _write_together(
        self, small: list[tuple[Assembly, int, Plaintext]]
    ) -> tuple[list[Assembly], list[tuple[Assembly, int, Plaintext]]]:
        """Write whole files with as few steps as the disk allows; those that are complete, and what is left to write."""
        if not small or self._context.shape.xattrs:
            return [], small
        small.sort(key=lambda each: each[0].plan.path[:-1])
        seen = self._context.filesystem.write_temps([_new_temp(assembly, plain) for assembly, _, plain in small])
        done, left = [], []
        for each in small:
            assembly = each[0]
            stat = seen.get(assembly.plan.path)
            if stat is None or stat.size != assembly.plan.size:
                left.append(each)
                continue
            assembly.missing.clear()
            assembly.plan.temp = fingerprint_of(stat)
            done.append(assembly)
        return done, left

    def _write(self, assembly: Assembly, index: int, plain: Plaintext) -> bool:
        """Write one chunk of one file; True when that completed it."""
        if len(assembly.chunks) == 1:
            assembly.missing.clear()
            return self.seal(assembly, plain)
        self._have_temp(assembly)
        with self._temp(assembly.plan.path) as (temp, created):
            if not self._same_temp(assembly, temp, created):
                return False
            with assembly.writing:
                temp.write(plain, assembly.chunks[index][1])
        with self._lock:
            assembly.missing.discard(index)
            complete = assembly.complete
        return complete and self.seal(assembly)

    def _have_temp(self, assembly: Assembly) -> None:
        """Make the temp that all chunks go into: one worker does, so that whoever has to make it later knows it was gone."""
        with self._lock:
            if assembly.inode is None:
                with self._temp(assembly.plan.path) as (temp, _):
                    assembly.inode = temp.stat().inode

    def _same_temp(self, assembly: Assembly, temp: TempFile, created: bool) -> bool:
        """Whether this is still the file that earlier chunks went into; if somebody removed it, the next round starts over."""
        inode = temp.stat().inode
        with self._lock:
            if created or assembly.inode != inode:
                assembly.spoiled = True
            return not assembly.spoiled

    @contextmanager
    def _temp(self, path: Path, *, new: bool = False) -> Iterator[tuple[TempFile, bool]]:
        """The temp of a path, and whether it was made now (two workers may come at once); `new`: it probably is.

        FileNotFoundError: its directory is gone.
        """
        for create in (new, not new, new):
            try:
                with self._context.filesystem.open_temp(path, create) as temp:
                    yield temp, create
                    return
            except FileNotFoundError:
                if create:
                    raise
            except FileExistsError:
                pass  # another worker was here first
        raise StorageError(f"the temporary file of {show(path)} comes and goes; is another program cleaning up there?")

    def seal(self, assembly: Assembly, plain: Plaintext | None = None) -> bool:
        """Give a complete temp its size, extended attributes, mode and time, and note what it looks like.

        `plain` is a whole small file.
        False when the temp is not the one that was filled.
        """
        version = assembly.plan.version
        assert version is not None
        with self._temp(assembly.plan.path, new=plain is not None) as (temp, created):
            if plain is not None:
                temp.write(plain, 0)
            elif assembly.chunks and not self._same_temp(assembly, temp, created):
                return False
            temp.truncate(version.size)
            if self._context.shape.xattrs:
                assembly.plan.xattrs = set_on_temp(self._context, assembly.plan.base, version, temp)
            temp.set_meta(version.mode, version.mtime_ns)
            assembly.plan.temp = fingerprint_of(temp.stat())
        return True

    # Local sources.

    def found_here(self, chunks: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, Plaintext]]:
        """What this device already has of these chunks, verified."""
        local = self._context.catalog.locations.all_local(chunks)
        inline = self._context.catalog.locations.find_all_inline(chunks)
        for chunk in sorted(chunks, key=lambda each: inline.get(each, _NOWHERE)):  # an entry is opened once
            targets = self.wanted.get(chunk)
            if not targets:
                continue
            assembly, index = targets[0]
            plain = self._from_history(assembly, index)
            if plain is None and chunk in local:
                plain = self._inline(inline.get(chunk)) or self._from_files(
                    chunk, assembly.chunks[index][2], self._generation(assembly)
                )
            if plain is not None:
                yield chunk, plain

    def _inline(self, place: Inline | None) -> Plaintext | None:
        if place is None:
            return None
        feed, seq, index = place
        body = self._body  # another worker may put another entry there
        if body is None or body[0] != (feed, seq):
            data = self._context.catalog.feeds.entry(feed, seq)
            if data is None:
                return None
            body = self._body = ((feed, seq), held_records(self._context, data))
        return inline_plain(body[1], index)

    def _from_history(self, assembly: Assembly, index: int) -> Plaintext | None:
        """A chunk of a version that stood here before, and whose content this device has kept."""
        version = assembly.plan.version
        if version is None or version.replaces is None:
            return None
        chunk, offset, length = assembly.chunks[index]
        return read_past(self._context, version.content, chunk, offset, length, self._generation(assembly))

    def _from_files(self, chunk: ChunkId, length: int, generation: Generation) -> Plaintext | None:
        for holder, offset in self._context.catalog.placed.holders(chunk):
            plain = read_chunk(self._context, holder, offset, length, chunk, generation)
            if plain is not None:
                return plain
        return None


def _assembly_of(plan: Plan) -> Assembly:
    chunks, offset = [], 0
    for chunk, length in iterate_chunks(plan.rows):
        chunks.append((ChunkId(chunk), offset, length))
        offset += length
    return Assembly(plan, chunks, set(range(len(chunks))))


def _new_temp(assembly: Assembly, plain: Plaintext) -> NewTemp:
    version = assembly.plan.version
    assert version is not None
    return NewTemp(assembly.plan.path, plain, version.mode, version.mtime_ns)


def _look_at_beginning(assembly: Assembly, plain: Plaintext) -> None:
    """A small text is kept, since it is wanted once more."""
    plan = assembly.plan
    plan.text = is_text_like(plain)
    plan.whole = plain if plan.text and len(assembly.chunks) == 1 and len(plain) <= _WHOLE_MAX else None


def read_chunk(
    context: Context, holder: Path, offset: int, length: int, chunk: ChunkId, generation: Generation
) -> Plaintext | None:
    """A chunk out of a placed file, re-hashed: None when the file holds something else by now."""
    try:
        with context.filesystem.open_file(holder) as file:
            plain = file.read(offset, length)
    except (OSError, P2psyncError):
        return None  # changed or gone since: another source will do
    if len(plain) != length or generation.chunk_id(plain) != chunk:
        return None
    return Plaintext(plain)
