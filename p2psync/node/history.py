"""What a running peer does about the past: history, restore, undo, and what the brake holds.

Each says one JSON object per version or path. What can be had from where, and how it comes back, is the replica's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path as FilePath

import trio

from p2psync.catalog.settings import FolderSettings
from p2psync.errors import FolderStopped, UsageError, UserError
from p2psync.ids import FeedId
from p2psync.index.paths import show
from p2psync.index.versions import Dot, Kind
from p2psync.node.choosing import chosen_folders, folder_of_path
from p2psync.node.control import Console, Json
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder
from p2psync.planner.brake import BrakeLimits
from p2psync.planner.retention import KeepRules
from p2psync.replica.history import PastVersion
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import Replica
from p2psync.replica.restoring import Outcome
from p2psync.vault.device_keys import device_id

_CONNECT_SECONDS = 10.0
"""How long a peer that was started for one command waits for its stores before it looks for old content."""
_ID_DIGITS = 8


def version_id(dot: Dot) -> str:
    """A version's id as people copy it: the start of its feed, its entry, its place in that."""
    return f"{dot.feed.hex()[:_ID_DIGITS]}-{dot.seq}-{dot.index}"


async def _history(peer: Peer, request: Json, console: Console) -> None:
    folder, path = await folder_of_path(peer, request["path"])
    replica = _running(peer, folder)
    authors = await replica.past.authors()
    listed = await replica.past.history(path, int(request.get("limit") or 100))
    if not listed:
        raise UserError(f"p2psync knows no version of {show(path) or 'anything here'}")
    for each in listed:
        await console.say(_line(each) | await peer.called(authors.get(each.past.dot.feed)))


def _line(each: PastVersion) -> Json:
    past = each.past
    moment = datetime.fromtimestamp(min(past.time_ms, 253402300799000) / 1000, UTC)
    return {
        "path": show(past.path), "version": version_id(past.dot), "time": moment.isoformat(timespec="milliseconds"),
        "time_ms": past.time_ms, "kind": past.kind.name.lower(), "size": past.size, "what": _what(each),
        "where": each.where.value, "reachable": each.reachable, "current": each.current, "waiting": each.waiting,
    }  # fmt: skip


def _what(each: PastVersion) -> str:
    version = each.version
    if each.past.kind is Kind.DELETED:
        return "deleted"
    if version is not None and version.origin is not None:
        return f"came from {show(version.origin.path)}"
    if version is not None and version.replaces is None:
        return "created"
    return "changed"


async def _restore(peer: Peer, request: Json, console: Console) -> None:
    folder, path = await folder_of_path(peer, request["path"])
    replica = _running(peer, folder)
    await connected(peer, replica, request)
    at_ms, dot = request.get("at_ms"), None
    if request.get("version"):
        dot = await _dot(replica, str(request["version"]))
    if (at_ms is None) == (dot is None):
        raise UsageError("say what to restore with --at TIME or --version ID, one of them")
    if request.get("to"):
        filesystem = await peer.surroundings.workers.run(_open_target, FilePath(request["to"]))
        try:
            outcomes = replica.past.restore_to(path, filesystem, at_ms=at_ms, dot=dot)
            async with aclosing(outcomes):
                done = await _tell(outcomes, console)
        finally:
            filesystem.close()
    else:
        await not_stopped(replica)
        outcomes = replica.past.restore(path, at_ms=at_ms, dot=dot, exact=bool(request.get("exact")))
        async with aclosing(outcomes):
            done = await _tell(outcomes, console)
    await console.say(done)
    if done["left"]:
        raise UserError(
            f"{done['left']} of {done['left'] + done['restored']} could not be restored; each is named above"
        )


