"""What a peer knows of itself, as the JSON of `p2psync status --json` (architecture, "Command line").

Only builds values; showing them to people is the command line's matter.
"""

from __future__ import annotations

from typing import Any

from p2psync.node.peer import Peer
from p2psync.node.reached import describe_peer
from p2psync.node.registry import RegisteredFolder
from p2psync.node.running import RunningFolder
from p2psync.replica.attendance import Silence
from p2psync.replica.reshaping import ShapeFigures
from p2psync.vault.device_keys import device_id


async def build_status(peer: Peer) -> dict[str, Any]:
    folders = [await describe_folder(peer, registered) for registered in await peer.registered()]
    relays = [
        {"url": str(keeper.url), "connected": keeper.connected, "error": keeper.error} for keeper in peer.keepers()
    ]
    return await peer.called(peer.device.identity_key) | {
        "folders": folders, "relays": relays, "listening": [str(address) for address in peer.links.listening],
        "port_mapping": _port_mapping(peer),
    }  # fmt: skip


def _port_mapping(peer: Peer) -> dict[str, Any] | None:
    """The port a router passes on to this device, or why there is none; None where it is not asked for."""
    mapping = peer.port_mapping
    if mapping.outside is None and mapping.error is None:
        return None
    return {"address": None if mapping.outside is None else str(mapping.outside), "error": mapping.error}


async def describe_folder(peer: Peer, registered: RegisteredFolder) -> dict[str, Any]:
    """One folder's part of the status."""
    head: dict[str, Any] = {
        "id": registered.folder.hex(),
        "label": registered.label,
        "path": str(registered.path),
        "role": registered.role.name.lower(),
    }
    folder = peer.folders.get(registered.folder)
    if folder is None:
        return head | _not_running(peer.stopped.get(registered.folder))
    return head | await _running(peer, folder)


def _not_running(error: str | None) -> dict[str, Any]:
    """A folder that could not be opened, or, without an error, is being opened now."""
    return {
        "state": "scanning" if error is None else "error",
        "local_bytes": 0, "global_bytes": 0, "need_bytes": 0, "need_files": 0, "upload_bytes": 0,
        "conflicts": 0, "error": error, "problems": [], "held": [], "peers": [], "stores": [],
        **_shape(ShapeFigures()), "type": None, "xattrs": None,
    }  # fmt: skip


async def _running(peer: Peer, folder: RunningFolder) -> dict[str, Any]:
    status = await folder.replica.status()
    stores = _stores(folder, status.stores)
    reached = any(store["connected"] for store in stores) and "store" in folder.replica.links
    own = folder.device.identity_key
    peers = [
        await peer.called(member.credentials.identity)
        | describe_peer(folder, member, status.peers, stores=reached)
        | _silence(status.silences.get(member.credentials.identity, Silence()))
        for member in folder.replica.members()
        if member.credentials.identity != own
    ]
    return {
        "state": status.state,
        "local_bytes": status.local_bytes,
        "global_bytes": status.global_bytes,
        "need_bytes": status.need_bytes,
        "need_files": status.need_files,
        "upload_bytes": status.upload_bytes,
        "conflicts": status.conflicts,
        "error": status.error,
        "problems": [{"path": path, "reason": reason} for path, reason in status.problems],
        "held": [
            {
                "device": None if identity is None else device_id(identity),
                "files": held.files,
                "since": held.held_ms // 1000,
            }
            for identity, held in status.held
        ],
        "peers": peers,
        "stores": stores,
        **_shape(status.shape),
    }


def _silence(silence: Silence) -> dict[str, Any]:
    return {"heard": None if silence.heard is None else int(silence.heard), "lapsed": silence.lapsed}


def _shape(figures: ShapeFigures) -> dict[str, Any]:
    return {
        "type": figures.type.value, "differing": figures.differing, "local_changes": figures.local_changes,
        "kept": figures.kept, "ignore_patterns": figures.ignore_patterns, "xattrs": figures.xattrs,
    }  # fmt: skip


def _stores(folder: RunningFolder, known: dict[str, bool]) -> list[dict[str, Any]]:
    stores = []
    for store in folder.stores:
        keeper = folder.keeper(store)
        attachment = keeper.attachment(folder.folder)
        refused = None if attachment is None else attachment.error
        stores.append(
            {
                "url": store.url,
                "connected": keeper.connected and attachment is not None and attachment.active,
                "error": keeper.error or refused,
                "in_sync": known.get(store.url, False),
            }
        )
    return stores
