"""What users write for addresses: read as meant, or refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import UsageError, UserError
from p2psync.net.addresses import Address, Announced, parse_address, parse_announced, parse_place


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.7:5", "192.0.2.7", 5), ("192.0.2.7", "192.0.2.7", 22400), ("[2001:DB8::1]:5", "2001:db8::1", 5),
        ("2001:db8::1", "2001:db8::1", 22400), ("[2001:db8::1]", "2001:db8::1", 22400), ("Desk", "desk", 22400),
        ("desk.example.org:443", "desk.example.org", 443), (" my_desk.lan. ", "my_desk.lan.", 22400),
    ],
)  # fmt: skip
def test_a_place_is_read_as_people_write_it(text: str, host: str, port: int) -> None:
    assert parse_place(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":5", "desk:0", "desk:65536", "desk:x", "a b:5", "-desk:5", "desk..lan:5", "[desk]:5", "1.2.3:5", "0.0.0.0:5",
     "224.0.0.1:5", "300.1.1.1:5", "https://desk:5", "desk:5:6", "x" * 254, "dеsk:5"],
)  # fmt: skip
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_place(text)


@given(st.text(max_size=40))
def test_a_place_is_stored_as_it_was_read(text: str) -> None:
    try:
        place = parse_place(text)
    except UserError:
        return
    assert parse_place(str(place)) == place


def test_what_is_announced_is_an_address_or_a_port() -> None:
    assert parse_announced(":443") == Announced(None, 443)
    assert parse_announced("[2001:db8::1]:5") == Announced("2001:db8::1", 5)
    for wrong in ("", ":", ":0", "desk:5", "192.0.2.7", "0.0.0.0:5", ":x"):
        with pytest.raises(UsageError):
            parse_announced(wrong)
    assert parse_address("desk:5") is None, "names that others tell are not looked up"
