"""`explain`: which version of a path is where, what is missing, from whom, and why it is not here.

Puts what the replica knows of the path beside how its members and stores are reached, and says it in one sentence.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from p2psync.index.paths import show
from p2psync.index.versions import Kind
from p2psync.node.choosing import folder_of_path
from p2psync.node.control import Console, Json
from p2psync.node.history import version_id
from p2psync.node.peer import Peer
from p2psync.node.status import describe_folder
from p2psync.replica.explaining import Disk, Explained, KnownVersion
from p2psync.vault.device_keys import device_id


async def explain_path(peer: Peer, request: Json, console: Console) -> None:
    """The command: one JSON object. UserError when the path is in no folder of this device."""
    registered, path = await folder_of_path(peer, str(request["path"]))
    folder = peer.running(registered.folder)
    explained = await folder.replica.explain(path)
    status = await describe_folder(peer, registered)
    newest = explained.versions[0] if explained.versions else None
    devices = [_device(each, newest) for each in status["peers"]]
    stores = [
        {key: each[key] for key in ("url", "connected", "error")}
        | {"knows": newest is not None and each["url"] in newest.known_to}
        for each in status["stores"]
    ]
    verdict, sentence = judge(explained, status, devices)
    await console.say({
        "path": show(path), "label": registered.label, "folder": registered.folder.hex(), "verdict": verdict,
        "sentence": sentence, "disk": explained.disk.value,
        "versions": [_version(each, explained) | await peer.called(each.author) for each in explained.versions],
        "missing_chunks": explained.lacking.chunks, "missing_bytes": explained.lacking.bytes,
        "missing_in_stores": explained.lacking.in_stores, "chunks": explained.lacking.of_chunks,
        "upload_bytes": explained.upload_bytes, "devices": devices, "stores": stores,
        "problems": list(explained.reasons),
    })  # fmt: skip


def _version(each: KnownVersion, explained: Explained) -> Json:
    moment = datetime.fromtimestamp(each.mtime_ns / 1e9, UTC)
    return {
        "version": version_id(each.dot), "kind": each.kind.name.lower(), "size": each.size,
        "modified": moment.isoformat(timespec="milliseconds"),
        "stands_at": None if each.stands_at is None else show(each.stands_at),
        "here": each.dot == explained.held and not explained.needed,
        "known_by": sorted(device_id(identity) for identity in each.aware),
    }  # fmt: skip


def _device(member: Json, newest: KnownVersion | None) -> Json:
    """`knows`: whether the device has shown that it knows of the newest version; None when it has said nothing yet."""
    aware = newest is not None and member["device"] in {device_id(identity) for identity in newest.aware}
    linked = newest is not None and member["device"] in newest.known_to
    return {key: member[key] for key in ("device", "name", "reached", "reason")} | {"knows": aware or linked}


def judge(explained: Explained, status: dict[str, Any], devices: list[Json]) -> tuple[str, str]:
    """(one word or two, one sentence) for people. `devices` as `explain_path` says them."""
    if status["state"] == "error":
        return "stopped", f"the folder is stopped: {status['error']}"
    if explained.disk is Disk.FOREIGN:
        return "not synced", explained.reasons[-1] if explained.reasons else "p2psync keeps such names for itself"
    if explained.reasons:
        return "problem", explained.reasons[-1]
    if explained.disk is Disk.UNREADABLE:
        return "problem", "it cannot be read here now"
    if not explained.path:
        return "in sync", "this is the folder's root; p2psync status tells of all that is in it"
    if not explained.versions:
        if explained.disk is Disk.NOTHING:
            return "unknown", "nothing is there, and nobody has told this device of anything there"
        return "changed here", "it is new here and will be published with the next scan, within seconds"
    if explained.needed:
        return _judge_needed(explained, status, devices)
    return _judge_settled(explained, status)


def _judge_needed(explained: Explained, status: dict[str, Any], devices: list[Json]) -> tuple[str, str]:
    lacking = explained.lacking
    if status["state"] == "held":
        return "held", "it is part of a mass change that the brake holds: p2psync folder accept, or p2psync undo"
    if explained.deleted:
        return "waiting", "another device deleted it; that is about to happen here"
    if not (lacking.chunks or lacking.list_missing):
        return "waiting", "all its content is on this disk; it is about to be put into its place"
    sources = _sources(explained, status, devices)
    part = "the list of its parts" if lacking.list_missing else f"{lacking.chunks} of {lacking.of_chunks} chunks"
    if lacking.troubles:
        return "waiting", f"{part} are missing: {lacking.troubles[0]}"
    if sources:
        return "waiting", f"{part} still come, from {', '.join(sources)}"
    return "waiting", f"{part} are missing and nobody who has them is reached: {_why(explained, status, devices)}"


def _sources(explained: Explained, status: dict[str, Any], devices: list[Json]) -> list[str]:
    linked = [
        each["name"] or each["device"][:7] for each in devices
        if each["knows"] and each["reached"] in ("lan", "direct", "spliced")
    ]  # fmt: skip
    if explained.lacking.in_stores or explained.lacking.list_missing:
        linked += ["the store " + each["url"].split("#")[0] for each in status["stores"] if each["connected"]]
    return linked


def _why(explained: Explained, status: dict[str, Any], devices: list[Json]) -> str:
    """Who should have it, and why it cannot be asked."""
    for each in devices:
        if each["knows"] and each["reason"]:
            return f"{each['name'] or each['device'][:7]}: {each['reason']}"
    for store in status["stores"]:
        if explained.lacking.in_stores and store["error"]:
            return f"{store['url'].split('#')[0]}: {store['error']}"
    if status["stores"] and not explained.lacking.in_stores:
        return "its author has not uploaded it yet"
    return "switch on a device that has it"


def _judge_settled(explained: Explained, status: dict[str, Any]) -> tuple[str, str]:
    if explained.disk is Disk.CHANGED:
        return "changed here", "it was changed here since the last look and will be published within seconds"
    if explained.disk is Disk.NOTHING and not explained.deleted:
        return "changed here", "it is gone from this disk since the last look; that will be published within seconds"
    if explained.deleted:
        return "deleted", "it was deleted, and this disk agrees; p2psync history lists what stood here"
    live = [each for each in explained.versions if each.kind is not Kind.DELETED and each.stands_at != explained.path]
    copies = [show(each.stands_at) for each in live if each.stands_at is not None]
    if copies:
        return "conflict", f"this disk holds the version that won; the other stands beside it as {copies[0]}"
    if explained.upload_bytes and status["stores"]:
        return "uploading", "the newest version is on this disk; its content is still on its way to the store"
    return "in sync", "the newest version is on this disk"