def _open_target(directory: FilePath) -> LocalFilesystem:
    """The directory that old versions are written to, made if need be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return LocalFilesystem(directory)
    except FileExistsError:
        raise UserError(f"{directory} is no directory; choose another one with --to") from None
    except (OSError, FolderStopped) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{directory} cannot be written to ({reason}); choose another one with --to") from error


async def _tell(outcomes: AsyncGenerator[Outcome, None], console: Console) -> Json:
    """Say each outcome; returns the numbers."""
    restored = left = 0
    async for outcome in outcomes:
        restored, left = restored + (outcome.left is None), left + (outcome.left is not None)
        done = "left" if outcome.left else "deleted" if outcome.version is None else "restored"
        await console.say({"path": show(outcome.path), "outcome": done, "reason": outcome.left})
    return {"restored": restored, "left": left}


async def _dot(replica: Replica, text: str) -> Dot:
    try:
        feed, seq, index = text.split("-")
        start = bytes.fromhex(feed)
        feeds = [each for each in await replica.past.authors() if each.startswith(start)]
        numbers = int(seq), int(index)
    except ValueError:
        raise UsageError(f"{text!r} is no version id: p2psync history shows them") from None
    if len(feeds) != 1:
        raise UserError(f"no version is called {text!r}: p2psync history shows them")
    return Dot(feeds[0], *numbers)


async def _undo(peer: Peer, request: Json, console: Console) -> None:
    total = {"restored": 0, "left": 0}
    found = False
    for folder in await chosen_folders(peer, request.get("folders") or []):
        replica = _running(peer, folder)
        feeds = await _feeds(peer, replica, str(request["device"]))
        found = found or bool(feeds)
        if not feeds:
            continue
        await connected(peer, replica, request)
        await not_stopped(replica)
        outcomes = replica.past.undo(feeds, int(request["since_ms"]))
        async with aclosing(outcomes):
            done = await _tell(outcomes, console)
        total = {key: total[key] + done[key] for key in total}
    if not found:
        raise UserError(f"no device of these folders is called {request['device']!r}: p2psync device list shows them")
    await console.say(total)


async def _feeds(peer: Peer, replica: Replica, device: str) -> list[FeedId]:
    """The feeds of the device with this name, or whose id starts so."""
    own = peer.device.identity_key
    names = dict(peer.links.names) | {own: await peer.device_name()}
    authors = await replica.past.authors()
    start = device.upper()
    like = {i for i in authors.values() if len(start) >= 4 and device_id(i).startswith(start)}
    meant = like or {i for i in authors.values() if names.get(i) == device}
    if len(meant) > 1:
        raise UserError(f"{device!r} names {len(meant)} devices: use more of the id")
    return [feed for feed, identity in authors.items() if identity in meant]


async def _accept(peer: Peer, request: Json, console: Console) -> None:
    files = 0
    for folder in await chosen_folders(peer, request.get("folders") or []):
        for held in await _running(peer, folder).accept_held():
            files += held.files
    await console.say({"accepted": files})


async def _limits(peer: Peer, request: Json, console: Console) -> None:
    """Show what a folder's limits are, after setting those that are given."""
    for folder in await chosen_folders(peer, request.get("folders") or []):
        replica = _running(peer, folder)
        settings = await replica.past.settings()
        brake: BrakeLimits = settings.brake
        keep: KeepRules = settings.keep
        given = {key: request[key] for key in ("percent", "files", "seconds", "size") if request.get(key) is not None}
        brake = replace(brake, **{key: value for key, value in given.items() if key in ("percent", "files")})
        keep = replace(keep, **{key: value for key, value in given.items() if key in ("seconds", "size")})
        if given:
            await replica.past.set_settings(FolderSettings(brake, keep))
        await console.say(
            {
                "folder": folder.folder.hex(), "label": folder.label, "brake_percent": brake.percent,
                "brake_files": brake.files, "keep_seconds": keep.seconds, "keep_bytes": keep.size,
            }
        )  # fmt: skip


def _running(peer: Peer, folder: RegisteredFolder) -> Replica:
    return peer.running(folder.folder).replica


async def not_stopped(replica: Replica) -> None:
    status = await replica.status()
    if status.state == "error":
        raise UserError(f"the folder is stopped: {status.error}")


async def connected(peer: Peer, replica: Replica, request: Json) -> None:
    """A peer that was only started for this command waits a little for somebody to restore from."""
    if "stay" not in request:
        return
    for keeper in peer.keepers():
        keeper.hurry()
    peer.links.hurry()
    with trio.move_on_after(_CONNECT_SECONDS):
        while True:
            status = await replica.status()
            if status.stores or status.peers or status.state == "error" or not peer.keepers():
                return
            await trio.sleep(0.1)


HISTORY_COMMANDS: dict[str, Callable[[Peer, Json, Console], Awaitable[None]]] = {
    "history": _history,
    "restore": _restore,
    "undo": _undo,
    "accept": _accept,
    "limits": _limits,
}
