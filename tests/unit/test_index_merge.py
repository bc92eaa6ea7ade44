"""Merging: every device that knows the same versions sees the same winner, losers and conflict copies."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto.hashing import content_hash
from p2psync.ids import FeedId, RecordHash
from p2psync.index.merge import Frontier, conflict_name, decide, derive_copies
from p2psync.index.paths import Path, refuse_reason
from p2psync.index.records import decode_version, encode_version, record_hash
from p2psync.index.versions import Content, Dot, Kind, Vector, Version, join_vectors

FEEDS = [FeedId(bytes([number]) * 32) for number in range(1, 6)]
PATH: Path = (b"notes", b"a.txt")


def make(
    feed: int, seq: int, kind: Kind, vector: Vector, *, content: int = 0, mode: int = 0o644, mtime: int = 0
) -> Version:
    """A version of PATH as a record would carry it; `content` picks its bytes or target."""
    rows = content_hash(bytes([content])) + (content + 1).to_bytes(4, "big")
    own = {**vector, FEEDS[feed]: seq}
    version = Version(
        path=PATH, dot=Dot(FEEDS[feed], seq, 0), kind=kind, vector=own,
        size=content + 1 if kind is Kind.FILE else 0, mtime_ns=mtime if kind is Kind.FILE else 0,
        mode=0 if kind is Kind.DELETED else mode, target=b"to %d" % content if kind is Kind.SYMLINK else None,
        content=Content(chunks=rows) if kind is Kind.FILE else Content(),
    )  # fmt: skip
    return decode_version(encode_version(version), version.dot)


@st.composite
def histories(draw: st.DrawFn) -> list[Version]:
    """What up to four devices write when each edits what it sees, and now and then hears of what others wrote."""
    known = [Frontier() for _ in range(4)]
    written: list[Version] = []
    for number in range(draw(st.integers(1, 10))):
        who = draw(st.integers(0, 3))
        for heard in draw(st.lists(st.integers(0, max(0, len(written) - 1)), max_size=3)) if written else []:
            # A device admits another's versions together with all their author had seen.
            for version in written[: heard + 1]:
                known[who] = known[who].add(version)
        # Its vector takes in its own earlier version, which its counter covers whether it won or not.
        held = known[who].versions
        own = [v.vector for v in held if v.dot.feed == FEEDS[who]]
        base = join_vectors([decide(held).vector, *own]) if held else {}
        version = make(
            who, number + 1, draw(st.sampled_from(Kind)), base, content=draw(st.integers(0, 2)),
            mode=draw(st.sampled_from([0o644, 0o755])), mtime=draw(st.integers(0, 2)) * 10**9,
        )  # fmt: skip
        written.append(version)
        known[who] = known[who].add(version)
    return written


def merged(versions: list[Version]) -> list[Version]:
    return list(frontier_of(versions).versions)


def frontier_of(versions: list[Version]) -> Frontier:
    frontier = Frontier()
    for version in versions:
        frontier = frontier.add(version)
    return frontier


def copies_of(losers: tuple[Version, ...], settled: set[Dot] | None = None) -> list[tuple[Path, Dot]]:
    found = derive_copies(losers, lambda v: f"DEVICE{v.dot.feed[0]}", lambda _: False, settled or set())
    return [(copy.path, copy.loser.dot) for copy in found]


@given(histories(), st.randoms(use_true_random=False))
def test_the_outcome_does_not_depend_on_order_or_repetition(written: list[Version], random: Random) -> None:
    """Properties 7 and 58."""
    frontier = merged(written)
    shuffled = [*written, *random.choices(written, k=3)]
    random.shuffle(shuffled)
    other = merged(shuffled)
    assert {v.dot for v in frontier} == {v.dot for v in other}
    assert decide(frontier) == decide(other)
    assert copies_of(decide(frontier).losers) == copies_of(decide(other).losers)


@given(histories())
def test_the_frontier_is_what_no_other_version_covers(written: list[Version]) -> None:
    expected = {v.dot for v in written if not any(other.covers(v) for other in written)}
    assert {v.dot for v in merged(written)} == expected


@given(histories())
def test_honest_vectors_leave_nothing_to_remember_beyond_the_frontier(written: list[Version]) -> None:
    assert frontier_of(written).beyond == {}


@st.composite
def lies(draw: st.DrawFn) -> list[Version]:
    """Versions with any vectors at all, as malicious members may publish them; none claims another's future."""
    made: list[Version] = []
    for number in range(1, draw(st.integers(2, 7))):
        who = draw(st.integers(0, 3))
        claims = {FEEDS[v.dot.feed[0] - 1]: v.dot.seq for v in made if draw(st.booleans())}
        made.append(make(who, number, draw(st.sampled_from([F, F, X])), claims, content=draw(st.integers(0, 2))))
    return made


