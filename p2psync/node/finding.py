"""Where a code's mailbox is: on the LAN, at a relay, or at both; decided before the one guess is spent.

A number alone does not say whose code it is: another admin on this LAN, or at a relay with many users, may show the same
one. So both are asked, the admin's first message tells equal from different, and where two different pairings answer,
the joiner's user decides. What is found can be wrong all the same (somebody lies): that costs the guess, and no more.
"""

from __future__ import annotations

import trio

from p2psync.errors import NobodyReachable, NotFound, P2psyncError, UserError
from p2psync.net.urls import RelayUrl
from p2psync.node.lan_search import Found, searching
from p2psync.node.peer import Peer
from p2psync.pairing.calls import LAN_NUMBERS, mailbox_id
from p2psync.replica.context import Signal
from p2psync.wire.messages import Side

LOOK_SECONDS = 6.0
"""How long the LAN is asked before nobody there shows the code."""
GRACE_SECONDS = 1.0
"""How long the other answer is waited for when one has come."""
REACH_SECONDS = 20.0
"""How long the relay may take to answer before a command says that it cannot be reached."""


async def find_mailbox(peer: Peer, nameplate: int, relay: RelayUrl | None, *, named: bool) -> RelayUrl | Found:
    """The one mailbox of that number. `named`: the user said which relay, which then counts for more than the LAN.

    UserError: there are two, or none; NobodyReachable: nobody could be asked.
    """
    if nameplate in LAN_NUMBERS:
        relay = None  # no relay gives out such a number
    if not peer.codes.searched:
        if relay is None:
            raise UserError(
                "no relay is known that could have this code, and this device keeps off the LAN: "
                "give the relay with --relay, or leave --no-lan out"
            )
        await peer.keeper(relay).link_within(REACH_SECONDS)
        return relay
    look = _Look(relay is not None)
    async with trio.open_nursery() as nursery, searching(peer.surroundings, nameplate, news=look.news) as search:
        if relay is not None:
            nursery.start_soon(_ask_relay, peer, nameplate, relay, look)
        with trio.move_on_after(LOOK_SECONDS):
            while not (search.found or look.at_relay):
                await look.news.wait(look.news.count)
        with trio.move_on_after(GRACE_SECONDS if search.found or look.at_relay else REACH_SECONDS):
            while not (search.found and look.at_relay) and (search.found or look.asking):
                await look.news.wait(look.news.count)
        nursery.cancel_scope.cancel()
    return _choose(nameplate, relay, look, search.all(), named)


class _Look:
    """What the relay has said so far."""

    def __init__(self, asking: bool) -> None:
        self.asking = asking
        self.at_relay: bytes | None = None
        """The admin's first message in the relay's mailbox of that number."""
        self.error: P2psyncError | None = None
        self.news = Signal()


async def _ask_relay(peer: Peer, nameplate: int, relay: RelayUrl, look: _Look) -> None:
    try:
        link = await peer.keeper(relay).link_within(REACH_SECONDS)
        look.at_relay = await link.next_mail(nameplate, Side.JOINER, 0)
    except P2psyncError as error:
        look.error = error
    look.asking = False
    look.news.notify()


def _choose(nameplate: int, relay: RelayUrl | None, look: _Look, found: list[Found], named: bool) -> RelayUrl | Found:
    if relay is not None and look.at_relay is not None:
        same = mailbox_id(nameplate, look.at_relay) in [each.mailbox for each in found]
        if same or named or not found:
            return relay
    elif len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"more than one device shows a code with the number {nameplate}: name the relay with --relay to take the one "
            "there, or make a new code"
        )
    if look.error is not None and not isinstance(look.error, NotFound):
        raise NobodyReachable(f"{look.error}; and nobody on this LAN shows the code either")
    if relay is not None:
        raise UserError(
            f"no pairing waits under number {nameplate} at this relay or on this LAN; check the code and the relay, "
            "or make a new code"
        )
    raise NobodyReachable(
        f"nobody on this LAN shows a code with the number {nameplate}: check it, and that both devices are on the same "
        "network; where the code came with a relay, name that with --relay"
    )
