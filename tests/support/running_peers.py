"""Peers that run in one process over a network in memory, the consoles that command them, and how they come to share a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.lowlevel

from p2psync.errors import P2psyncError
from p2psync.net.workers import InlineWorkers
from p2psync.node.commands import perform
from p2psync.node.control import Json
from p2psync.node.failures import first_failure
from p2psync.node.home import Home
from p2psync.node.pairings import resume_pairings
from p2psync.node.peer import Peer, open_peer
from p2psync.node.surroundings import Surroundings
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay


class TrioClock:
    def now(self) -> float:
        return 1_700_000_000 + trio.current_time()


class Listening:
    """A console that keeps what is said and lets a test wait for it."""

    def __init__(self, answer: str | None = "yes") -> None:
        self.said: list[Json] = []
        self.asked: list[Json] = []
        self._answer = answer
        self._more = trio.Event()

    async def say(self, event: Json) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append(event)
        self._more.set()
        self._more = trio.Event()

    async def ask(self, question: Json) -> str | None:
        await trio.lowlevel.checkpoint()
        self.asked.append(question)
        return self._answer

    async def first(self, key: str) -> Json:
        while True:
            for event in self.said:
                if key in event:
                    return event
            await self._more.wait()


class World:
    """A directory, a network and devices by name."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.network, self.clock = directory, MemoryNetwork(), TrioClock()
        self.workers = InlineWorkers()
        self._seed = 10

    @asynccontextmanager
    async def relay(self, *, open_to_all: bool = True, port: int = 0) -> AsyncIterator[str]:
        async with running_relay(
            self.directory / "relay", network=self.network, clock=self.clock, open_to_all=open_to_all, port=port
        ) as running:
            yield str(running.url)

    @asynccontextmanager
    async def device(self, name: str) -> AsyncIterator[Peer]:
        self._seed += 1
        surroundings = Surroundings(
            network=self.network, clock=self.clock, workers=self.workers, randomness=SeededRandomness(self._seed)
        )
        async with open_peer(Home(self.directory / f"home-{name}"), surroundings) as peer:
            await resume_pairings(peer)
            yield peer

    def tree(self, name: str) -> Path:
        root = self.directory / name
        root.mkdir(exist_ok=True)
        return root

    def share_request(self, name: str, relay: str | None, **more: object) -> Json:
        return {"command": "share", "path": str(self.tree(name)), "relay": relay, "yes": True, **more}

    def join_request(self, name: str, code: str, relay: str) -> Json:
        return {"command": "join", "code": code, "path": str(self.directory / name), "exact": True, "relay": relay}


async def fails(peer: Peer, request: Json, console: Listening) -> P2psyncError:
    """The error a command ends with."""
    try:
        await perform(peer, request, console)
    except (P2psyncError, BaseExceptionGroup) as error:
        failure = first_failure(error)
        assert failure is not None
        return failure
    raise AssertionError("the command did not fail")


async def paired(world: World, admin: Peer, joiner: Peer, url: str, **more: object) -> Listening:
    """Share directory `a` of one and join it at `b` of the other."""
    console = Listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perform, admin, world.share_request("a", url, **more), console)
        code = (await console.first("code"))["code"]
        await perform(joiner, world.join_request("b", code, url), Listening())
    return console


async def in_sync(*peers: Peer) -> None:
    with trio.fail_after(120):
        for _ in range(2):
            for peer in peers:
                await perform(peer, {"command": "sync"}, Listening())