@given(lies(), st.randoms(use_true_random=False))
def test_vectors_that_are_not_closed_give_every_device_the_same_frontier(
    written: list[Version], random: Random
) -> None:
    """A covers B, B covers C, A says nothing of C: whoever hears C last must not bring it back."""
    expected = {v.dot for v in written if not any(other.covers(v) for other in written)}
    shuffled = [*written, *random.choices(written, k=3)]
    random.shuffle(shuffled)
    assert {v.dot for v in merged(shuffled)} == expected


def test_members_who_claim_to_have_seen_each_others_future_leave_the_path_a_version() -> None:
    one, two = make(0, 1, F, {FEEDS[1]: 2**53 - 1}, content=1), make(1, 1, F, {FEEDS[0]: 9}, content=2)
    assert merged([one, two]) and merged([two, one])


@given(histories())
def test_every_value_in_the_frontier_stands_somewhere_or_loses_to_an_edit(written: list[Version]) -> None:
    """Property 58: in place, in a conflict copy, or a directory or delete that holds nothing itself."""
    frontier = merged(written)
    outcome = decide(frontier)
    shown = [outcome.winner, *outcome.losers]
    for version in frontier:
        if version.kind in (Kind.FILE, Kind.SYMLINK):
            assert sum(version.same_state(other) for other in shown) == 1
    assert not any(loser.same_state(outcome.winner) for loser in outcome.losers)
    assert list(outcome.losers) == sorted(outcome.losers, key=lambda v: v.dot)
    assert outcome.vector == join_vectors(v.vector for v in frontier if v.same_state(outcome.winner))
    assert outcome.winner.live or not any(v.live for v in frontier)


@given(histories())
def test_an_edit_of_anothers_winner_covers_it_and_no_loser(written: list[Version]) -> None:
    frontier = merged(written)
    outcome = decide(frontier)
    edit = make(4, 1000, Kind.FILE, outcome.vector, content=9)
    after = merged([*frontier, edit])
    equal = {v.dot for v in frontier if v.same_state(outcome.winner)}
    assert {v.dot for v in after} >= {edit.dot, *(loser.dot for loser in outcome.losers)}
    assert not equal & {v.dot for v in after}


def test_an_edit_covers_its_authors_own_loser_so_that_one_is_published_first() -> None:
    """One counter a feed cannot leave an earlier version out: whoever writes must keep his own loser by other means."""
    mine, theirs = sorted((make(0, 1, F, {}, content=1), make(1, 1, F, {}, content=2)), key=lambda v: v.hash)
    assert decide([mine, theirs]).losers == (mine,)
    edit = make(FEEDS.index(mine.dot.feed), 2, F, theirs.vector, content=0)
    assert merged([mine, theirs, edit]) == [edit]


def concurrent(*kinds: tuple[Kind, int]) -> list[Version]:
    return [make(number, 1, kind, {}, content=content) for number, (kind, content) in enumerate(kinds)]


D, F, S, X = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK, Kind.DELETED


