"""Keeping: what a replacement or a deletion displaced goes to `.p2psync/versions/` instead of being unlinked.

A rename on the same filesystem, never a copy. A file's name there comes from its path and dot, so that after a crash the
intent that displaced it leads to it. Which of them stay how long is `planner/retention.py`'s and `collecting.py`'s.
Synchronous, under the tree lock. Source: formats, "On disk", write order.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from p2psync.catalog.rows import Placed, content_key
from p2psync.crypto.hashing import content_hash
from p2psync.encoding import encode
from p2psync.errors import P2psyncError, StorageError
from p2psync.ids import ChunkId, Plaintext
from p2psync.index.paths import MARKER, Path, show
from p2psync.index.versions import Content, Dot, Kind
from p2psync.replica.context import Context
from p2psync.replica.filesystem import temp_path
from p2psync.vault.secrets import Generation

VERSIONS: Path = (MARKER, b"versions")
_SAME_NAME_MAX = 1000
"""The same version of the same path displaced this often: something goes in circles."""


class NotKept(StorageError):
    """A displaced file could not be kept: the change that displaced it must wait."""


def kept_path(file: str) -> Path:
    return (*VERSIONS, file.encode())


def keep_displaced(context: Context, path: Path, old: Placed, by: Dot | None) -> None:
    """Move the temp of `path`, which is the displaced file `old`, to the versions and write down its row.

    NotKept when the disk refuses: the temp still stands then. On a directory that another filesystem was mounted over
    no rename reaches the versions: there the file goes, and a standing trouble says so.
    """
    taken = old.kind is Kind.FILE and not context.catalog.brake.stands_elsewhere(path)
    filesystem, now_ms = context.filesystem, int(context.clock.now() * 1000)
    try:
        for file in _names(old):
            if context.catalog.kept.has_file(file):
                continue
            try:
                _move(context, temp_path(path), kept_path(file))
            except FileExistsError:
                continue
            context.catalog.kept.add(file, old, now_ms, by, taken=taken)
            return
    except OSError as error:
        if error.errno == errno.EXDEV:
            context.set_trouble_quietly(
                "history", f"{show(path)} is on another disk than the folder: what is replaced there is not kept here"
            )
            filesystem.remove_temp(path)
            return
        raise NotKept(f"its old version could not be kept ({error.strerror})") from error
    except StorageError as error:
        raise NotKept(f"its old version could not be kept: {error}") from error
    raise NotKept(f"its old version could not be kept: {show(VERSIONS)} holds too many of it")


def adopt_kept(context: Context, old: Placed | None, by: Dot | None) -> None:
    """After a crash: give the file that an intent's old row displaced its row, if it was moved and not written down."""
    if old is None or not old.live or old.kind is Kind.DIRECTORY:
        return
    for file in _names(old):
        stat = context.filesystem.stat(kept_path(file))
        if stat is None:
            return
        if not context.catalog.kept.has_file(file):
            context.catalog.kept.add(file, old, int(context.clock.now() * 1000), by, taken=True)


def free_name(context: Context, old: Placed) -> str:
    """A name in the directory of versions that no file has yet, for content that is brought there."""
    names = _names(old)
    return next(
        n for n in names if not context.catalog.kept.has_file(n) and context.filesystem.stat(kept_path(n)) is None
    )


def read_past(
    context: Context, content: Content, chunk: ChunkId, offset: int, length: int, generation: Generation
) -> Plaintext | None:
    """A chunk of a content that stood here before, verified: out of the bases of text merges or a local version."""
    held = context.catalog.bases.get(content)
    if held is not None and generation.chunk_id(held[offset : offset + length]) == chunk:
        return Plaintext(held[offset : offset + length])
    for kept in context.catalog.kept.with_content(content):
        try:
            with context.filesystem.open_file(kept_path(kept.file)) as file:
                plain = file.read(offset, length)
        except (OSError, P2psyncError):
            continue
        if len(plain) == length and generation.chunk_id(plain) == chunk:
            return Plaintext(plain)
    return None


def _move(context: Context, source: Path, target: Path) -> None:
    """Rename into the directory of versions, which is made when the first one comes."""
    try:
        context.filesystem.move(source, target)
    except FileNotFoundError:
        if context.filesystem.stat(VERSIONS) is not None:
            raise
        context.filesystem.make_directory(VERSIONS, 0o700)
        context.filesystem.move(source, target)


def _names(old: Placed) -> Iterator[str]:
    """Names in the directory of versions for one version of one path; most need only the first."""
    dot = old.dot
    name = content_hash(encode([old.path, dot.feed, dot.seq, dot.index, content_key(old.content)]))[:16].hex()
    for number in range(_SAME_NAME_MAX):
        yield f"{name}-{number}" if number else name
