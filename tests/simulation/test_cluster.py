"""A relay and two devices in one process: mock clock, inline workers, seeded dice; the same seed gives the same trace."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio._core._run
import trio.testing

from p2psync.net.workers import InlineWorkers
from p2psync.node.commands import perform
from p2psync.node.control import Json
from p2psync.node.home import Home
from p2psync.node.peer import Peer, open_peer
from p2psync.node.surroundings import Surroundings
from p2psync.replica.watcher import ManualWatcher, Skips, Watcher
from p2psync.seams import Workers
from tests.support.devices import tree_of
from tests.support.links import MemoryNetwork, MemoryStream, SeededRandomness, running_relay

START = 1_700_000_000.0
Trace = list[tuple[float, str, int]]


class SimulatedClock:
    """Wall time that follows the mock clock."""

    def now(self) -> float:
        return START + trio.current_time()


class TracedNetwork(MemoryNetwork):
    """Writes down when who connected, and every burst of bytes a device sent."""

    def __init__(self, name: str, parent: MemoryNetwork, trace: Trace) -> None:
        super().__init__(name)
        self._parent, self._name, self._trace = parent, name, trace

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        stream = await super().connect(host, port)
        self._trace.append((trio.current_time(), f"{self._name} connects", port))
        assert isinstance(stream, MemoryStream)
        send = stream.send_all

        async def traced(data: bytes | bytearray | memoryview) -> None:
            self._trace.append((trio.current_time(), self._name, len(data)))
            await send(data)

        stream.send_all = traced  # type: ignore[method-assign]
        return stream


@dataclass
class Heard:
    """A console that keeps what a command said."""

    said: list[Json] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    async def say(self, event: Json) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append(event)
        self.news.set()

    async def ask(self, question: Json) -> str | None:
        await trio.lowlevel.checkpoint()
        return "yes"


@dataclass
class SimulatedDevice:
    peer: Peer
    root: Path
    watcher: ManualWatcher

    def write(self, name: str, data: bytes, time: int) -> None:
        (self.root / name).write_bytes(data)
        os.utime(self.root / name, (START + time, START + time))
        self.watcher.touch(())

    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        self.watcher.touch(())


@asynccontextmanager
async def device(
    directory: Path, name: str, seed: int, network: MemoryNetwork, trace: Trace
) -> AsyncIterator[SimulatedDevice]:
    watcher = ManualWatcher()

    @asynccontextmanager
    async def watch(root: Path, workers: Workers, skips: Skips) -> AsyncIterator[Watcher]:
        await trio.lowlevel.checkpoint()
        yield watcher

    (directory / name).mkdir()
    surroundings = Surroundings(
        network=TracedNetwork(name, network, trace), clock=SimulatedClock(), randomness=SeededRandomness(seed),
        workers=InlineWorkers(), watcher=watch,
    )  # fmt: skip
    async with open_peer(Home(directory / f"home-{name}"), surroundings) as peer:
        yield SimulatedDevice(peer, directory / name, watcher)


async def run_cluster(directory: Path, seed: int) -> Trace:
    """Share, pair, edit on both sides, lose the network, delete, heal; returns what went over the wire when."""
    trace: Trace = []
    network = MemoryNetwork()
    async with (
        running_relay(
            directory / "relay", network=network, clock=SimulatedClock(), randomness=SeededRandomness(seed + 2),
            workers=InlineWorkers(),
        ) as relay,
        device(directory, "a", seed, network, trace) as a,
        device(directory, "b", seed + 1, network, trace) as b,
        trio.open_nursery() as nursery,
    ):  # fmt: skip
        a.write("first", b"from a", 1)
        b.write("own", b"from b", 2)
        heard = Heard()
        share = {"command": "share", "path": str(a.root), "relay": str(relay.url), "yes": True}
        nursery.start_soon(perform, a.peer, share, heard)
        await heard.news.wait()
        join = {
            "command": "join",
            "path": str(b.root),
            "exact": True,
            "relay": str(relay.url),
            "code": heard.said[0]["code"],
        }
        await perform(b.peer, join, Heard())
        await settle(a, b)
        assert tree_of(a.root) == tree_of(b.root)
        for number in range(5):
            a.write(f"a{number}", os.urandom(0) + bytes([seed % 256]) * 100_000 * number, 10 + number)
        network.cut_all()
        b.write("first", b"edited by b", 20)
        await settle(a, b)
        assert tree_of(a.root) == tree_of(b.root)
        a.remove("a1")
        await settle(a, b)
        trees = tree_of(a.root)
        assert trees == tree_of(b.root)
        assert trees["first"][1] == b"edited by b" and "a1" not in trees and len(trees) == 6
        nursery.cancel_scope.cancel()
    return trace


async def settle(*devices: SimulatedDevice) -> None:
    with trio.fail_after(600):
        for _ in range(2):
            for one in devices:
                for folder in one.peer.folders.values():
                    await folder.replica.rescan()
                    await folder.replica.in_sync()


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """trio shuffles each batch of tasks with its own dice, which it lets tests load."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r.seed(seed)
    try:
        yield
    finally:
        trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = False  # type: ignore[attr-defined]


def simulate(directory: Path, seed: int) -> Trace:
    directory.mkdir()
    with deterministic(seed):
        return trio.run(run_cluster, directory, seed, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", [1, 20])
def test_the_same_seed_gives_the_same_trace_twice(tmp_path: Path, seed: int) -> None:
    first, second = simulate(tmp_path / "one", seed), simulate(tmp_path / "two", seed)
    assert len(first) > 50
    assert first == second


def test_another_seed_gives_another_trace(tmp_path: Path) -> None:
    assert simulate(tmp_path / "one", 3) != simulate(tmp_path / "two", 4)