@pytest.mark.parametrize(
    ("one", "two", "winner", "copies"),
    [
        ((F, 1), (F, 2), F, 1), ((F, 1), (F, 1), F, 0), ((F, 1), (X, 0), F, 0), ((X, 0), (X, 0), X, 0),
        ((D, 0), (F, 1), D, 1), ((D, 0), (S, 1), D, 1), ((D, 0), (X, 0), D, 0), ((D, 0), (D, 0), D, 0),
        ((F, 1), (S, 1), F, 1), ((S, 1), (S, 2), S, 1), ((S, 1), (S, 1), S, 0), ((S, 1), (X, 0), S, 0),
    ],
)  # fmt: skip
def test_the_table_of_outcomes(one: tuple[Kind, int], two: tuple[Kind, int], winner: Kind, copies: int) -> None:
    """The table in docs/formats.md, both ways round."""
    for versions in (concurrent(one, two), concurrent(two, one)):
        outcome = decide(merged(versions))
        assert outcome.winner.kind is winner and len(outcome.losers) == copies
        assert outcome.winner.hash == max(v.hash for v in versions if v.kind is winner)


def test_concurrent_edits_keep_both_versions() -> None:
    one, two = concurrent((F, 1), (F, 2))
    outcome = decide([one, two])
    assert {outcome.winner.content.chunks, outcome.losers[0].content.chunks} == {one.content.chunks, two.content.chunks}


def test_a_concurrent_change_of_mode_and_of_content_keeps_both() -> None:
    base = make(0, 1, F, {}, content=1)
    chmod = make(1, 1, F, base.vector, content=1, mode=0o755)
    edit = make(2, 1, F, base.vector, content=2)
    outcome = decide(merged([base, chmod, edit]))
    assert {outcome.winner.dot, outcome.losers[0].dot} == {chmod.dot, edit.dot}


def test_another_modification_time_alone_makes_no_conflict() -> None:
    one, two = make(0, 1, F, {}, content=1, mtime=1), make(1, 1, F, {}, content=1, mtime=2)
    outcome = decide([one, two])
    assert outcome.losers == () and outcome.vector == join_vectors([one.vector, two.vector])


def test_two_changes_of_mode_alone_make_no_conflict() -> None:
    one, two = make(0, 1, F, {}, content=1, mode=0o600), make(1, 1, F, {}, content=1, mode=0o755)
    outcome = decide([one, two])
    assert outcome.losers == () and outcome.winner.hash == max(one.hash, two.hash)


def test_clocks_do_not_choose_the_winner() -> None:
    """Property 57."""
    for early, late in itertools.permutations((0, 10**18)):
        one, two = make(0, 1, F, {}, content=1, mtime=early), make(1, 1, F, {}, content=2, mtime=late)
        outcome = decide([one, two])
        assert outcome.winner.hash == max(one.hash, two.hash)


def test_a_delete_of_an_unseen_edit_deletes_nothing() -> None:
    base = make(0, 1, F, {}, content=1)
    edit, gone = make(0, 2, F, base.vector, content=2), make(1, 1, X, base.vector)
    assert decide(merged([base, gone, edit])).winner == edit
    seen = make(1, 2, X, edit.vector)
    assert decide(merged([base, gone, edit, seen])).winner.kind is X


def test_a_high_counter_of_one_feed_does_not_cover_another() -> None:
    """Property 29."""
    loud = make(0, 2**53 - 1, F, {}, content=1)
    quiet = make(1, 1, F, {}, content=2)
    assert len(merged([loud, quiet])) == 2
    later = make(1, 2, F, join_vectors([loud.vector, quiet.vector]), content=0)
    assert merged([loud, quiet, later]) == [later]


def test_settled_losers_are_never_derived_again() -> None:
    outcome = decide(concurrent((F, 0), (F, 1), (F, 2), (D, 0)))
    dots = [dot for _, dot in copies_of(outcome.losers)]
    assert len(dots) == 3
    for count in range(4):
        settled = set(dots[:count])
        assert [dot for _, dot in copies_of(outcome.losers, settled)] == dots[count:]


# --- names of conflict copies --------------------------------------------------------

