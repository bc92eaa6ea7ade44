"""Namesakes: paths that this disk takes for one, though the folder tells them apart (`File` and `file` on FAT or casefold).

It owns the question which of them stands here: the one that is on the disk already, else the first that comes. The other
one is not written, and the user is told. One object serves one batch of plans.
"""

from __future__ import annotations

from p2psync.index.paths import Path, fold_key
from p2psync.replica.filesystem import Filesystem, is_temp_name


class Namesakes:
    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._names: dict[Path, dict[bytes, bytes]] = {}
        """By directory: fold key to the name that has it, those that are about to be written included."""

    def of(self, path: Path) -> Path | None:
        """What stands, or is about to stand, where the disk would put `path`; None if the name is free or its own."""
        if not self._filesystem.folds:
            return None
        for depth in range(1, len(path) + 1):
            directory, name = path[: depth - 1], path[depth - 1]
            held = self._names_in(directory).setdefault(fold_key(name), name)
            if held != name:
                return (*directory, held)
        return None

    def _names_in(self, directory: Path) -> dict[bytes, bytes]:
        names = self._names.get(directory)
        if names is None:
            try:
                entries = self._filesystem.list_directory(directory)
            except (FileNotFoundError, NotADirectoryError):
                entries = []
            names = {fold_key(name): name for name, _ in entries if not is_temp_name(name)}
            self._names[directory] = names
        return names
