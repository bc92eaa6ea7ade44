"""Pairings of a running peer: start one as admin or joiner, and go on with those a restart interrupted.

Owns the wiring between `pairing`'s driver, the hosts of both sides, and the peer's folders, relays and LAN.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from p2psync.errors import LinkLost, P2psyncError, UserError
from p2psync.ids import FolderId
from p2psync.index.membership import Role
from p2psync.limits import MAILBOX_SECONDS
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.node.admitting import ADMITTED, OFFERED, Admitting, Confirm
from p2psync.node.finding import REACH_SECONDS, find_mailbox
from p2psync.node.joining import Joining, Target, clear_half_adopted, target_of
from p2psync.node.lan_mailbox import LAN_CODES_OFF, LanMailbox
from p2psync.node.lan_search import LAN, Found, found_at, lan_place
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder, SavedPairing
from p2psync.pairing import driver
from p2psync.pairing.calls import LAN_NUMBERS
from p2psync.pairing.dialogue import Welcomed, decode_admitted, decode_asking, decode_offered
from p2psync.pairing.mail import Mailboxes, Place
from p2psync.pairing.offers import Request
from p2psync.pairing.words import Code, make_words
from p2psync.planner.shaping import FolderType
from p2psync.replica.founding import adopt_folder
from p2psync.wire.messages import Side

NUMBER_TRIES = 3
"""Numbers tried until one is not shown on the LAN already."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A code that can be redeemed now: at `relay`, on the LAN, or at both."""

    code: Code
    expires_at: float
    folders: tuple[FolderId, ...]
    relay: RelayUrl | None
    lan: LanMailbox | None
    agreed: bool


async def make_code(
    peer: Peer, folders: tuple[FolderId, ...], relay: RelayUrl | None, *, agreed: bool, role: Role
) -> Waiting:
    """A code for these folders, of all of which this device must be admin; its number comes from the relay, if any."""
    for folder in folders:
        running = peer.running(folder)
        if running.replica.role() is not Role.ADMIN:
            raise UserError(f"only an admin can pair, and this device is none in {running.registered.label!r}")
    if relay is None and not peer.codes.kept:
        raise UserError(LAN_CODES_OFF)
    expires_at = peer.surroundings.clock.now() + MAILBOX_SECONDS
    nameplate = await _free_number(peer, relay)
    lan = await peer.codes.open(nameplate) if peer.codes.kept else None
    code = Code(nameplate, make_words(peer.surroundings.randomness))
    return Waiting(code, expires_at, folders, relay, lan, agreed)


async def _free_number(peer: Peer, relay: RelayUrl | None) -> int:
    """A number that nobody on this LAN shows, so that joiners there cannot take one device for another."""
    taken: list[int] = []
    try:
        for _ in range(NUMBER_TRIES):
            number = _random_number(peer) if relay is None else await _claim(peer, relay)
            if not (peer.codes.kept and await peer.codes.taken(number)):
                return number
            taken.append(number)
    finally:
        # Freed only now: a relay gives out the smallest free number, which would be the same one again.
        for number in taken:
            if relay is not None:
                await (await peer.keeper(relay).link_within(REACH_SECONDS)).close_mailbox(number)
    raise UserError("other devices on this LAN show codes with the same numbers; try again later")


def _random_number(peer: Peer) -> int:
    return LAN_NUMBERS[int.from_bytes(peer.surroundings.randomness.bytes(8), "big") % len(LAN_NUMBERS)]


async def _claim(peer: Peer, relay: RelayUrl) -> int:
    for _ in range(3):
        link = await peer.keeper(relay).link_within(REACH_SECONDS)
        try:
            return await link.claim_mailbox()
        except LinkLost:
            continue
    raise UserError(f"the link to the relay {relay.place} is lost again and again; try again later")


async def wait_for_joiner(peer: Peer, waiting: Waiting, role: Role, confirm: Confirm) -> Request:
    """Carry one pairing through as admin, from the code on the screen to the newcomer's acknowledgement."""
    offered = tuple(peer.running(folder).offer(role) for folder in waiting.folders)
    places = [] if waiting.relay is None else [_relay_place(peer, waiting.relay)]
    if waiting.lan is not None:
        places.append(Place(LAN, waiting.lan.links))
    saved = SavedPairing(
        places[0].name, waiting.code.nameplate, Side.ADMIN, OFFERED, b"", Path("/"), waiting.expires_at, waiting.agreed
    )  # fmt: skip
    host = _admitting(peer, saved, waiting.folders, confirm)
    try:
        return await driver.offer(_pairing(peer, waiting.expires_at, *places), waiting.code, offered, host)
    except P2psyncError:
        await host.forget()
        raise
    finally:
        if waiting.lan is not None:
            await waiting.lan.finish()


