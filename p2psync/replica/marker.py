"""The marker `.p2psync/replica`: proof that the tree at the root is this replica's.

Content: folder id and a random replica id, as text. A missing or different marker stops the folder: an unmounted disk
or a wrong path must never look like "everything was deleted". Source: formats, "On disk".
"""

from __future__ import annotations

from pathlib import Path as FilePath

from p2psync.errors import FolderStopped, StorageError
from p2psync.ids import FolderId
from p2psync.index.paths import MARKER
from p2psync.replica.filesystem import Filesystem, NotRegularFile

_NAME = b"replica"
_MAX = 256


def marker_text(folder: FolderId, replica: bytes) -> bytes:
    return f"p2psync replica 1\nfolder {folder.hex()}\nreplica {replica.hex()}\n".encode()


def write_marker(root: FilePath, folder: FolderId, replica: bytes) -> None:
    """Make the marker in a folder that has none yet; StorageError when the disk refuses."""
    directory = root / MARKER.decode()
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / _NAME.decode()).write_bytes(marker_text(folder, replica))
    except OSError as error:
        raise StorageError(f"{root} cannot be made a p2psync folder: {error.strerror}") from error


def existing_marker(root: FilePath) -> bytes | None:
    """The marker's text if the directory is some replica's already."""
    try:
        return (root / MARKER.decode() / _NAME.decode()).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{root} cannot be read: {error.strerror}") from error


def check_marker(filesystem: Filesystem, folder: FolderId, replica: bytes) -> None:
    """FolderStopped unless the root is there, is the one first opened, and carries this replica's marker."""
    filesystem.check_root()
    try:
        with filesystem.open_file((MARKER, _NAME)) as file:
            found = file.read(0, _MAX)
    except (FileNotFoundError, NotADirectoryError, NotRegularFile):
        raise FolderStopped(
            "its marker .p2psync/replica is missing: if a disk is not mounted, mount it; nothing was deleted"
        ) from None
    except OSError as error:
        raise FolderStopped(f"its marker .p2psync/replica cannot be read: {error.strerror}") from None
    if found != marker_text(folder, replica):
        raise FolderStopped("its marker .p2psync/replica belongs to another replica: another tree was put in its place")
