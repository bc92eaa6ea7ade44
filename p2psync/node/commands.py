"""What a running peer does on a command: status, share, pair, join, sync, rescan, stop.

A command is a request (a JSON object with `command`) and a console: what it says are JSON objects, what it asks is
answered with text or None. The same code serves the process that runs the peer and others through the control socket.
Errors are p2psync.errors; whoever reads the request shows them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from p2psync.errors import NobodyReachable, P2psyncError, TimedOut, UsageError, UserError
from p2psync.index.membership import Role
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.node.choosing import chosen_folders
from p2psync.node.conflicts import CONFLICT_COMMANDS
from p2psync.node.control import Console, Json
from p2psync.node.doctor import examine
from p2psync.node.explaining import explain_path
from p2psync.node.history import HISTORY_COMMANDS
from p2psync.node.joining import Target
from p2psync.node.known_devices import device_address
from p2psync.node.lan_mailbox import LAN_CODES_OFF
from p2psync.node.pairings import Waiting, make_code, redeem_code, wait_for_joiner
from p2psync.node.peer import Peer
from p2psync.node.registry import RegisteredFolder
from p2psync.node.scrubbing import SCRUB_COMMANDS
from p2psync.node.shaping import SHAPE_COMMANDS
from p2psync.node.sharing import choose_relay, remember_relay, share_folder
from p2psync.node.status import build_status
from p2psync.pairing.offers import NAME_BYTES_MAX, Request
from p2psync.pairing.words import parse_code
from p2psync.planner.shaping import DEFAULT_TYPE, parse_type
from p2psync.vault.device_keys import device_id

PATIENCE_SECONDS = 30.0
"""`sync` gives up on unreachable relays after this long, unless its own timeout is shorter."""

STOPPED_SECONDS = 2.0
"""How often `sync` looks whether a folder has stopped, which would keep it waiting for ever."""


async def perform(peer: Peer, request: Json, console: Console) -> None:
    command = _COMMANDS.get(str(request.get("command")))
    if command is None:
        raise UsageError(f"the running peer does not know the command {request.get('command')!r}; restart it")
    await command(peer, request, console)


async def _status(peer: Peer, request: Json, console: Console) -> None:
    await console.say(await build_status(peer))


async def _share(peer: Peer, request: Json, console: Console) -> None:
    relay = await choose_relay(peer, request.get("relay"))
    if relay is None and request.get("code", True) and not peer.codes.kept:
        raise UserError(LAN_CODES_OFF)  # before a folder is made that could not be paired

    async def ask_invite(url: RelayUrl) -> str | None:
        return await console.ask({"ask": "invite", "relay": str(url)})

    shared = await share_folder(
        peer, Path(request["path"]), request.get("label"), relay, invite=request.get("invite"), ask_invite=ask_invite,
        type=parse_type(request["type"]) if request.get("type") else None,
    )  # fmt: skip
    stores = peer.running(shared.folder.folder).stores
    relay = relay or (parse_relay_url(stores[0].url) if stores else None)
    head = _describe(shared.folder) | {"relay": _url(relay)}
    if not request.get("code", True):
        await console.say(head)
        return
    role = _role(request)
    waiting = await make_code(peer, (shared.folder.folder,), relay, agreed=bool(request.get("yes")), role=role)
    await console.say(head | _code(waiting))
    try:
        await _redeemed(peer, waiting, role, console)
    except TimedOut as expired:
        if not request.get("stay"):
            raise
        # The folder is shared all the same; `p2psync pair` gives another code.
        await console.say({"expired": True, "reason": str(expired)})


async def _pair(peer: Peer, request: Json, console: Console) -> None:
    folders = await chosen_folders(peer, request.get("folders") or [])
    role = _role(request)
    ids = tuple(folder.folder for folder in folders)
    stores = [store for folder in ids for store in peer.running(folder).stores]
    # Without a store a newcomer from elsewhere could never meet this device: such a code works on the LAN alone.
    relay = parse_relay_url(stores[0].url) if stores else None
    waiting = await make_code(peer, ids, relay, agreed=bool(request.get("yes")), role=role)
    await console.say(_code(waiting) | {"relay": _url(relay), "folders": [_describe(folder) for folder in folders]})
    if request.get("wait", True):
        await _redeemed(peer, waiting, role, console)
    else:
        peer.tasks.start_soon(_redeem_unseen, peer, waiting, role)


async def _redeem_unseen(peer: Peer, waiting: Waiting, role: Role) -> None:
    async def decline(request: Request) -> bool:
        return False

    try:
        await wait_for_joiner(peer, waiting, role, decline)
    except P2psyncError:
        return  # nobody waits for the outcome; the other side was told


async def _redeemed(peer: Peer, waiting: Waiting, role: Role, console: Console) -> None:
    async def confirm(request: Request) -> bool:
        device = device_id(request.newcomers[0].credentials.identity)
        question = {"ask": "admit", "device": device, "name": request.device_name, "role": role.name.lower()}
        return await console.ask(question) == "yes"

    request = await wait_for_joiner(peer, waiting, role, confirm)
    device = device_id(request.newcomers[0].credentials.identity)
    await console.say({"paired": True, "device": device, "name": request.device_name, "role": role.name.lower()})


async def _join(peer: Peer, request: Json, console: Console) -> None:
    code = parse_code(request["code"])
    relay = await choose_relay(peer, request.get("relay"))
    target = Target(Path(request["path"]), bool(request.get("exact")), parse_type(request.get("type") or DEFAULT_TYPE))
    folders = await redeem_code(peer, code, relay, target, named=bool(request.get("relay")))
    if relay is not None:
        await remember_relay(peer, relay)
    for folder in folders:
        await console.say(_describe(folder))


async def _sync(peer: Peer, request: Json, console: Console) -> None:
    """Wait until every folder is in sync with whoever is reachable. TimedOut, NobodyReachable, UserError."""
    folders = await chosen_folders(peer, [])
    seconds = request.get("timeout")
    peer.hurry()
    with trio.move_on_after(float("inf") if seconds is None else float(seconds)) as limit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_give_up_alone, peer)
            async with trio.open_nursery() as waiting:
                for folder in folders:
                    waiting.start_soon(_one_in_sync, peer, folder)
            nursery.cancel_scope.cancel()
    if limit.cancelled_caught:
        raise TimedOut(f"not everything was in sync within {seconds:g} s; p2psync status shows what is missing")
    await console.say(await build_status(peer))


async def _one_in_sync(peer: Peer, registered: RegisteredFolder) -> None:
    replica = peer.running(registered.folder).replica
    await replica.rescan()

    async def stop_on_error() -> None:
        while True:
            status = await replica.status()
            if status.state == "error":
                raise UserError(f"folder {registered.label!r} is stopped: {status.error}")
            await trio.sleep(STOPPED_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_on_error)
        await replica.in_sync()
        nursery.cancel_scope.cancel()


async def _give_up_alone(peer: Peer) -> None:
    """NobodyReachable once neither a relay nor a device has been reached for a while."""
    silent_since = trio.current_time()
    while trio.current_time() - silent_since < PATIENCE_SECONDS:
        if peer.reachable():
            silent_since = trio.current_time()
        await trio.sleep(0.25)
    reasons = [keeper.error for keeper in peer.keepers() if keeper.error]
    raise NobodyReachable(reasons[0] if reasons else "no device of these folders can be reached")


async def _rescan(peer: Peer, request: Json, console: Console) -> None:
    for folder in await chosen_folders(peer, request.get("folders") or []):
        await peer.running(folder.folder).replica.rescan()
    await console.say({"rescanning": True})


async def _rename(peer: Peer, request: Json, console: Console) -> None:
    name = str(request["name"]).strip()
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX or not name.isprintable():
        raise UserError(f"a device's name is one line of at most {NAME_BYTES_MAX} bytes")
    await peer.rename(name)
    await console.say({"device": peer.device.device_id, "name": name})


async def _stop(peer: Peer, request: Json, console: Console) -> None:
    await console.say({"stopping": True})
    peer.stop()


def _role(request: Json) -> Role:
    try:
        return Role[str(request.get("role") or "writer").upper()]
    except KeyError:
        raise UsageError(f"there is no role {request['role']!r}: choose admin, writer or reader") from None


def _describe(folder: RegisteredFolder) -> Json:
    return {
        "folder": folder.folder.hex(), "label": folder.label, "path": str(folder.path),
        "role": folder.role.name.lower(),
    }  # fmt: skip


def _url(relay: RelayUrl | None) -> str | None:
    return None if relay is None else str(relay)


def _code(waiting: Waiting) -> Json:
    return {"code": str(waiting.code), "expires_at": int(waiting.expires_at)}


_COMMANDS: dict[str, Callable[[Peer, Json, Console], Awaitable[None]]] = {
    "status": _status,
    "share": _share,
    "pair": _pair,
    "join": _join,
    "sync": _sync,
    "rescan": _rescan,
    "rename": _rename,
    "address": device_address,
    "stop": _stop,
    "explain": explain_path,
    "doctor": examine,
    **HISTORY_COMMANDS,
    **CONFLICT_COMMANDS,
    **SHAPE_COMMANDS,
    **SCRUB_COMMANDS,
}
