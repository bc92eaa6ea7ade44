"""Three-way merges of text: both sides' lines are in what comes out, whichever side comes first, or nothing comes out."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.ids import FeedId, RecordHash
from p2psync.index.text_merging import common_ancestor, is_text, may_merge, merge_text
from p2psync.index.versions import Dot, Kind, Vector, Version

LINES = st.lists(
    st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d\r\n", b"e\rf\n", "ä\u2028\n".encode()]), max_size=12
)
ENDS = st.sampled_from([b"", b"", b"end", b"a"])
TEXTS = st.builds(lambda lines, end: b"".join(lines) + end, LINES, ENDS)
UNIQUE = st.lists(st.integers(0, 60), unique=True, max_size=20).map(
    lambda numbers: b"".join(b"line %d\n" % number for number in numbers)
)


def lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line]


@given(TEXTS, TEXTS)
def test_a_side_that_changed_nothing_has_no_say(base: bytes, other: bytes) -> None:
    assert merge_text(base, base, other) == other == merge_text(base, other, base)
    assert merge_text(base, other, other) == other


@given(st.one_of(TEXTS, UNIQUE), st.one_of(TEXTS, UNIQUE), st.one_of(TEXTS, UNIQUE))
def test_the_result_is_the_same_whichever_side_comes_first(base: bytes, one: bytes, other: bytes) -> None:
    assert merge_text(base, one, other) == merge_text(base, other, one)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A text of distinct lines and two edits of it: lines replaced, put in and taken out."""
    base = [b"%d\n" % number for number in range(draw(st.integers(0, 30)))]
    sides = []
    for mark in (b"x", b"y"):
        side = list(base)
        for number in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, max(0, len(side) - 1)))
            side[place : place + draw(st.integers(0, 2))] = [
                mark + b"%d.%d\n" % (number, n) for n in range(draw(st.integers(0, 2)))
            ]
        sides.append(b"".join(side))
    return b"".join(base), sides[0], sides[1]


@given(st.one_of(edited(), st.tuples(UNIQUE, UNIQUE, UNIQUE), st.tuples(TEXTS, TEXTS, TEXTS)))
def test_no_line_is_lost_and_none_made_up(texts: tuple[bytes, bytes, bytes]) -> None:
    """Every line that a side has and the ancestor has not is in a clean result; what both kept is kept.

    That is said of lines that stand once in the ancestor: of two alike each side may have taken another one away.
    """
    base, one, other = texts
    merged = merge_text(base, one, other)
    if merged is None:
        return
    said, was = set(lines(merged)), set(lines(base))
    once = {line for line in was if lines(base).count(line) == 1}
    assert said >= (set(lines(one)) | set(lines(other))) - was
    assert said >= once & set(lines(one)) & set(lines(other))
    assert said <= was | set(lines(one)) | set(lines(other))


@given(edited())
def test_changes_far_apart_merge(texts: tuple[bytes, bytes, bytes]) -> None:
    base, one, other = texts
    space = b"".join(b"between %d\n" % number for number in range(5))
    assert merge_text(base + space + base, one + space + base, base + space + other) == one + space + other


@pytest.mark.parametrize(
    ("base", "one", "other", "merged"),
    [
        (b"1\n2\n3\n", b"1a\n2\n3\n", b"1\n2\n3b\n", b"1a\n2\n3b\n"),
        (b"1\n2\n3\n", b"1\n3\n", b"1\n2\n3\n4\n", b"1\n3\n4\n"),
        (b"1\n2\n3\n", b"0\n1\n2\n3\n", b"1\n2\n3", b"0\n1\n2\n3"),
        (b"1\n2\n", b"1a\n2\n", b"1b\n2\n", None),
        (b"1\n2\n", b"1a\n2\n", b"1\n2b\n", None),
        (b"1\n2\n3\n", b"1\n3\n", b"1\n2b\n3\n", None),
        (b"1\n", b"1\n2\n", b"1\n3\n", None),
        (b"", b"a\n", b"b\n", None),
        (b"1\n2\n3\n", b"1\x00\n2\n3\n", b"1\n2\n3b\n", None),
        (b"1\n2\n3\n", b"\xff\n2\n3\n", b"1\n2\n3b\n", None),
        (b"1\r\n2\r\n3\r\n", b"1a\r\n2\r\n3\r\n", b"1\r\n2\r\n3b\r\n", b"1a\r\n2\r\n3b\r\n"),
    ],
)
def test_what_merges_and_what_does_not(base: bytes, one: bytes, other: bytes, merged: bytes | None) -> None:
    """The same or neighbouring lines are a conflict, as git judges."""
    assert merge_text(base, one, other) == merged


@pytest.mark.parametrize("line", [b"\n", b"}\n", b"%d\n"])
def test_lines_chosen_by_a_stranger_do_not_take_minutes(line: bytes) -> None:
    base = b"".join(line % (number % 97) if b"%" in line else line for number in range(30_000))
    started = time.process_time()
    merge_text(base, b"x\n" + base[: len(base) // 2] + base + b"y\n", b"z\n" + base[len(base) // 2 :])
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", [b"a.md", b"Makefile", b"x.py", b"conf.toml", b".bashrc", b"a.min.txt"])
def test_names_of_text_may_be_merged(name: bytes) -> None:
    assert may_merge((b"d.svg", name), version(1, 1, {}))


@pytest.mark.parametrize(
    "name", [b"a.SVG", b"poetry.lock", b"jquery.min.js", b"n.ipynb", b"a.sync-conflict-20260101-000000-ABCDEFG.md"]
)
def test_text_that_means_something_only_as_a_whole_is_not_merged(name: bytes) -> None:
    assert not may_merge((name,), version(1, 1, {}))


def test_what_is_no_small_file_is_not_merged() -> None:
    large = Version(path=(b"a",), dot=Dot(FEEDS[0], 1, 0), kind=Kind.FILE, vector={}, size=(1 << 20) + 1)
    assert not may_merge((b"a",), large) and not is_text(b"a" * ((1 << 20) + 1)) and is_text(b"a" * (1 << 20))
    assert not may_merge((b"a",), version(1, 1, {}), version(2, 1, {}, Kind.SYMLINK))


FEEDS = [FeedId(bytes([number]) * 32) for number in range(5)]


def version(feed: int, seq: int, seen: Vector, kind: Kind = Kind.FILE) -> Version:
    own = {**seen, FEEDS[feed]: seq}
    return Version(
        path=(b"a",), dot=Dot(FEEDS[feed], seq, 0), kind=kind, vector=own, hash=RecordHash(b"%d %d" % (feed, seq))
    )


def test_the_ancestor_is_the_last_version_that_both_had_seen() -> None:
    first, second = version(1, 1, {}), version(2, 1, {FEEDS[1]: 1})
    one = version(1, 5, {FEEDS[2]: 1})
    step = version(3, 1, {FEEDS[1]: 1, FEEDS[2]: 1})
    other = version(3, 2, {FEEDS[1]: 1, FEEDS[2]: 1})
    assert common_ancestor(one, other, [step, first, one, second, other]) == second
    assert common_ancestor(version(1, 1, {}), version(2, 1, {}), [first]) is None


def test_two_last_common_versions_are_no_ancestor() -> None:
    one, other = version(1, 1, {}), version(2, 1, {})
    seen = {FEEDS[1]: 1, FEEDS[2]: 1}
    assert common_ancestor(version(3, 1, seen), version(4, 1, seen), [one, other]) is None
