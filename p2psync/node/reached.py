"""How a member of a folder is reached right now, as the JSON of `p2psync status --json`, and why not better.

One word (`lan`, `direct`, `spliced`, `store only`, `unreachable`) and one sentence a user can act on. Decides nothing.
"""

from __future__ import annotations

from typing import Any

from p2psync.ids import IdentityKey
from p2psync.index.membership import Member
from p2psync.node.links import DeviceLinks
from p2psync.node.running import RunningFolder
from p2psync.vault.device_keys import device_id

STORE_ONLY, UNREACHABLE = "store only", "unreachable"


def describe_peer(folder: RunningFolder, member: Member, known: dict[str, bool], *, stores: bool) -> dict[str, Any]:
    """Without who it is, which `Peer.called` says.

    `known`: linked devices that serve the folder, and whether they have our heads. `stores`: one is connected.
    `since` is in seconds since 1970; bytes and rates are those of the present link, for all folders it carries.
    """
    identity = member.credentials.identity
    links = folder.meeting.links
    head: dict[str, Any] = {"role": member.role.name.lower()}
    keeper = links.keeper(identity)
    session = None if keeper is None else keeper.session
    if session is None:
        return head | {
            "reached": STORE_ONLY if stores else UNREACHABLE, "since": None, "in_sync": None,
            "received_bytes": 0, "sent_bytes": 0, "receive_rate": 0, "send_rate": 0,
            "reason": _why_not(links, identity),
        }  # fmt: skip
    transport = session.transport
    device = device_id(identity)
    return head | {
        "reached": session.way, "since": int(session.since), "in_sync": known.get(device, False),
        "received_bytes": transport.received.total, "sent_bytes": transport.sent.total,
        "receive_rate": transport.received.rate(), "send_rate": transport.sent.rate(),
        "reason": folder.troubles.get(identity) or (None if device in known else "it does not serve this folder now"),
    }  # fmt: skip


def _why_not(links: DeviceLinks, identity: IdentityKey) -> str:
    """Why there is no link to the device."""
    if not links.direct:
        return "direct links are turned off here by --links"
    keeper = links.keeper(identity)
    if links.whereabouts.addresses(identity):
        return (keeper.error if keeper is not None else None) or "it is being dialled"
    if links.whereabouts.present(identity):
        return "it runs, but tells no address at which it can be dialled"
    return "it has not been heard of since this device started: it may be off, or both lack a relay or LAN in common"
