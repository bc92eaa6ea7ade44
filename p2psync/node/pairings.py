"""Pairings of a running peer: start one as admin or joiner, and go on with those a restart interrupted.

Owns the wiring between `pairing`'s driver, the hosts of both sides, and the peer's folders and relays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2psync.errors import LinkLost, P2psyncError, UserError
from p2psync.ids import FolderId
from p2psync.index.membership import Role
from p2psync.limits import MAILBOX_SECONDS
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.node.admitting import ADMITTED, OFFERED, Admitting, Confirm
from p2psync.node.joining import Joining, Target, clear_half_adopted, target_of
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder, SavedPairing
from p2psync.pairing import driver
from p2psync.pairing.dialogue import Welcomed, decode_admitted, decode_asking, decode_offered
from p2psync.pairing.mail import Mailboxes
from p2psync.pairing.offers import Request
from p2psync.pairing.words import Code, make_words
from p2psync.replica.founding import adopt_folder
from p2psync.wire.messages import Side

REACH_SECONDS = 20.0
"""How long the relay may take to answer before a command says that it cannot be reached."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A code that can be redeemed now."""

    code: Code
    expires_at: float
    folders: tuple[FolderId, ...]
    relay: RelayUrl
    agreed: bool


async def make_code(peer: Peer, folders: tuple[FolderId, ...], relay: RelayUrl, *, agreed: bool, role: Role) -> Waiting:
    """Claim a nameplate at the relay and make a code for these folders, of all of which this device must be admin."""
    for folder in folders:
        running = peer.running(folder)
        if running.replica.role() is not Role.ADMIN:
            raise UserError(f"only an admin can pair, and this device is none in {running.registered.label!r}")
        if not running.stores:
            raise UserError(f"folder {running.registered.label!r} has no store yet; share it with --relay first")
    expires_at = peer.surroundings.clock.now() + MAILBOX_SECONDS
    for _ in range(3):
        link = await peer.keeper(relay).link_within(REACH_SECONDS)
        try:
            nameplate = await link.claim_mailbox()
        except LinkLost:
            continue
        return Waiting(Code(nameplate, make_words(peer.surroundings.randomness)), expires_at, folders, relay, agreed)
    raise UserError(f"the link to the relay {relay.place} is lost again and again; try again later")


async def wait_for_joiner(peer: Peer, waiting: Waiting, role: Role, confirm: Confirm) -> Request:
    """Carry one pairing through as admin, from the code on the screen to the newcomer's acknowledgement."""
    offered = tuple(peer.running(folder).offer(role) for folder in waiting.folders)
    saved = SavedPairing(
        str(waiting.relay), waiting.code.nameplate, Side.ADMIN, OFFERED, b"", Path("/"), waiting.expires_at, waiting.agreed
    )  # fmt: skip
    host = _admitting(peer, saved, waiting.folders, confirm)
    try:
        return await driver.offer(_pairing(peer, waiting.relay, waiting.expires_at), waiting.code, offered, host)
    except P2psyncError:
        await host.forget()
        raise


async def redeem_code(peer: Peer, code: Code, relay: RelayUrl, target: Target) -> list[RegisteredFolder]:
    """Carry one pairing through as newcomer; returns the folders once they are adopted and running."""
    await peer.keeper(relay).link_within(REACH_SECONDS)
    expires_at = peer.surroundings.clock.now() + MAILBOX_SECONDS
    host = await _joining(peer, str(relay), code.nameplate, expires_at, target)
    try:
        welcomed = await driver.redeem(_pairing(peer, relay, expires_at), code, host)
    except P2psyncError:
        await host.forget()
        raise
    return await _joined(peer, welcomed)


async def resume_pairings(peer: Peer) -> None:
    """Go on with what a restart interrupted; each in its own task. A pairing that ends badly leaves nothing."""
    saved = await peer.surroundings.workers.run(peer.registry.pairings, peer.surroundings.clock.now())
    for pairing in saved:
        peer.tasks.start_soon(_resume, peer, pairing)


async def _resume(peer: Peer, saved: SavedPairing) -> None:
    relay = parse_relay_url(saved.relay)
    pairing = _pairing(peer, relay, saved.expires_at)
    try:
        if saved.side is Side.JOINER:
            joining = await _joining(peer, saved.relay, saved.nameplate, saved.expires_at, target_of(saved))
            await driver.resume_redeem(pairing, decode_asking(saved.state), joining)
        elif saved.step == ADMITTED:
            await driver.resume_offer(pairing, decode_admitted(saved.state), _admitting(peer, saved, (), _decline))
        else:
            offered = decode_offered(saved.state)
            folders = tuple(folder.folder for folder in offered.folders)
            await driver.resume_offer(pairing, offered, _admitting(peer, saved, folders, _decline))
    except P2psyncError:
        await peer.surroundings.workers.run(peer.registry.forget_pairing, saved.relay, saved.nameplate, saved.side)


async def _decline(request: Request) -> bool:
    """Nobody sits at a restarted peer to be asked: only what was agreed in advance goes on."""
    return False


def _pairing(peer: Peer, relay: RelayUrl, expires_at: float) -> driver.Pairing:
    async def links() -> Mailboxes:
        return await peer.keeper(relay).link()

    outside = peer.surroundings
    return driver.Pairing(links, clock=outside.clock, randomness=outside.randomness, expires_at=expires_at)


def _admitting(peer: Peer, saved: SavedPairing, folders: tuple[FolderId, ...], confirm: Confirm) -> Admitting:
    outside = peer.surroundings
    return Admitting(peer, peer.registry, outside.randomness, outside.workers, saved, folders, confirm)


async def _joining(peer: Peer, relay: str, nameplate: int, expires_at: float, target: Target) -> Joining:
    async def adopt(welcomed: Welcomed, number: int, place: Path) -> None:
        await _adopt(peer, welcomed, number, place)

    return Joining(
        device=peer.device, device_name=await peer.device_name(), registry=peer.registry,
        workers=peer.surroundings.workers, relay=relay, nameplate=nameplate, expires_at=expires_at, target=target,
        adopt=adopt,
    )  # fmt: skip


async def _adopt(peer: Peer, welcomed: Welcomed, number: int, place: Path) -> None:
    """Make one admitted folder a folder of this device, and run it."""
    offered, outside = welcomed.asking.folders[number], peer.surroundings
    catalog = offered.folder.hex()

    def make() -> RegisteredFolder:
        held = [item for item in peer.registry.folders() if item.folder == offered.folder]
        if held:
            return held[0]
        if not clear_half_adopted(peer.home.catalog(catalog), place, offered.folder):
            adopt_folder(
                root=place,
                catalog_path=peer.home.catalog(catalog),
                keystore=peer.keystore,
                device=peer.device,
                genesis=offered.genesis,
                secrets=welcomed.secrets[number],
                required=welcomed.heads[number],
                randomness=outside.randomness,
                clock=outside.clock,
            )
        registered = RegisteredFolder(offered.folder, offered.label, place, offered.role, catalog)
        peer.registry.add_folder(registered, offered.stores)
        return registered

    await peer.start_folder(await peer.surroundings.workers.run(make))


async def _joined(peer: Peer, welcomed: Welcomed) -> list[RegisteredFolder]:
    ids = {folder.folder for folder in welcomed.asking.folders}
    return [folder for folder in await peer.registered() if folder.folder in ids]
