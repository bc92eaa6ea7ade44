"""Device ids: what people read aloud and type finds its own mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.ids import DeviceId, format_device_id, parse_device_id, short_device_id

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
DIGESTS = st.binary(min_size=32, max_size=32)


@given(DIGESTS)
def test_a_device_id_reads_back_as_its_digest(digest: bytes) -> None:
    text = format_device_id(digest)
    assert parse_device_id(text) == digest
    assert parse_device_id(text.lower().replace("-", " ")) == digest
    assert parse_device_id(text.replace("-", "")) == digest


@given(DIGESTS)
def test_a_device_id_is_eight_groups_of_seven(digest: bytes) -> None:
    groups = format_device_id(digest).split("-")
    assert [len(group) for group in groups] == [7] * 8
    assert set("".join(groups)) <= set(ALPHABET)
    assert short_device_id(DeviceId("-".join(groups))) == groups[0]


@pytest.mark.parametrize("seed", range(3))
def test_every_single_wrong_character_is_found(seed: int) -> None:
    text = format_device_id(bytes((seed * 91 + place * 37) % 256 for place in range(32)))
    for place, character in enumerate(text):
        if character == "-":
            continue
        for wrong in set(ALPHABET) - {character}:
            with pytest.raises(ValueError, match="mistyped"):
                parse_device_id(text[:place] + wrong + text[place + 1 :])


@pytest.mark.parametrize("wrong", ["0", "1", "8", "9", "ß", "\n", "$"])
def test_a_character_outside_the_alphabet_is_named(wrong: str) -> None:
    text = format_device_id(bytes(32)).replace("-", "")
    with pytest.raises(ValueError):
        parse_device_id(wrong + text[1:])


@pytest.mark.parametrize("change", [-1, 1, -56, 56])
def test_a_wrong_length_is_named(change: int) -> None:
    text = format_device_id(bytes(32)).replace("-", "") * 2
    with pytest.raises(ValueError, match=str(56 + change)):
        parse_device_id(text[: 56 + change])


@given(DIGESTS, DIGESTS)
def test_different_digests_have_different_ids(left: bytes, right: bytes) -> None:
    assert (format_device_id(left) == format_device_id(right)) == (left == right)


@given(DIGESTS, st.integers(1, 15))
def test_a_device_has_one_text_only(digest: bytes, extra: int) -> None:
    """The last data character has four bits no digest fills; set, they would give a second text with right checks."""
    plain = format_device_id(digest).replace("-", "")
    last = plain[42:54] + ALPHABET[ALPHABET.index(plain[54]) | extra]
    for check in ALPHABET:
        with pytest.raises(ValueError, match="mistyped"):
            parse_device_id(plain[:42] + last + check)
