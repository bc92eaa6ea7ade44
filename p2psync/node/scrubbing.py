"""What a running peer does on `scrub`: every file of a folder is compared with what it should be, and its catalog checked.

Says one JSON object per rotten file and one per folder. What bit rot is and how it is mended is `replica/scrubbing.py`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from p2psync.errors import UserError
from p2psync.index.paths import show
from p2psync.node.choosing import chosen_folders
from p2psync.node.control import Console, Json
from p2psync.node.history import connected, not_stopped
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder
from p2psync.replica.scrubbing import Found


async def _scrub(peer: Peer, request: Json, console: Console) -> None:
    left = damaged = 0
    for folder in await chosen_folders(peer, request.get("folders") or []):
        done = await _scrub_one(peer, folder, request, console)
        await console.say(done)
        left += done["left"]
        damaged += bool(done["catalog_damage"])
    if damaged:
        raise UserError(
            "a catalog is damaged and no file of its folder was touched: stop p2psync, move the file named above away, and"
            " join the folder again into the same directory; equal files are taken over and nothing is deleted"
        )
    if left:
        raise UserError(
            f"{left} files could not be mended; connect a device or store that has them and run p2psync scrub again"
        )


async def _scrub_one(peer: Peer, folder: RegisteredFolder, request: Json, console: Console) -> Json:
    replica, head = peer.running(folder.folder).replica, {"folder": folder.folder.hex(), "label": folder.label}

    async def tell(found: Found) -> None:
        kept = None if found.kept is None else str(folder.path / show(found.kept))
        await console.say(head | {"path": show(found.path), "kept": kept, "left": found.left})

    catalog = str(peer.home.catalog(folder.catalog))
    if damage := await replica.scrubbing.damage():
        return _summary(head, catalog=catalog, damage=damage)
    await not_stopped(replica)
    await replica.rescan()
    await connected(peer, replica, request)
    done = await replica.scrubbing.run(tell)
    left = sum(found.left is not None for found in done.found)
    figures = {"files": done.files, "bytes": done.bytes, "unchecked": done.unchecked}
    return _summary(head, catalog=catalog, damage=[], mended=len(done.found) - left, left=left, **figures)


def _summary(
    head: Json, *, catalog: str, damage: list[str], files: int = 0, bytes: int = 0, unchecked: int = 0, mended: int = 0,
    left: int = 0,
) -> Json:  # fmt: skip
    return head | {
        "files": files, "bytes": bytes, "unchecked": unchecked, "mended": mended, "left": left, "catalog": catalog,
        "catalog_damage": damage,
    }  # fmt: skip


SCRUB_COMMANDS: dict[str, Callable[[Peer, Json, Console], Awaitable[None]]] = {"scrub": _scrub}
