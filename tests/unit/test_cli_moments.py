"""Times, durations and sizes as people write them; everything else is one clear sentence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.cli.moments import parse_duration, parse_moment, parse_size
from p2psync.errors import UsageError

NOW = 1_800_000_000.0


def test_what_people_write_is_understood() -> None:
    assert parse_moment("1h", NOW) == 1_799_996_400_000 == parse_moment("60m ago", NOW)
    assert parse_moment("2d", NOW) == 1_799_827_200_000
    assert parse_moment("2026-03-14T09:30:00+00:00", NOW) == 1_773_480_600_000
    assert parse_moment("2026-03-14", NOW) // 1000 % 60 == 0
    assert (parse_duration("90d"), parse_duration("0"), parse_duration("1y")) == (7_776_000, 0, 31_536_000)
    assert (parse_size("20G"), parse_size("1.5 MiB"), parse_size("0"), parse_size("7")) == (20 << 30, 3 << 19, 0, 7)


@settings(max_examples=40)
@given(st.text(max_size=20))
def test_anything_else_is_refused_in_words(text: str) -> None:
    for parse in (lambda: parse_moment(text, NOW), lambda: parse_duration(text), lambda: parse_size(text)):
        try:
            assert 0 <= parse() < 1 << 63
        except UsageError as error:
            assert "write" in str(error)


@pytest.mark.parametrize(
    "text", ["", "soon", "1", "-1h", "2026-13-40", "٣h", "999999999999999999999y", "0001-01-01T00:00"]
)
def test_no_time_ends_in_a_traceback(text: str) -> None:
    try:
        assert parse_moment(text, NOW) >= 0
    except UsageError:
        pass
