"""What a running peer does about conflicts: list them, show how their sides differ, settle one, turn text merges off.

Says one JSON object per conflict, copy or folder. What a resolution is, and whether it can be had now, is the replica's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from p2psync.errors import UsageError, UserError
from p2psync.index.paths import show
from p2psync.index.versions import Kind
from p2psync.node.choosing import chosen_folders, folder_of_path
from p2psync.node.control import Console, Json
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder
from p2psync.replica.conflicts import Keep, Side
from p2psync.vault.device_keys import device_id

_SECONDS_MAX = 253402300799
"""9999-12-31T23:59:59Z."""


async def _conflicts(peer: Peer, request: Json, console: Console) -> None:
    if request.get("path") is None:
        if request.get("keep") is not None:
            raise UsageError("say which conflict with PATH; p2psync conflicts lists them")
        for folder in await chosen_folders(peer, request.get("folders") or []):
            await _list(peer, folder, console)
        return
    folder, path = await folder_of_path(peer, request["path"])
    replica = peer.running(folder.folder).replica
    if request.get("keep") is None:
        for standing, copy, lines in await replica.conflicts.difference(path):
            await console.say({"standing": show(standing), "copy": show(copy), "difference": lines})
        return
    try:
        keep = Keep(request["keep"])
    except ValueError:
        raise UsageError("--keep takes mine, theirs or both") from None
    status = await replica.status()
    if status.state == "error":
        raise UserError(f"the folder is stopped: {status.error}")
    settled = await replica.conflicts.resolve(path, keep)
    await console.say({"settled": show(settled), "kept": keep.value})


async def _list(peer: Peer, folder: RegisteredFolder, console: Console) -> None:
    for conflict in await peer.running(folder.folder).replica.conflicts.all():
        standing = None if conflict.standing is None else _side(peer, conflict.standing)
        copies = [_side(peer, copy) for copy in conflict.copies]
        await console.say(
            {"label": folder.label, "conflict": show(conflict.path), "standing": standing, "copies": copies}
        )


def _side(peer: Peer, side: Side) -> Json:
    seconds = max(0, min(side.mtime_ns // 10**9, _SECONDS_MAX))
    return {
        "path": show(side.path), "kind": side.kind.name.lower(), "size": side.size if side.kind is Kind.FILE else None,
        "modified": datetime.fromtimestamp(seconds, UTC).isoformat(),
        "device": None if side.whose is None else device_id(side.whose),
        "name": None if side.whose is None else peer.links.names.get(side.whose),
        "own": side.whose == peer.device.identity_key,
    }  # fmt: skip


async def _text_merge(peer: Peer, request: Json, console: Console) -> None:
    """Show whether texts are merged, after setting it if `wanted` says so."""
    for folder in await chosen_folders(peer, request.get("folders") or []):
        conflicts = peer.running(folder.folder).replica.conflicts
        if request.get("wanted") is not None:
            await conflicts.set_text_merge(bool(request["wanted"]))
        await console.say(
            {"folder": folder.folder.hex(), "label": folder.label, "text_merge": await conflicts.merges_text()}
        )


CONFLICT_COMMANDS: dict[str, Callable[[Peer, Json, Console], Awaitable[None]]] = {
    "conflicts": _conflicts,
    "text-merge": _text_merge,
}
