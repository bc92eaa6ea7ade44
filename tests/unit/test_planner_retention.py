"""Laws of retention, the brake and undoing: pure decisions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2psync.ids import FeedId
from p2psync.index.versions import Dot, Kind, Version
from p2psync.planner.brake import LEAST_FILES, BrakeLimits, least_that_trips, trips
from p2psync.planner.retention import DAY, HOUR, JUMP_MS, KeepRules, SteadyClock, look_at_clock, outdated, over_size
from p2psync.planner.undoing import may_undo, state_before

NOW = 1_800_000_000_000
times = st.lists(st.integers(NOW - 500 * DAY * 1000, NOW + 10_000), max_size=60).map(sorted)
rules = st.builds(KeepRules, seconds=st.sampled_from([0, 30 * DAY, 365 * DAY]), size=st.just(0))
counts = st.integers(0, 5000)
limits = st.builds(BrakeLimits, percent=st.integers(0, 100), files=st.sampled_from([0, 1, 10, 1000]))


@given(times, rules)
def test_what_stays_is_as_dense_as_promised_and_nothing_more_goes_at_once(kept: list[int], keep: KeepRules) -> None:
    gone = set(outdated(kept, NOW, keep))
    stay = [time for position, time in enumerate(kept) if position not in gone]
    assert outdated(stay, NOW, keep) == []
    for position in gone:
        age = max(0, NOW - kept[position]) // 1000
        step = 30 if age <= HOUR else HOUR if age <= DAY else DAY if age <= 30 * DAY else 7 * DAY
        near = any(0 <= kept[position] - time < step * 1000 for time in stay)
        assert near or (keep.seconds and age > keep.seconds)
    young = [time for time in kept if not keep.seconds or max(0, NOW - time) // 1000 <= keep.seconds]
    assert not young or young[0] in stay  # the oldest that may stay does: the chain never starves


def test_a_month_of_saving_every_minute_leaves_some_ninety_versions() -> None:
    kept: list[int] = []
    for minute in range(0, 40 * 24 * 60, 7):
        now = NOW + minute * 60_000
        kept.append(now)
        if minute % 60 < 7:
            gone = set(outdated(kept, now, KeepRules()))
            kept = [time for position, time in enumerate(kept) if position not in gone]
    assert 50 < len(kept) < 120 and kept[0] == NOW


@given(st.lists(st.integers(0, 10 * DAY * 1000), max_size=30), st.integers(-3650, 3650))
def test_nothing_goes_by_age_within_a_day_of_a_jump(steps: list[int], days: int) -> None:
    clock: SteadyClock | None = None
    now = NOW
    for step in steps:
        now += min(step, HOUR * 1000)
        clock = look_at_clock(clock, now)
    jumped = look_at_clock(clock, now + days * DAY * 1000)
    if abs(days) > 1 or clock is None:
        assert not jumped.trusted
        later = jumped
        for hour in range(1, 24):
            later = look_at_clock(later, jumped.seen_ms + hour * HOUR * 1000)
            assert not later.trusted
        assert look_at_clock(later, jumped.seen_ms + JUMP_MS).trusted


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(0, 20_000))
def test_no_more_goes_than_the_size_asks(sizes: list[int], limit: int) -> None:
    count = over_size(sizes, sum(sizes), limit)
    assert sum(sizes[count:]) <= limit
    assert count == 0 or sum(sizes[count - 1 :]) > limit


@given(counts, counts, counts, limits)
def test_the_brake_is_monotone_and_never_trips_on_nothing_or_little(
    pending: int, lately: int, standing: int, brake: BrakeLimits
) -> None:
    held = trips(pending=pending, lately=lately, standing=standing, limits=brake)
    assert not trips(pending=0, lately=lately, standing=standing, limits=brake)
    if held:
        assert pending >= least_that_trips(lately, brake)
        assert trips(pending=pending + 1, lately=lately, standing=standing, limits=brake)
        assert trips(pending=pending, lately=lately, standing=max(0, standing - 1), limits=brake)
    if brake.files and pending and pending + lately > brake.files:
        assert held
    if pending + lately < LEAST_FILES and not (brake.files and pending + lately > brake.files):
        assert not held
    if not brake.files and not brake.percent:
        assert not held


def test_the_limits_are_where_they_are_said_to_be() -> None:
    def held(pending: int, standing: int, lately: int = 0) -> bool:
        return trips(pending=pending, lately=lately, standing=standing, limits=BrakeLimits())

    assert not held(25, 100) and held(26, 100)
    assert not held(19, 20) and held(20, 20)
    assert not held(1000, 100_000) and held(1001, 100_000)
    assert held(1, 100_000, lately=1000)
    assert not held(1, 100, lately=24) and held(1, 100, lately=25)


A, B = FeedId(b"a" * 32), FeedId(b"b" * 32)


def version(feed: FeedId, seq: int, kind: Kind = Kind.FILE, **vector: int) -> Version:
    named = {A if name == "a" else B: count for name, count in vector.items()}
    return Version(path=(b"p",), dot=Dot(feed, seq, 0), kind=kind, vector={**named, feed: seq}, hash=b"%d" % seq)  # type: ignore[arg-type]


def test_undoing_goes_back_to_what_was_seen_not_to_what_came_after_or_beside() -> None:
    first, base, bad, worse = version(A, 1), version(A, 2, a=2), version(B, 5, a=2), version(B, 6, a=2)
    beside, after = version(A, 3, a=3), version(A, 4, b=6)
    assert state_before([bad, worse], [first, base, beside, after]) == base
    assert state_before([bad], []) is None
    assert state_before([bad], [version(A, 2, Kind.DELETED, a=2)]) is None
    assert may_undo(worse.dot, [bad, worse]) and not may_undo(after.dot, [bad, worse])
