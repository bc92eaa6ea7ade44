"""The last moments of a link whose place another one has taken: what is under way on it arrives, nothing is sent twice.

Both ends do this by themselves, each when the better link has become its session; new requests go over that one by then.
It only decides when the old link may be closed.
"""

from __future__ import annotations

import trio

from p2psync.session.asking import Asker
from p2psync.session.link import Link
from p2psync.session.serving import Server
from p2psync.wire.messages import Ping

LEAST_SECONDS = 2.0
"""The folders need a round trip or two to open on the new link; until then they use the old one."""
LOOK_SECONDS = 0.1
SILENCE_SECONDS = 5.0
"""A link that says nothing for this long, though answers are owed, is dead: what it owes is asked for elsewhere."""


async def drain(link: Link, asker: Asker, server: Server) -> None:
    """Return when neither end owes the other anything and all that was written has been read, or the link is dead."""
    await trio.sleep(LEAST_SECONDS)
    started, pongs = trio.current_time(), -1
    while min(link.silent_for, trio.current_time() - started) < SILENCE_SECONDS:
        if asker.busy or server.busy or not link.outbox.empty:
            pongs = -1
        elif pongs < 0:
            pongs = link.pongs
            link.say(Ping())
        elif link.pongs > pongs:
            return
        await trio.sleep(LOOK_SECONDS)
