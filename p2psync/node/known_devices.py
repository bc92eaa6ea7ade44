"""The other devices a user can name, and the command `device address`: where he says one of them is.

A device is named by its id, the beginning of it, or what it calls itself. Dialling is the keepers' matter.
"""

from __future__ import annotations

from p2psync.errors import UserError
from p2psync.ids import IdentityKey
from p2psync.net.addresses import parse_place
from p2psync.node.control import Console, Json
from p2psync.node.peer import Peer
from p2psync.vault.device_keys import device_id

SHORT_ID = 7
"""Characters of an id that name a device: what messages show."""
ADDRESSES_MAX = 8


async def device_address(peer: Peer, request: Json, console: Console) -> None:
    """Say where a device is said to be, after setting or clearing it if that is asked for. UserError."""
    identity = find_device(peer, str(request["device"]))
    addresses = tuple(dict.fromkeys(parse_place(str(text)) for text in request.get("addresses") or ()))
    if len(addresses) > ADDRESSES_MAX:
        raise UserError(f"at most {ADDRESSES_MAX} addresses can be given for a device")
    if addresses or request.get("clear"):
        await peer.set_addresses(identity, addresses)
    known = [str(address) for address in peer.links.whereabouts.by_hand(identity)]
    await console.say(await peer.called(identity) | {"addresses": known})


def find_device(peer: Peer, text: str) -> IdentityKey:
    """The other device that `text` names. UserError when none or several do."""
    known = {identity for folder in peer.folders.values() for identity in folder.replica.other_devices()}
    start = text.upper().replace("-", "")
    found = [
        identity
        for identity in known
        if text == peer.links.names.get(identity)
        or (len(start) >= SHORT_ID and device_id(identity).replace("-", "").startswith(start))
    ]
    if len(found) != 1:
        raise UserError(
            f"{text!r} names {len(found) or 'no'} devices of this device's folders; p2psync device list shows their ids"
        )
    return found[0]
