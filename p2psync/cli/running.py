"""Runs a command: in a peer of its own under the home's lock, or through the control socket of the one that runs.

Owns that decision. What runs a peer is `hosting.py`'s, and is loaded where a peer is to be run: a command that only asks
the running one starts in under half of the time.
"""

from __future__ import annotations

from pathlib import Path

import trio

from p2psync.cli.options import PeerOptions, choose_home
from p2psync.cli.screen import Screen
from p2psync.node.control import Console, Json, NoPeer, request_peer
from p2psync.node.home import Home, HomeBusy

BUSY_RETRIES = 20
BUSY_SECONDS = 0.25
"""A peer that just starts holds the lock before its socket answers, one that ends the other way round."""


async def run_command(options: PeerOptions, request: Json, screen: Screen, *, stay: bool) -> None:
    """Perform `request`; when no peer runs yet, in one of our own, that then goes on running if `stay`."""
    if await ask_running(options, request, screen):
        return
    from p2psync.cli.hosting import perform_here  # noqa: PLC0415

    home = Home(options.home)
    for attempt in range(BUSY_RETRIES):
        try:
            with home.lock(str(request["command"]), stays=stay):
                await perform_here(home, options, request, screen, stay=stay)
                return
        except HomeBusy as busy:
            if await ask_running(options, request, screen):
                return
            if attempt == BUSY_RETRIES - 1:
                raise busy from None
        await trio.sleep(BUSY_SECONDS)


def run_once(request: Json, home: Path | None, screen: Screen) -> None:
    """Perform `request` to its end, and show what it says on `screen`."""
    options = PeerOptions(choose_home(home), screen.as_json, None)

    async def work() -> None:
        await run_command(options, request, screen, stay=False)

    trio.run(work)


async def ask_running(options: PeerOptions, request: Json, console: Console) -> bool:
    """Have the running peer perform `request`; False when none runs."""
    home = Home(options.home)
    try:
        await request_peer(home.control_socket, request, console)
    except NoPeer:
        return False
    return True
