"""Laws of the pairing code as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import UserError
from p2psync.pairing.words import Code, _lists, looks_like_code, make_words, parse_code
from tests.support.pairing import SeededRandomness

EXAMPLE = Code(7, ("crossover", "clockwork", "aztec"))


def test_the_example_of_the_documentation_is_a_code() -> None:
    assert parse_code("7-crossover-clockwork-aztec") == EXAMPLE
    assert str(EXAMPLE) == "7-crossover-clockwork-aztec"


@pytest.mark.parametrize(
    "typed",
    [
        "7 CROSSOVER clockwork Aztec",
        " 7-cross-clockw-azt ",
        "7 - crossover - clockwork - aztec\n",
        "07_crossover_clockwork_aztec",
    ],
)
def test_case_spaces_and_unique_beginnings_do_not_matter(typed: str) -> None:
    assert parse_code(typed) == EXAMPLE


@pytest.mark.parametrize(
    "typed",
    ["", "7", "7-crossover-clockwork", "crossover-clockwork-aztec", "7-crossover-clockwork-aztec-aztec",
     "0-crossover-clockwork-aztec",
     "7-aztec-clockwork-crossover", "7-crossover-clockwork-a", "7-crossover-clockwork-b", "7-\x1b[31m-clockwork-aztec",
     "٧-crossover-clockwork-aztec", "999999999999999999999-crossover-clockwork-aztec", "x" * 10_000],
)  # fmt: skip
def test_anything_else_is_refused_with_a_printable_sentence(typed: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_code(typed)
    assert str(caught.value).isprintable()


@given(st.integers(1, 99_999), st.binary(min_size=3, max_size=3))
def test_every_code_reads_back(nameplate: int, choice: bytes) -> None:
    code = Code(nameplate, tuple(words[byte] for words, byte in zip(_lists(), choice, strict=True)))
    assert parse_code(str(code)) == code
    assert parse_code(str(code).upper().replace("-", " ")) == code


def test_words_carry_24_bits_and_their_places_differ() -> None:
    assert all(len(set(words)) == 256 for words in _lists())
    assert not set(_lists()[0]) & set(_lists()[1])
    assert make_words(SeededRandomness(1)) != make_words(SeededRandomness(2))


def test_a_lone_argument_is_told_from_a_path() -> None:
    assert looks_like_code("7-crossover-clockwork-aztec") and looks_like_code("7 cross clock azt")
    assert not any(map(looks_like_code, ["photos", "./7-a-b-c/x", "/srv/data", "2024", "notes-2024"]))


def test_a_code_does_not_show_its_words_in_repr() -> None:
    assert "crossover" not in repr(EXAMPLE)