async def redeem_code(
    peer: Peer, code: Code, relay: RelayUrl | None, target: Target, *, named: bool = True
) -> list[RegisteredFolder]:
    """Carry one pairing through as newcomer; returns the folders once they are adopted and running.

    `named`: the user said which relay, which then counts for more than who answers on the LAN.
    """
    found = await find_mailbox(peer, code.nameplate, relay, named=named)
    expires_at = peer.surroundings.clock.now() + MAILBOX_SECONDS
    async with _place(peer, code.nameplate, found) as place:
        host = await _joining(peer, place.name, code.nameplate, expires_at, target)
        try:
            welcomed = await driver.redeem(_pairing(peer, expires_at, place), code, host)
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
    try:
        if saved.side is Side.JOINER:
            found = found_at(saved.place) or parse_relay_url(saved.place)
            async with _place(peer, saved.nameplate, found) as place:
                joining = await _joining(peer, saved.place, saved.nameplate, saved.expires_at, target_of(saved))
                pairing = _pairing(peer, saved.expires_at, place)
                await driver.resume_redeem(pairing, decode_asking(saved.state), joining)
        else:
            await _resume_offer(peer, saved)
    except P2psyncError:
        await peer.surroundings.workers.run(peer.registry.forget_pairing, saved.place, saved.nameplate, saved.side)


async def _resume_offer(peer: Peer, saved: SavedPairing) -> None:
    lan = await peer.codes.open(saved.nameplate) if saved.place == LAN else None
    place = _relay_place(peer, parse_relay_url(saved.place)) if lan is None else Place(LAN, lan.links)
    pairing = _pairing(peer, saved.expires_at, place)
    try:
        if saved.step == ADMITTED:
            await driver.resume_offer(pairing, decode_admitted(saved.state), _admitting(peer, saved, (), _decline))
        else:
            offered = decode_offered(saved.state)
            folders = tuple(folder.folder for folder in offered.folders)
            await driver.resume_offer(pairing, offered, _admitting(peer, saved, folders, _decline))
    finally:
        if lan is not None:
            await lan.finish()


async def _decline(request: Request) -> bool:
    """Nobody sits at a restarted peer to be asked: only what was agreed in advance goes on."""
    return False


def _pairing(peer: Peer, expires_at: float, *places: Place) -> driver.Pairing:
    outside = peer.surroundings
    return driver.Pairing(*places, clock=outside.clock, randomness=outside.randomness, expires_at=expires_at)


def _relay_place(peer: Peer, relay: RelayUrl) -> Place:
    async def links() -> Mailboxes:
        return await peer.keeper(relay).link()

    return Place(str(relay), links)


@asynccontextmanager
async def _place(peer: Peer, nameplate: int, found: RelayUrl | Found) -> AsyncIterator[Place]:
    """The joiner's way to the mailbox it found."""
    if isinstance(found, Found):
        async with lan_place(peer.surroundings, nameplate, found) as place:
            yield place
    else:
        yield _relay_place(peer, found)


def _admitting(peer: Peer, saved: SavedPairing, folders: tuple[FolderId, ...], confirm: Confirm) -> Admitting:
    outside = peer.surroundings
    return Admitting(peer.device, peer, peer.registry, outside.randomness, outside.workers, saved, folders, confirm)


async def _joining(peer: Peer, place: str, nameplate: int, expires_at: float, target: Target) -> Joining:
    async def adopt(welcomed: Welcomed, number: int, directory: Path) -> None:
        await _adopt(peer, welcomed, number, directory, target.type)

    return Joining(
        device=peer.device, device_name=await peer.device_name(), registry=peer.registry,
        workers=peer.surroundings.workers, place=place, nameplate=nameplate, expires_at=expires_at, target=target,
        adopt=adopt,
    )  # fmt: skip


async def _adopt(peer: Peer, welcomed: Welcomed, number: int, place: Path, folder_type: FolderType) -> None:
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
                introducer=welcomed.admin,
                randomness=outside.randomness,
                clock=outside.clock,
                folder_type=folder_type,
            )
        registered = RegisteredFolder(offered.folder, offered.label, place, offered.role, catalog)
        peer.registry.add_folder(registered, offered.stores)
        return registered

    await peer.start_folder(await peer.surroundings.workers.run(make))


async def _joined(peer: Peer, welcomed: Welcomed) -> list[RegisteredFolder]:
    ids = {folder.folder for folder in welcomed.asking.folders}
    return [folder for folder in await peer.registered() if folder.folder in ids]
