"""What a curious relay could find: a search of every byte it stores for names and contents of a folder.

Contents are cut into aligned blocks of 16 bytes and every position of the relay's files is compared with all of them,
so any copied stretch of 31 bytes is found wherever it starts. Blocks of few different bytes (padding, indentation) say
nothing and are left out. Used by the demonstration and by tests; knows nothing of formats.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 16
DISTINCT_MIN = 6
NAME_MIN = 6
"""Shorter names would be found in random bytes by chance."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """Result of one search: bytes looked at, names and blocks looked for, and what was found of them."""

    searched_bytes: int
    names: int
    blocks: int
    found: tuple[str, ...]


def files_below(root: Path) -> Iterator[Path]:
    """Every regular file below `root`, markers and temporary files of ours left out."""
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name != ".p2psync")
        for name in sorted(files):
            path = Path(directory) / name
            if path.is_file() and not path.is_symlink():
                yield path


def search(stored: Path, folder: Path) -> Sightings:
    """Look in all files below `stored` for names and contents of `folder`."""
    names, blocks = _needles(folder)
    total, found = 0, []
    for path in files_below(stored):
        data = path.read_bytes()
        total += len(data)
        shown = path.relative_to(stored)
        found += [f"the name {name.decode(errors='replace')} in {shown}" for name in names if name in data]
        found += [
            f"the name {name.decode(errors='replace')} as a name: {shown}" for name in names if name in bytes(shown)
        ]
        found += [f"content {block!r} in {shown}" for block in _blocks_in(data, blocks)]
    return Sightings(total, len(names), len(blocks), tuple(found))


def _needles(folder: Path) -> tuple[set[bytes], set[bytes]]:
    names: set[bytes] = set()
    blocks: set[bytes] = set()
    for path in files_below(folder):
        names |= {os.fsencode(part) for part in path.relative_to(folder).parts if len(part) >= NAME_MIN}
        data = path.read_bytes()
        blocks |= {data[start : start + BLOCK] for start in range(0, len(data) - BLOCK + 1, BLOCK)}
    return names, {block for block in blocks if len(set(block)) >= DISTINCT_MIN}


def _blocks_in(data: bytes, blocks: set[bytes]) -> list[bytes]:
    """Up to ten of `blocks` that occur anywhere in `data`."""
    found = []
    for start in range(len(data) - BLOCK + 1):
        if data[start : start + BLOCK] in blocks:
            found.append(data[start : start + BLOCK])
            if len(found) == 10:
                break
    return found
