"""Sharing: make a directory a folder, and give it a namespace at a relay if there is one.

Without a relay a folder has no store, and its devices meet directly. Owns the order: the relay must answer before
anything is made, so that a mistyped URL leaves no trace; every later step may be repeated by sharing the same directory
again. Pairing comes after and is not its concern.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from p2psync.errors import AccessRefused, UserError
from p2psync.ids import FolderId
from p2psync.index.membership import Role
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.node.finding import REACH_SECONDS
from p2psync.node.joining import check_free
from p2psync.node.peer import Peer
from p2psync.node.registry import RELAY, RegisteredFolder
from p2psync.node.running import RunningFolder
from p2psync.pairing.offers import LABEL_BYTES_MAX, StoreLocation
from p2psync.planner.shaping import FolderType
from p2psync.replica.founding import create_folder
from p2psync.session.relay_link import RelayLink

NO_RELAY = "none"
"""What `--relay` says to leave a remembered one out."""

AskInvite = Callable[[RelayUrl], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Shared:
    folder: RegisteredFolder
    relay: RelayUrl | None


async def choose_relay(peer: Peer, given: str | None) -> RelayUrl | None:
    """The relay the user named, else the remembered one; None when there is neither, or the user wants none."""
    text = given or await peer.surroundings.workers.run(peer.registry.setting, RELAY)
    return None if text in (None, NO_RELAY) else parse_relay_url(text)


async def remember_relay(peer: Peer, url: RelayUrl) -> None:
    await peer.surroundings.workers.run(peer.registry.set_setting, RELAY, str(url))


async def share_folder(
    peer: Peer, path: Path, label: str | None, relay: RelayUrl | None, *, invite: str | None, ask_invite: AskInvite,
    type: FolderType | None = None,
) -> Shared:  # fmt: skip
    """Make `path` a folder with a store at `relay`, or find it made. UserError, NobodyReachable, AccessRefused.

    Without a relay it is given no store; one it has stays. `type` None: an ordinary folder, or the type it has.
    """
    held = {folder.path: folder for folder in await peer.registered()}.get(path)
    if held is None:
        # Before anything is made: a directory that cannot be shared, or a relay that is not there, leaves no trace.
        await peer.surroundings.workers.run(_check_directory, path)
        check_free(path, await peer.registered())
    else:
        await peer.start_folder(held)
    name = label or path.name or "folder"
    if relay is None:
        return Shared(await _made(peer, held, path, name, type), None)
    link = await peer.keeper(relay).link_within(REACH_SECONDS)
    registered = await _made(peer, held, path, name, type)
    folder = peer.running(registered.folder)
    if not any(store.relay_key == link.relay_key for store in folder.stores):
        await _add_store(peer, folder, link, relay, invite, ask_invite)
    await remember_relay(peer, relay)
    return Shared(registered, relay)


async def _made(
    peer: Peer, held: RegisteredFolder | None, path: Path, label: str, folder_type: FolderType | None
) -> RegisteredFolder:
    if held is None:
        return await _create(peer, path, label, folder_type or FolderType.SENDRECEIVE)
    if folder_type is not None:
        await peer.running(held.folder).replica.reshaping.change_type(folder_type)
    return held


async def _create(peer: Peer, path: Path, label: str, folder_type: FolderType) -> RegisteredFolder:
    if len(label.encode()) > LABEL_BYTES_MAX or "/" in label:
        raise UserError("a label is a short name without slashes; choose another with --label")
    catalog = peer.surroundings.randomness.bytes(16).hex()

    def make() -> RegisteredFolder:
        outside = peer.surroundings
        folder: FolderId = create_folder(
            root=path,
            catalog_path=peer.home.catalog(catalog),
            keystore=peer.keystore,
            device=peer.device,
            randomness=outside.randomness,
            clock=outside.clock,
            folder_type=folder_type,
        )
        registered = RegisteredFolder(folder, label, path, Role.ADMIN, catalog)
        peer.registry.add_folder(registered)
        return registered

    registered = await peer.surroundings.workers.run(make)
    await peer.start_folder(registered)
    return registered


async def _add_store(
    peer: Peer, folder: RunningFolder, link: RelayLink, relay: RelayUrl, invite: str | None, ask_invite: AskInvite
) -> None:
    owner = peer.device.access_key(link.relay_key, folder.folder)
    try:
        namespace = await link.create_namespace(owner, invite)
    except AccessRefused:
        asked = await ask_invite(relay)
        if not asked:
            raise
        namespace = await link.create_namespace(owner, asked)
    location = StoreLocation(str(relay), link.relay_key, namespace)
    await peer.surroundings.workers.run(peer.registry.add_store, folder.folder, location)
    folder.add_store(location)


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; make it first, or check the spelling")
