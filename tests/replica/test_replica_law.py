"""The law of sync, on real replicas and real directories (Hughes, Pierce, Arts, Norell, "Mysteries of Dropbox").

Every value a user ever wrote is in its place, in a conflict copy, or was taken away by a user who had it before him; when
everyone has talked all trees are equal; and what was gone for everybody never comes back. The machine's users change files on
devices that are off, devices meet in any company, and each meeting is also a restart.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2psync.net.workers import InlineWorkers
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge
from tests.support.power import still_watcher

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "40"))
"""More of them in a night: LAW_EXAMPLES=5000."""
NAMES = ["a", "b.txt", "d", "d/a", "d/b.txt", "d/e/a"]
DEVICES = 3

Step = tuple[str, int, str, str]
"""(what, which device, path, other path); for a meeting the number says who takes part, bit by bit."""

devices, paths = st.integers(0, DEVICES - 1), st.sampled_from(NAMES)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "write", "append", "delete", "move", "exchange kind"]), devices, paths, paths),
        st.tuples(st.just("meet"), st.integers(1, 2**DEVICES - 1), st.just(""), st.just("")),
    ),
    min_size=2, max_size=14,
)  # fmt: skip


class World:
    """Devices with one folder, and what their users have written, seen and taken away. A value is a line of its own."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore(clock=SystemClock())
        self.devices = [Device(directory / str(n), n + 1, workers=InlineWorkers()) for n in range(DEVICES)]
        self.written: set[bytes] = set()
        self.taken: set[bytes] = set()
        """Values that a user removed or replaced where he had them before him."""
        self.gone: set[bytes] = set()
        """Values that nobody had any more when everyone had talked."""

    async def found(self) -> None:
        first = self.devices[0]
        first.found()
        async with first.running(self.store, watcher=still_watcher) as admin:
            for device in self.devices[1:]:
                await device.admitted_by(admin)
            await admin.in_sync()

    def change(self, what: str, device: Device, name: str, other: str) -> None:
        """What a user does while the device is off; what is impossible just now is not done."""
        path, target = device.root / name, device.root / other
        try:
            match what:
                case "write" if not path.is_dir():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._take_away(path)
                    path.write_bytes(self._value())
                case "append" if path.is_file():
                    path.write_bytes(path.read_bytes() + self._value())
                case "delete" if path.exists():
                    self._remove(path)
                case "move" if path.exists() and not related(path, target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if target.exists():
                        self._remove(target)
                    path.rename(target)
                case "exchange kind" if path.is_dir():
                    self._remove(path)
                    path.write_bytes(self._value())
                case "exchange kind" if path.is_file():
                    self._remove(path)
                    path.mkdir()
                    (path / "inside").write_bytes(self._value())
        except (FileExistsError, NotADirectoryError):
            return  # a file is where a directory would have to be

    def _value(self) -> bytes:
        value = b"value %d\n" % len(self.written)
        self.written.add(value)
        return value

    def _remove(self, path: Path) -> None:
        self._take_away(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _take_away(self, path: Path) -> None:
        for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
            if file.is_file():
                self.taken |= lines(file)

    async def meet(self, who: Sequence[Device]) -> None:
        async with AsyncExitStack() as running:
            replicas = [
                await running.enter_async_context(device.running(self.store, watcher=still_watcher)) for device in who
            ]
            await converge(*replicas, seconds=900)
            if len(who) == DEVICES:
                await converge(*replicas, seconds=900)
                self.check()

    def check(self) -> None:
        trees = [device.tree() for device in self.devices]
        assert trees[0] == trees[1] == trees[2]
        held = {line for _, content, _ in trees[0].values() for line in content.splitlines(keepends=True)}
        assert self.written - self.taken <= held, "a value is lost that nobody took away"
        assert not self.gone & held, "a value came back from the dead"
        self.gone |= self.written - held


def related(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def lines(file: Path) -> set[bytes]:
    return set(file.read_bytes().splitlines(keepends=True))


async def live(world: World, story: Sequence[Step]) -> None:
    await world.found()
    for what, number, name, other in (*story, ("meet", 2**DEVICES - 1, "", "")):
        if what == "meet":
            await world.meet([device for bit, device in enumerate(world.devices) if number >> bit & 1])
        else:
            world.change(what, world.devices[number], name, other)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps)
@example(
    [
        ("write", 0, "d/a", ""),
        ("meet", 7, "", ""),
        ("delete", 0, "d", ""),
        ("append", 1, "d/a", ""),
        ("meet", 3, "", ""),
    ]
)
@example(
    [("write", 0, "a", ""), ("write", 1, "a", ""), ("meet", 3, "", ""), ("delete", 0, "a", ""), ("meet", 7, "", "")]
)
def test_every_value_is_in_its_place_or_a_copy_or_was_taken_away_by_who_had_it(story: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(live, World(Path(directory)), story, clock=trio.testing.MockClock(autojump_threshold=0))