NEW_YEAR = 1_767_225_600 * 10**9  # 2026-01-01 00:00:00 UTC


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.txt", b"a.sync-conflict-20260101-000000-ABCDEFG.txt"),
        (b"a", b"a.sync-conflict-20260101-000000-ABCDEFG"),
        (b"a.tar.gz", b"a.tar.sync-conflict-20260101-000000-ABCDEFG.gz"),
        (b".bashrc", b".bashrc.sync-conflict-20260101-000000-ABCDEFG"),
        (b"a.", b"a.sync-conflict-20260101-000000-ABCDEFG"),
        (b"\xff.\xfe", b"\xff.sync-conflict-20260101-000000-ABCDEFG.\xfe"),
    ],
)
def test_a_conflict_name_has_the_form_that_users_know(name: bytes, expected: bytes) -> None:
    assert conflict_name(name, NEW_YEAR + 999_999_999, "ABCDEFG") == expected


NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: refuse_reason((name,)) is None)


@given(NAMES, st.integers(-(2**63), 2**63 - 1))
def test_a_conflict_name_is_a_name_any_record_may_carry(name: bytes, mtime: int) -> None:
    made = conflict_name(name, mtime, "ABCDEFG")
    assert refuse_reason((made,)) is None and b".sync-conflict-" in made


@pytest.mark.parametrize("extension", [b"", b".txt", b"." + b"e" * 190, b"." + b"e" * 205, b"." + b"e" * 250])
def test_long_names_are_cut_and_still_differ(extension: bytes) -> None:
    room = 255 - len(extension)
    names = [b"n" * (room - 1) + bytes([last]) + extension for last in b"abc"]
    made = {conflict_name(name, 0, "ABCDEFG") for name in names}
    assert len(made) == 3 and all(len(name) <= 255 for name in made)


def test_a_long_name_is_not_cut_inside_a_character() -> None:
    for filler in range(4):
        name = b"x" * filler + "\u4e16".encode() * 83
        conflict_name(name, 0, "ABCDEFG").decode()


@given(st.integers(0, 5000), st.sampled_from([-(2**63), -1, 0, 1, NEW_YEAR, 2**63 - 1, 253402300799 * 10**9, 2**70]))
def test_later_names_all_differ_whatever_the_time(count: int, mtime: int) -> None:
    """Property 29: times before 1970 and at the end of the calendar must not stop the search for a free name."""
    assert conflict_name(b"a", mtime, "ABCDEFG", count) != conflict_name(b"a", mtime, "ABCDEFG", count + 1)


@pytest.mark.parametrize("mtime", [-(2**63) + 1, -1, 0, 2**63 - 1])
def test_names_that_clash_move_on_one_second_in_dot_order(mtime: int) -> None:
    losers = decide(
        [make(0, 1, D, {}), *(make(feed, 1, F, {}, content=feed, mtime=mtime) for feed in (1, 2, 3))]
    ).losers
    found = derive_copies(losers, lambda _: "ABCDEFG", lambda _: False, set())
    assert [copy.loser.dot for copy in found] == sorted(v.dot for v in losers)
    assert len({copy.path for copy in found}) == 3
    expected = [conflict_name(b"a.txt", mtime, "ABCDEFG", later) for later in range(3)]
    assert [copy.path[-1] for copy in found] == expected
    moved = derive_copies(losers, lambda _: "ABCDEFG", lambda path: path[-1] == expected[0], set())
    assert [copy.path[-1] for copy in moved] == [*expected[1:], conflict_name(b"a.txt", mtime, "ABCDEFG", 3)]


def test_a_version_never_covers_itself_and_covers_its_authors_earlier_ones() -> None:
    one, two = make(0, 1, F, {}), make(0, 2, F, {})
    assert not one.covers(one) and two.covers(one) and not one.covers(two)


def test_a_version_heard_twice_counts_once() -> None:
    one = make(0, 1, F, {})
    again = replace(one, hash=RecordHash(record_hash(b"other")))
    assert merged([one, again]) == [one]
