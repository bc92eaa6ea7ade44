"""What a user says about the links of this device. It opens none, and is light: every command reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2psync.net.addresses import DEFAULT_PEER_PORT, Announced
from p2psync.planner.sources import ALL_LINKS


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """`links`: the kinds used. `listen`: (host or "", port), None for nowhere. `yielding`: another port will do when
    that one is taken. `lan`: whether to call and listen on the LAN. `announced`: where else others can dial, by the
    user's word. `map_port`: whether to ask the router for a port."""

    links: frozenset[str] = field(default=ALL_LINKS)
    listen: tuple[str, int] | None = None
    yielding: bool = False
    lan: bool = False
    announced: tuple[Announced, ...] = ()
    map_port: bool = False


UNHEARD = LinkOptions()
"""Dials others, and is dialled by nobody: enough for a command that ends soon."""
SERVING = LinkOptions(listen=("", DEFAULT_PEER_PORT), yielding=True, lan=True, map_port=True)
"""What a peer in the foreground does unless told otherwise."""
