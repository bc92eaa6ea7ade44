"""A peer in this process: for one command, or until it is told to stop.

Owns the signals that end a peer and the supervision of a foreground peer. Commands themselves are `node.commands`'.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager

import trio

from p2psync.cli.options import PeerOptions
from p2psync.cli.progress import follow
from p2psync.cli.running import BUSY_SECONDS
from p2psync.cli.screen import Screen
from p2psync.net.memory import give_back_now_and_then
from p2psync.node.commands import perform
from p2psync.node.control import Console, Json, serve_control
from p2psync.node.home import Home, HomeBusy
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.node.sharing import choose_relay, remember_relay
from p2psync.node.surroundings import system_surroundings

PASSING_SECONDS = 30.0
"""How long a peer waits for a command that runs this device for itself; most take a second."""

Work = Callable[[Peer], Awaitable[None]]


async def perform_here(home: Home, options: PeerOptions, request: Json, screen: Screen, *, stay: bool) -> None:
    """Perform `request` in a peer of our own, which then goes on running if `stay`. The home's lock is held."""

    async def work(peer: Peer) -> None:
        await perform(peer, request | {"stay": stay}, screen)

    await run_peer(home, options, work, screen, stay=stay)


async def serve(options: PeerOptions, screen: Screen) -> None:
    """Run the peer until it is told to stop. HomeBusy when one runs already, or a command does not end."""
    home = Home(options.home)

    async def greet(peer: Peer) -> None:
        if options.relay is not None:
            relay = await choose_relay(peer, options.relay)
            if relay is not None:
                await remember_relay(peer, relay)
        folders = await peer.registered()
        if options.json:
            listening = [str(address) for address in peer.links.listening]
            ids = [item.folder.hex() for item in folders]
            await screen.say({"device": peer.device.device_id, "folders": ids, "listening": listening})
        else:
            count = f"{len(folders)} folder{'' if len(folders) == 1 else 's'}"
            screen.line(f"device {peer.device.device_id[:7]} runs {count}; Ctrl-C ends it")

    with await _lock_to_stay(home, screen):
        await run_peer(home, options, greet, screen, stay=True)


async def _lock_to_stay(home: Home, screen: Screen) -> ExitStack:
    """The home's lock, once a command that runs this device for itself has ended."""
    lock, end, told = ExitStack(), trio.current_time() + PASSING_SECONDS, False
    while True:
        try:
            lock.enter_context(home.lock("serve", stays=True))
            return lock
        except HomeBusy as busy:
            if busy.stays or trio.current_time() > end:
                raise
            if not told and not screen.as_json:
                screen.line("waiting for another command of this device to end")
            told = True
        await trio.sleep(BUSY_SECONDS)


async def run_peer(home: Home, options: PeerOptions, work: Work, screen: Screen, *, stay: bool) -> None:
    """A peer with its control socket. Ends after `work`, or, if `stay`, on a signal or the command `stop`."""
    async with open_peer(home, system_surroundings(), options.links) as peer, _until_signalled(peer) as nursery:

        async def serve_request(request: Json, console: Console) -> None:
            await perform(peer, request, console)

        await nursery.start(serve_control, home.control_socket, serve_request)
        nursery.start_soon(give_back_now_and_then)
        await resume_pairings(peer)
        if stay and not options.json:
            nursery.start_soon(follow, peer, screen)
        await work(peer)
        if stay:
            await peer.stopping()


@asynccontextmanager
async def _until_signalled(peer: Peer) -> AsyncIterator[trio.Nursery]:
    """A nursery that ends, without an error, on Ctrl-C or SIGTERM."""
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    peer.stop()
                    nursery.cancel_scope.cancel()

        await nursery.start(listen)
        yield nursery
        nursery.cancel_scope.cancel()
