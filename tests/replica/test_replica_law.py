"""The law of sync, on real replicas and real directories (Hughes, Pierce, Arts, Norell, "Mysteries of Dropbox").

Every value a user ever wrote is in its place, in a conflict copy, or was taken away by a user who had it before him; when
everyone has talked all trees are equal; and what was gone for everybody never comes back. The machine's users change files on
devices that are off, devices meet in any company, and each meeting is also a restart. Devices sum their feeds up at any time.
Whoever is away counts as lapsed: deletions are left out without them, and store and devices forget what snapshots replaced,
whoever has not read it yet. Who comes back loses nothing and brings nothing back; who joins then learns the same as ever.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2psync.ids import FeedId, IdentityKey
from p2psync.index.records import recall_version
from p2psync.index.versions import Dot, Kind
from p2psync.net.workers import InlineWorkers
from p2psync.replica import elsewhere, forgetting, publisher, upkeep
from p2psync.replica.attendance import Silence
from p2psync.replica.context import Context
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge
from tests.support.power import still_watcher
from tests.support.reading import a_reader, entries_of, forget_replaced, knowledge, read

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "24"))
"""More of them in a night: LAW_EXAMPLES=5000."""
NAMES = ["a", "b.txt", "d", "d/a", "d/b.txt", "d/e/a"]
DEVICES = 3

SUM_UP = "sum up"
LIVED = ("version", "wanted", "beyond", "settled", "membership", "fork")

Step = tuple[str, int, str, str]
"""(what, which device, path, other path); for a meeting the number says who takes part, bit by bit, and the path whether
all of them sum up before they part."""

devices, paths = st.integers(0, DEVICES - 1), st.sampled_from(NAMES)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "write", "append", "delete", "move", "exchange kind"]), devices, paths, paths),
        st.tuples(st.just("meet"), st.integers(1, 2**DEVICES - 1), st.sampled_from(["", "", SUM_UP]), st.just("")),
        st.tuples(st.sampled_from([SUM_UP, "forget"]), devices, st.just(""), st.just("")),
    ),
    min_size=2, max_size=14,
)  # fmt: skip

changes = st.tuples(st.sampled_from(["write", "write", "delete", "delete", "move", "append"]), devices, paths, paths)
rounds = st.lists(
    st.tuples(
        st.lists(changes, max_size=4),
        st.tuples(st.just("meet"), st.sampled_from([3, 3, 5, 6, 7]), st.just(SUM_UP), st.just("")),
        st.lists(st.tuples(st.just("forget"), devices, st.just(""), st.just("")), max_size=1),
    ).map(lambda parts: [*parts[0], parts[1], *parts[2]]),
    min_size=3, max_size=6,
).map(lambda told: [step for part in told for step in part])  # fmt: skip
"""Each meeting ends with sums, often without one device, and often what they replaced is forgotten at once."""


class World:
    """Devices with one folder, and what their users have written, seen and taken away. A value is a line of its own."""

    def __init__(self, directory: Path) -> None:
        self.home, self.store = directory, MemoryStore(clock=SystemClock())
        self.devices = [Device(directory / str(n), n + 1, workers=InlineWorkers()) for n in range(DEVICES)]
        self.written: set[bytes] = set()
        self.taken: set[bytes] = set()
        """Values that a user removed or replaced where he had them before him."""
        self.gone: set[bytes] = set()
        """Values that nobody had any more when everyone had talked."""
        self.present: set[IdentityKey] = set()

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

    async def meet(self, who: Sequence[Device], sum_up: bool) -> None:
        self.present = {IdentityKey(device.keys.identity_key) for device in who}
        async with AsyncExitStack() as running:
            replicas = [
                await running.enter_async_context(device.running(self.store, watcher=still_watcher)) for device in who
            ]
            await converge(*replicas, seconds=900)
            if len(who) == DEVICES:
                await converge(*replicas, seconds=900)
                self.check()
                self.check_readers([replica._context for replica in replicas])
            for replica in (*replicas, *replicas) if sum_up else ():
                await upkeep.sum_up(replica._context)
                await converge(*replicas, seconds=900)
        self.present = set()

    async def join(self) -> None:
        """A newcomer that finds the store alone gets everything."""
        newcomer = Device(self.home / "newcomer", 9, workers=InlineWorkers())
        async with self.devices[0].running(self.store, watcher=still_watcher) as admin:
            await newcomer.admitted_by(admin)
            await admin.in_sync()
        async with newcomer.running(self.store, watcher=still_watcher) as replica:
            await converge(replica, seconds=900)
        assert newcomer.tree() == self.devices[0].tree()

    async def sum_up(self, device: Device) -> None:
        async with device.running(None, watcher=still_watcher) as replica:
            await upkeep.sum_up(replica._context)

    async def forget(self, device: Device) -> None:
        async with device.running(None, watcher=still_watcher) as replica:
            await forget_replaced(self.store, replica.secrets, device.keys)
            snapshots = replica._context.catalog.snapshots
            for feed, (first, _) in snapshots.settled_for(0).items():
                snapshots.forget(feed, first)

    def silences(self, context: Context) -> dict[IdentityKey, Silence]:
        return {member: Silence(None, member not in self.present) for member in context.membership.members}

    def check_readers(self, contexts: Sequence[Context]) -> None:
        """Who reads from snapshots on knows what one knows who read everything, and what those know who lived it.

        These may still know of deletions that others have left out, since the disk showed what they delete when that was
        settled: the next snapshot takes them.
        """
        device, secrets = self.devices[0].keys, contexts[0].secrets
        whole = knowledge(read(a_reader(secrets, device), entries_of(self.store, deleted=True), from_snapshots=False))
        short = knowledge(read(a_reader(secrets, device), entries_of(self.store), from_snapshots=True))
        assert short == whole
        for context in contexts:
            lived = knowledge(context)
            left = left_over(lived["version"] - whole["version"])
            for name in LIVED:
                assert without(left, name, lived[name]) == without(left, name, whole[name]), name

    def check(self) -> None:
        trees = [device.tree() for device in self.devices]
        assert trees[0] == trees[1] == trees[2]
        held = {line for _, content, _ in trees[0].values() for line in content.splitlines(keepends=True)}
        assert self.written - self.taken <= held, "a value is lost that nobody took away"
        assert not self.gone & held, "a value came back from the dead"
        self.gone |= self.written - held


def left_over(extra: set[Any]) -> set[tuple[bytes, bytes]]:
    """The paths of versions that only who lived it knows of, where all of them are deletions."""
    alive = {row[:2] for row in extra if recall_version(row[5], Dot(FeedId(row[2]), row[3], row[4])).live}
    return {row[:2] for row in extra} - alive


def without(left: set[tuple[bytes, bytes]], name: str, rows: set[Any]) -> set[Any]:
    """What must be equal whatever deletions are left over: at their paths the versions that are alive, and what is wanted
    alive, though it covers more."""
    match name:
        case "version":
            return {
                row for row in rows
                if row[:2] not in left or recall_version(row[5], Dot(FeedId(row[2]), row[3], row[4])).live
            }  # fmt: skip
        case "wanted":
            rows = {row for row in rows if row[:2] not in left or row[5] != Kind.DELETED}
            return {row if row[:2] not in left else (*row[:7], *row[8:]) for row in rows}
        case "beyond" | "settled":
            return {row for row in rows if row[:2] not in left}
    return rows


def related(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def lines(file: Path) -> set[bytes]:
    return set(file.read_bytes().splitlines(keepends=True))


async def live(world: World, story: Sequence[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forgetting, "silences", world.silences)
        patch.setattr(elsewhere, "LOOK_FROM", 1)
        patch.setattr(publisher, "INLINE_MAX", 8 * (len(story) % 3))  # content travels in packs, in entries, or in both
        await tell(world, story)


async def tell(world: World, story: Sequence[Step]) -> None:
    await world.found()
    for what, number, name, other in (*story, ("meet", 2**DEVICES - 1, "", "")):
        if what == "meet":
            who = [device for bit, device in enumerate(world.devices) if number >> bit & 1]
            await world.meet(who, name == SUM_UP)
        elif what == SUM_UP:
            await world.sum_up(world.devices[number])
        elif what == "forget":
            await world.forget(world.devices[number])
        else:
            world.change(what, world.devices[number], name, other)
    await world.join()


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
    [
        ("write", 0, "a", ""), ("write", 1, "a", ""), ("meet", 7, "", ""), ("sum up", 0, "", ""), ("meet", 3, "", ""),
        ("write", 0, "b.txt", ""), ("delete", 0, "a", ""), ("write", 1, "d/a", ""), ("meet", 3, "", ""),
        ("sum up", 0, "", ""), ("sum up", 1, "", ""), ("meet", 3, "", ""), ("forget", 0, "", ""), ("write", 2, "a", ""),
    ]
)  # fmt: skip
@example(
    [
        ("write", 0, "a", ""), ("write", 2, "d/a", ""), ("meet", 7, "", ""), ("delete", 1, "a", ""), ("delete", 1, "d/a", ""),
        ("meet", 3, SUM_UP, ""), ("forget", 0, "", ""), ("forget", 1, "", ""), ("write", 2, "b.txt", ""),
        ("meet", 7, SUM_UP, ""), ("meet", 7, SUM_UP, ""), ("write", 0, "a", ""),
    ]
)  # fmt: skip
@example(
    [("write", 0, "a", ""), ("write", 1, "a", ""), ("meet", 3, "", ""), ("delete", 0, "a", ""), ("meet", 7, "", "")]
)
def test_every_value_is_in_its_place_or_a_copy_or_was_taken_away_by_who_had_it(story: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(live, World(Path(directory)), story, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=EXAMPLES // 2, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(rounds)
@example(
    [
        ("meet", 3, "", ""), ("write", 0, "a", ""), ("write", 0, "d/e/a", ""), ("meet", 3, "", ""), ("write", 1, "d/a", ""),
        ("delete", 0, "d", ""), ("move", 1, "a", "d/e/a"), ("meet", 3, "", ""),
    ]
)  # fmt: skip
def test_who_was_away_while_everything_was_summed_up_loses_nothing_and_brings_nothing_back(story: list[Step]) -> None:
    """Properties 44 and 57: however late a device returns."""
    with tempfile.TemporaryDirectory() as directory:
        trio.run(live, World(Path(directory)), story, clock=trio.testing.MockClock(autojump_threshold=0))
