"""What a running peer does about conflicts: list them, show how their sides differ, settle one, turn text merges off.

Says one JSON object per conflict, copy or folder. A merge by hand is asked of whoever runs the command, with the sides as
files in a private directory of the home. What a resolution is, and whether it can be had now, is the replica's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path as FilePath

from p2psync.errors import UsageError, UserError
from p2psync.index.paths import Path, show
from p2psync.index.versions import Kind
from p2psync.limits import TEXT_MERGE_MAX
from p2psync.node.choosing import chosen_folders, folder_of_path
from p2psync.node.control import Console, Json
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder
from p2psync.planner.conflicts import Keep
from p2psync.replica.conflicts import Merged, Side, Texts
from p2psync.replica.replica import Replica

_SECONDS_MAX = 253402300799
"""9999-12-31T23:59:59Z."""
_EXTENSION_MAX = 16
"""Letters of a file's ending that the files for a merge tool keep, so that it knows their language."""


async def _conflicts(peer: Peer, request: Json, console: Console) -> None:
    if request.get("path") is None:
        if request.get("keep") is not None or request.get("merge"):
            raise UsageError("say which conflict with PATH; p2psync conflicts lists them")
        for folder in await chosen_folders(peer, request.get("folders") or []):
            await _list(peer, folder, console)
        return
    folder, path = await folder_of_path(peer, request["path"])
    replica = peer.running(folder.folder).replica
    if request.get("keep") is None and not request.get("merge"):
        for standing, copy, lines in await replica.conflicts.difference(path):
            await console.say({"standing": show(standing), "copy": show(copy), "difference": lines})
        return
    status = await replica.status()
    if status.state == "error":
        raise UserError(f"the folder is stopped: {status.error}")
    if request.get("merge"):
        settled, kept = await _merge(peer, replica, path, console), "merged"
    else:
        keep = _keep(str(request["keep"]))
        settled, kept = await replica.conflicts.resolve(path, keep), keep.value
    await console.say({"settled": show(settled), "kept": kept})


def _keep(text: str) -> Keep:
    try:
        return Keep(text)
    except ValueError:
        raise UsageError("--keep takes mine, theirs or both") from None


async def _list(peer: Peer, folder: RegisteredFolder, console: Console) -> None:
    for conflict in await peer.running(folder.folder).replica.conflicts.all():
        standing = None if conflict.standing is None else await _side(peer, conflict.standing)
        copies = [await _side(peer, copy) for copy in conflict.copies]
        await console.say(
            {"label": folder.label, "conflict": show(conflict.path), "standing": standing, "copies": copies}
        )


async def _side(peer: Peer, side: Side) -> Json:
    seconds = max(0, min(side.mtime_ns // 10**9, _SECONDS_MAX))
    return {
        "path": show(side.path), "kind": side.kind.name.lower(), "size": side.size if side.kind is Kind.FILE else None,
        "modified": datetime.fromtimestamp(seconds, UTC).isoformat(),
        "own": side.whose == peer.device.identity_key,
    } | await peer.called(side.whose)  # fmt: skip


async def _merge(peer: Peer, replica: Replica, path: Path, console: Console) -> Path:
    texts = await replica.conflicts.texts(path)
    run = peer.surroundings.workers.run
    with tempfile.TemporaryDirectory(prefix="merge-", dir=peer.home.directory) as directory:
        question = await run(_lay_out, FilePath(directory), path, texts)
        answer = await console.ask(question)
        if answer != "merged":
            raise UserError(answer or "nobody merged them; the conflict stays")
        text = await run(_read, FilePath(question["merged"]))
    if text == texts.mine:
        raise UserError("the merge tool left your side as it was; to choose it, use --keep mine")
    return await replica.conflicts.resolve(texts.copy, Merged(texts, text))


def _lay_out(directory: FilePath, path: Path, texts: Texts) -> Json:
    """The sides as files; the one to be written begins as this device's side."""
    ending = os.path.splitext(os.fsdecode(path[-1]))[1]
    if not (ending[1:].isascii() and ending[1:].isalnum() and len(ending) <= _EXTENSION_MAX):
        ending = ""
    sides = {"mine": texts.mine, "theirs": texts.theirs, "base": texts.base or b"", "merged": texts.mine}
    for name, data in sides.items():
        (directory / f"{name}{ending}").write_bytes(data)
    return {"ask": "merge", "path": show(path)} | {name: str(directory / f"{name}{ending}") for name in sides}


def _read(path: FilePath) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"the merge tool left nothing to read ({error.strerror}); the conflict stays") from error
    if len(data) > TEXT_MERGE_MAX:
        raise UserError("what the merge tool wrote is larger than 1 MiB; the conflict stays")
    return data


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
