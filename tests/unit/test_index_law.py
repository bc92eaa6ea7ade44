"""The law of sync over pure merges: model replicas that talk in any order, about part of what they know, or not for long.

Every value ever written is in its place, in a conflict copy, or was taken away by a user who had it before him; a version
is covered only by one whose author had seen it; when everyone has talked all trees are equal; and what was gone for
everybody never comes back. `tests/replica/test_replica_law.py` says the same of real replicas on real directories.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from p2psync.ids import FeedId
from p2psync.index.paths import Path, split
from p2psync.index.versions import Kind, Version
from tests.support.model_replica import Change, ModelReplica, data_of

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("LAW_MODEL_EXAMPLES", "250"))
"""More of them in a night: LAW_MODEL_EXAMPLES=20000."""
NAMES: list[Path] = [split(name) for name in (b"a", b"b.txt", b"d", b"d/a", b"d/b.txt", b"d/e/a")]
REPLICAS = 3
_ROUNDS = 12
"""After so many rounds of everybody telling everybody all, nobody may have anything left to say."""

who, places, few = (
    st.integers(0, REPLICAS - 1),
    st.integers(0, 99),
    st.lists(st.integers(0, 3), min_size=REPLICAS, max_size=REPLICAS),
)


class Law(RuleBasedStateMachine):
    """Users and meetings. A value is a line of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = [ModelReplica(FeedId(bytes([number + 1]) * 32)) for number in range(REPLICAS)]
        self.away: set[int] = set()
        self.written: set[bytes] = set()
        self.taken: set[bytes] = set()
        """Values that a user removed or replaced where he had them before him."""
        self.gone: set[bytes] = set()
        """Values that nobody had any more when everyone had talked."""

    # Users.

    @rule(who=who, place=places)
    def write(self, who: int, place: int) -> None:
        replica, path = self._at(who, place)
        held = replica.tree().get(path)
        if (held is None or held.kind is not Kind.DIRECTORY) and replica.can_hold(path):
            self._take_away(replica, path)
            replica.put(Change(path, Kind.FILE, self._value()))

    @rule(who=who, place=places, first=st.booleans())
    def add_a_line(self, who: int, place: int, first: bool) -> None:
        """Before or behind what is there: changes of two users that may merge, or not."""
        replica, had = self._had(who, place)
        for path in had:
            held = replica.tree()[path]
            if held.kind is Kind.FILE:
                value, data = self._value(), data_of(held)
                replica.put(Change(path, Kind.FILE, value + data if first else data + value, held.mode))

    @rule(one=who, other=who, place=places, first=st.booleans())
    def add_lines_apart(self, one: int, other: int, place: int, first: bool) -> None:
        """Two users who had the same each add a line before they hear of each other."""
        for who, where in ((one, True), (other, first)):
            self.add_a_line(who, place, where)

    @rule(who=who, place=places)
    def delete(self, who: int, place: int) -> None:
        replica, had = self._had(who, place)
        for path in had:
            self._remove(replica, path)

    @rule(who=who, place=places, to=places)
    def move(self, who: int, place: int, to: int) -> None:
        replica, had = self._had(who, place)
        target = self._at(who, to)[1]
        for path in had:
            related = path[: len(target)] == target or target[: len(path)] == path
            if not related and replica.can_hold(target):
                self._remove(replica, target)
                replica.move(path, target)

    @rule(who=who, place=places, kind=st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK]))
    def exchange_kind(self, who: int, place: int, kind: Kind) -> None:
        """What stands there becomes a file, a directory with something in it or none, or a symlink."""
        replica, path = self._at(who, place)
        if not replica.can_hold(path) or (path in replica.tree() and replica.tree()[path].kind is kind):
            return
        self._remove(replica, path)
        replica.put(Change(path, kind, b"" if kind is Kind.DIRECTORY else self._value()))
        if kind is Kind.DIRECTORY and place % 2:
            replica.put(Change((*path, b"inside"), Kind.FILE, self._value()))

    @rule(who=who, place=places)
    def change_mode(self, who: int, place: int) -> None:
        replica, had = self._had(who, place)
        for path in had:
            held = replica.tree()[path]
            if held.kind is not Kind.SYMLINK:
                replica.put(Change(path, held.kind, data_of(held), held.mode ^ 0o020))

    # Meetings.

    @rule(teller=who, hearer=who, most=few)
    def hear_some(self, teller: int, hearer: int, most: list[int]) -> None:
        """A link that breaks: of each feed a few entries came through, and nothing of it is on the disk yet."""
        if not {teller, hearer} & self.away:
            feeds = [replica.feed for replica in self.replicas]
            self.replicas[hearer].hear(self.replicas[teller], dict(zip(feeds, most, strict=True)))

    @rule(who=who, place=places)
    def apply_one(self, who: int, place: int) -> None:
        replica = self.replicas[who]
        if waiting := sorted(path for path, wanted in replica.wanted.items() if replica.placed.get(path) != wanted):
            replica.apply_one(waiting[place % len(waiting)])

    @rule(who=who)
    def apply(self, who: int) -> None:
        self.replicas[who].apply()

    @rule(one=who, other=who)
    def meet(self, one: int, other: int) -> None:
        if not {one, other} & self.away:
            for hearer, teller in ((one, other), (other, one)):
                self.replicas[hearer].hear(self.replicas[teller])
                self.replicas[hearer].apply()

    @rule(who=who)
    def go_away(self, who: int) -> None:
        """Nobody hears of this device before everyone talks, however long that takes."""
        self.away.add(who)

    @rule()
    def everyone_talks(self) -> None:
        self.away = set()
        for _ in range(_ROUNDS):
            heads = [replica.head(replica.feed) for replica in self.replicas]
            for hearer in self.replicas:
                for teller in self.replicas:
                    hearer.hear(teller)
            for replica in self.replicas:
                replica.apply()
            if heads == [replica.head(replica.feed) for replica in self.replicas]:
                break
        else:
            raise AssertionError("they never come to an end")
        self.check()

    def teardown(self) -> None:
        self.everyone_talks()

    # The law.

    def check(self) -> None:
        first = self.replicas[0]
        shown = [
            {path: (version.kind, data_of(version), version.mode) for path, version in replica.tree().items()}
            for replica in self.replicas
        ]
        assert all(tree == shown[0] for tree in shown), "trees differ"
        assert all(replica.wanted == first.wanted for replica in self.replicas)
        held = {line for _, data, _ in shown[0].values() for line in data.splitlines(keepends=True)}
        assert self.written - self.taken <= held, "a value is lost that nobody took away"
        assert not self.gone & held, "a value came back from the dead"
        self.gone |= self.written - held
        self._check_coverage(first)

    def _check_coverage(self, replica: ModelReplica) -> None:
        """What is in no place and no copy is in history: whoever replaced it, or gave it another name, had seen it."""
        entries = [entry for known in replica.entries.values() for entry in known]
        standing = [wanted.version for wanted in replica.wanted.values()]
        for version in (v for entry in entries for v in entry.versions if v.kind in (Kind.FILE, Kind.SYMLINK)):
            if any(version.same_state(other) for other in standing):
                continue
            later = [entry for entry in entries if any(_replaces(v, version) for v in entry.versions)]
            assert later, f"{version.path} is nowhere, and nobody replaced it"
            assert all(entry.seen.get(version.dot.feed, 0) >= version.dot.seq for entry in later)

    def _at(self, who: int, place: int) -> tuple[ModelReplica, Path]:
        """A path this user may think of: one of a few names, or something he has, conflict copies among it."""
        replica = self.replicas[who]
        names = sorted({*NAMES, *replica.tree()})
        return replica, names[place % len(names)]

    def _had(self, who: int, place: int) -> tuple[ModelReplica, list[Path]]:
        """One of the things this user has, if he has any."""
        replica = self.replicas[who]
        names = sorted(replica.tree())
        return replica, names[place % len(names) :][:1] if names else []

    def _value(self) -> bytes:
        value = b"value %d\n" % len(self.written)
        self.written.add(value)
        return value

    def _remove(self, replica: ModelReplica, path: Path) -> None:
        self._take_away(replica, path)
        replica.remove(path)

    def _take_away(self, replica: ModelReplica, path: Path) -> None:
        for each in replica.below(path):
            self.taken |= set(data_of(replica.tree()[each]).splitlines(keepends=True))


def _replaces(later: Version, version: Version) -> bool:
    moved = later.origin is not None and later.origin.dot == version.dot
    return moved or (later.path == version.path and later.covers(version))


Law.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=30)
test_every_value_is_in_its_place_or_a_copy_or_was_taken_away_by_who_had_it = Law.TestCase
