"""The planner's two decisions, over all their inputs: what to do about a path, and which bytes to ask for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.index.versions import Kind
from p2psync.limits import CHUNK_MAX, KIB, MIB
from p2psync.planner.fetching import GAP, SEGMENT_MAX, WantedFrame, plan_segments
from p2psync.planner.grouping import grouped
from p2psync.planner.steps import Step, decide_step

VIEWS = [None, *Kind]
LIVE = [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK]
CHANGES = {Step.WRITE, Step.LINK, Step.MOVE, Step.DIRECTORY, Step.DELETE}
Inputs = tuple[Kind | None, Kind | None, Kind | None, bool, bool, bool]


def possible() -> list[Inputs]:
    """Every combination of views that the disk and the catalog can show."""
    found = []
    for wanted, placed, disk, as_placed, content, meta in itertools.product(
        VIEWS, VIEWS, [None, *LIVE], *[(False, True)] * 3
    ):
        # The disk cannot look as placed where either shows nothing, or another kind.
        if as_placed and (disk is None or disk is not placed):
            continue
        if (content or meta) and (wanted is not placed or wanted not in LIVE):
            continue
        found.append((wanted, placed, disk, as_placed, content, meta))
    return found


def step_of(inputs: Inputs) -> Step:
    wanted, placed, disk, as_placed, content, meta = inputs
    return decide_step(
        wanted=wanted, placed=placed, disk=disk, as_placed=as_placed, same_content=content, same_meta=meta
    )


@pytest.mark.parametrize("inputs", possible())
def test_nothing_on_disk_is_replaced_or_removed_unless_it_is_exactly_what_was_placed(inputs: Inputs) -> None:
    """The law the whole floor rests on."""
    _, _, disk, as_placed, _, _ = inputs
    if disk is not None and not as_placed:
        assert step_of(inputs) not in CHANGES


@pytest.mark.parametrize("inputs", possible())
def test_a_missing_file_that_was_placed_is_looked_at_and_never_written_back(inputs: Inputs) -> None:
    """The user may just have deleted it: only the scanner may say so."""
    wanted, placed, disk, *_ = inputs
    if disk is None and placed in LIVE and wanted in LIVE:
        assert step_of(inputs) is Step.LOOK


@pytest.mark.parametrize("inputs", possible())
def test_a_step_brings_what_is_wanted(inputs: Inputs) -> None:
    wanted, placed, disk, as_placed, content, meta = inputs
    step = step_of(inputs)
    made = {Step.WRITE: Kind.FILE, Step.LINK: Kind.SYMLINK, Step.DIRECTORY: Kind.DIRECTORY}
    if step in made:
        assert wanted is made[step]
    if step is Step.DELETE:
        assert wanted in (None, Kind.DELETED) and placed in LIVE and as_placed
    if step is Step.META:
        assert wanted is disk is not None
    if step is Step.RECORD and wanted in LIVE:
        assert as_placed and content and meta
    if as_placed and wanted in LIVE and not content:
        assert step in made
    assert step is not Step.MOVE  # the executor chooses it in place of a WRITE


def test_a_path_where_nothing_stands_and_nothing_was_placed_is_made() -> None:
    for wanted, placed in itertools.product(LIVE, (None, Kind.DELETED)):
        assert step_of((wanted, placed, None, False, False, False)) in (Step.WRITE, Step.LINK, Step.DIRECTORY)


def frames_of(rows: list[tuple[int, int, int]]) -> list[WantedFrame]:
    """Frames that do not overlap, as a pack's table gives them: (pack, gap before, sealed size)."""
    ends: dict[int, int] = {}
    frames = []
    for number, (pack, gap, size) in enumerate(rows):
        position = ends.get(pack, 57) + gap
        ends[pack] = position + size
        frames.append(WantedFrame(number.to_bytes(32, "big"), pack, number, position, size, size))
    return frames


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([0, 1, GAP, GAP + 1, MIB]),
        st.sampled_from([17, 4 * KIB, MIB, SEGMENT_MAX - 1, SEGMENT_MAX, CHUNK_MAX + 17]),
    ),
    max_size=40,
)  # fmt: skip


@given(ROWS, st.randoms(use_true_random=False))
def test_every_frame_is_asked_for_once_in_bounded_requests(rows: list[tuple[int, int, int]], random) -> None:  # type: ignore[no-untyped-def]
    frames = frames_of(rows)
    shuffled = frames.copy()
    random.shuffle(shuffled)
    segments = plan_segments(shuffled)
    assert sorted(f.index for s in segments for f in s.frames) == [f.index for f in frames]
    for segment in segments:
        assert segment.frames
        assert segment.size <= SEGMENT_MAX or len(segment.frames) == 1
        for frame in segment.frames:
            assert frame.pack == segment.pack
            assert segment.position <= frame.position
            assert frame.position + frame.sealed_size <= segment.position + segment.size
        wasted = segment.size - sum(f.sealed_size for f in segment.frames)
        assert wasted <= GAP * (len(segment.frames) - 1)
    assert plan_segments(frames) == segments


@given(ROWS)
def test_neighbours_that_could_share_a_request_do(rows: list[tuple[int, int, int]]) -> None:
    segments = plan_segments(frames_of(rows))
    for one, two in itertools.pairwise(segments):
        gap = two.position - one.position - one.size
        first = two.frames[0]
        joined = first.position + first.sealed_size - one.position
        assert one.pack != two.pack or gap > GAP or joined > SEGMENT_MAX


def test_a_whole_pack_is_read_in_few_requests() -> None:
    segments = plan_segments(frames_of([(0, 0, 64 * KIB)] * 255))
    assert len(segments) == 4 and plan_segments([]) == []


@given(st.lists(st.integers(0, 50)), st.integers(1, 6), st.integers(0, 60))
def test_groups_keep_the_order_and_the_bounds(sizes: list[int], most: int, most_bytes: int) -> None:
    groups = grouped(sizes, lambda size: size, most=most, most_bytes=most_bytes)
    assert [size for group in groups for size in group] == sizes
    assert all(0 < len(group) <= most and (sum(group) <= most_bytes or len(group) == 1) for group in groups)
    assert all(len(left) == most or sum(left) + right[0] > most_bytes for left, right in itertools.pairwise(groups)), (
        "no group ends early"
    )


@given(st.lists(st.integers(0, 50)), st.integers(1, 20), st.integers(0, 60), st.integers(1, 9))
def test_groups_that_begin_small_at_most_double(sizes: list[int], most: int, most_bytes: int, first: int) -> None:
    groups = grouped(sizes, lambda size: size, most=most, most_bytes=most_bytes, first=first)
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= most_bytes or len(group) == 1 for group in groups)
    rooms = [min(most, first << number) for number in range(len(groups))]
    assert all(0 < len(group) <= room for group, room in zip(groups, rooms, strict=True))
    assert all(
        len(left) == room or sum(left) + right[0] > most_bytes
        for (left, right), room in zip(itertools.pairwise(groups), rooms[:-1], strict=True)
    ), "no group ends early"
