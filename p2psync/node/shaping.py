"""What a running peer does on commands about a folder's shape: its type, override, revert, what differs on purpose, and
whether extended attributes are synced.

A part of `commands.py`, in the same form; what these things mean is `replica/reshaping.py`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from p2psync.errors import UsageError
from p2psync.node.choosing import chosen_folders
from p2psync.node.control import Console, Json
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder
from p2psync.planner.shaping import parse_type
from p2psync.replica.reshaping import Reshaping


async def _type(peer: Peer, request: Json, console: Console) -> None:
    """Show the type, or change it."""
    folder, reshaping = await _one(peer, request)
    if request.get("type") is not None:
        await reshaping.change_type(parse_type(str(request["type"])))
    await console.say(_head(folder) | {"type": reshaping.type.value})


async def _override(peer: Peer, request: Json, console: Console) -> None:
    folder, reshaping = await _one(peer, request)
    await console.say(_head(folder) | {"overridden": await reshaping.override()})


async def _revert(peer: Peer, request: Json, console: Console) -> None:
    folder, reshaping = await _one(peer, request)
    done = await reshaping.revert()
    aside = None if done.aside is None else str(folder.path / done.aside)
    await console.say(_head(folder) | {"reverted": done.paths, "aside": aside})


async def _changes(peer: Peer, request: Json, console: Console) -> None:
    folder, reshaping = await _one(peer, request)
    found = await peer.surroundings.workers.run(reshaping.differences)
    await console.say(_head(folder) | {"changes": [{"path": path, "difference": how} for path, how in found]})


async def _import(peer: Peer, request: Json, console: Console) -> None:
    folder, reshaping = await _one(peer, request)
    count, target = await reshaping.import_ignores(shared=bool(request.get("shared")))
    await console.say(_head(folder) | {"imported": count, "to": target})


async def _xattrs(peer: Peer, request: Json, console: Console) -> None:
    """Show whether extended attributes are synced, after switching that if `wanted` says so."""
    for folder in await chosen_folders(peer, request.get("folders") or []):
        reshaping = peer.running(folder.folder).replica.reshaping
        if request.get("wanted") is not None:
            await reshaping.switch_xattrs(bool(request["wanted"]))
        await console.say(_head(folder) | {"xattrs": reshaping.xattrs})


async def _one(peer: Peer, request: Json) -> tuple[RegisteredFolder, Reshaping]:
    name = str(request.get("folder") or "")
    if not name:
        raise UsageError("name the folder by its label, path or id; p2psync folder list shows them")
    folder = (await chosen_folders(peer, [name]))[0]
    return folder, peer.running(folder.folder).replica.reshaping


def _head(folder: RegisteredFolder) -> Json:
    return {"id": folder.folder.hex(), "label": folder.label}


SHAPE_COMMANDS: dict[str, Callable[[Peer, Json, Console], Awaitable[None]]] = {
    "folder-type": _type,
    "folder-override": _override,
    "folder-revert": _revert,
    "folder-changes": _changes,
    "folder-import-ignores": _import,
    "folder-xattrs": _xattrs,
}
