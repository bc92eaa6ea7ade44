"""Importing: the patterns of Syncthing's `.stignore` become ours, so that who moves over publishes nothing he ignored.

Their syntax is ours, so the file is copied as it is, once every line is understood. It is a device's own with Syncthing,
so it becomes `.p2pignore.local`, unless the user wants everybody to have it. An ignore file that is there is never
touched. Synchronous: it runs in a worker.
"""

from __future__ import annotations

from pathlib import Path as FilePath

from p2psync.errors import UserError
from p2psync.index.paths import Path, show
from p2psync.planner.ignoring import FOREIGN, LOCAL, Ignores, parse_ignores
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.shape import read_ignore_file

_MODE = 0o644


def import_ignores(filesystem: Filesystem, target: Path) -> int:
    """Copy `.stignore` to `target`; returns how many patterns it has. UserError, and nothing changed, if that cannot be."""
    content, ignores = _foreign(filesystem)
    if content is None:
        raise UserError("there is no .stignore in this folder's root to import")
    held = read_ignore_file(filesystem, target)
    if held is not None and held != content:
        raise UserError(f"{show(target)} is there already: add the lines you want by hand, or move it away")
    if held is None:
        _write(filesystem, target, content)
    return len(ignores.rules)


def import_at_first(root: FilePath) -> None:
    """Before a directory becomes a replica: take over a `.stignore`, unless this device has patterns of its own there."""
    with LocalFilesystem(root) as filesystem:
        content, _ = _foreign(filesystem)
        if content is not None and read_ignore_file(filesystem, LOCAL) is None:
            _write(filesystem, LOCAL, content)


def check_importable(root: FilePath) -> None:
    """UserError when a `.stignore` is there that cannot be taken over: better before a pairing code is used up."""
    if root.is_dir():
        with LocalFilesystem(root) as filesystem:
            _foreign(filesystem)


def _foreign(filesystem: Filesystem) -> tuple[bytes | None, Ignores]:
    content = read_ignore_file(filesystem, FOREIGN)
    return content, parse_ignores(lambda path: read_ignore_file(filesystem, path), (FOREIGN,))


def _write(filesystem: Filesystem, target: Path, content: bytes) -> None:
    """Whole or not at all: half a list of patterns would let files out."""
    filesystem.remove_temp(target)
    with filesystem.open_temp(target, True) as temp:
        temp.write(content, 0)
        temp.truncate(len(content))
        temp.set_meta(_MODE, temp.stat().mtime_ns)
        temp.sync()
    filesystem.place_new(target)
    filesystem.sync([target])
