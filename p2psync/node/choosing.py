"""Which folder of this device a user means: by label, id, or a path in it."""

from __future__ import annotations

import os

from p2psync.errors import UserError
from p2psync.index.paths import Path
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder


async def chosen_folders(peer: Peer, names: list[str]) -> list[RegisteredFolder]:
    """The folders named by label, path or id (or its beginning); all of them when none is named."""
    folders = await peer.registered()
    if not folders:
        raise UserError("this device has no folder yet; use p2psync share PATH or p2psync join CODE first")
    if not names:
        return folders
    return [named_folder(folders, name) for name in dict.fromkeys(names)]


def named_folder(folders: list[RegisteredFolder], name: str) -> RegisteredFolder:
    found = [
        f for f in folders if name in (f.label, str(f.path)) or (len(name) >= 4 and f.folder.hex().startswith(name))
    ]
    if len(found) != 1:
        raise UserError(
            f"{name!r} names {len(found) or 'no'} folders of this device; use its path or the start of its id"
        )
    return found[0]


async def folder_of_path(peer: Peer, path: str) -> tuple[RegisteredFolder, Path]:
    """The folder a path lies in (it need not exist any more), and the path inside it. UserError when in none."""
    folders = await chosen_folders(peer, [])
    return await peer.surroundings.workers.run(_holding, folders, path)


def _holding(folders: list[RegisteredFolder], path: str) -> tuple[RegisteredFolder, Path]:
    parent, name = os.path.split(path)
    for candidate in (path, os.path.join(os.path.realpath(parent), name), os.path.realpath(path)):
        for folder in sorted(folders, key=lambda each: len(str(each.path)), reverse=True):
            for root in (str(folder.path), os.path.realpath(folder.path)):
                if candidate == root or candidate.startswith(root.rstrip("/") + "/"):
                    inside = os.fsencode(os.path.relpath(candidate, root))
                    return folder, () if inside == b"." else tuple(inside.split(b"/"))
    raise UserError(f"{path} is in no folder of this device; p2psync folder list shows them")
