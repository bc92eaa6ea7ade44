"""Presence slots and LAN beacons: members understand them, nobody else learns anything, nobody speaks for another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto.signing import SigningKey
from p2psync.errors import IntegrityError, P2psyncError
from p2psync.ids import Ciphertext, FolderId, IdentityKey
from p2psync.limits import SLOT_BYTES
from p2psync.vault.beacon import (
    ANNOUNCEMENT_BYTES,
    BEACON_BYTES,
    beacon_tag,
    build_announcement,
    open_beacon,
    seal_beacon,
    split_announcement,
)
from p2psync.vault.presence import ADDRESSES_MAX, Presence, open_presence, seal_presence, slot_id
from p2psync.vault.secrets import first_epoch
from tests.support.vectors import EPOCH, FOLDER, load, material

KEY, OTHER = SigningKey(material("one who tells")), SigningKey(material("another member"))
IDENTITY = IdentityKey(KEY.public)
SAID = Presence(identity=IDENTITY, name="desk", addresses=("192.0.2.1:22400",), counter=7, expiry=1_700_000_000)
LATER = first_epoch(FOLDER, material("later epoch"))
SALT = material("salt")


def sealed(said: Presence = SAID, key: SigningKey = KEY) -> Ciphertext:
    return seal_presence(FOLDER, EPOCH, said, key, SALT)


@given(
    st.text(max_size=32),
    st.lists(st.text(max_size=16), max_size=ADDRESSES_MAX),
    st.integers(0, 1 << 50),
)
def test_members_read_what_was_said_and_all_slots_have_one_size(name: str, addresses: list[str], counter: int) -> None:
    said = replace(SAID, name=name, addresses=tuple(addresses), counter=counter)
    assert open_presence(FOLDER, EPOCH, IDENTITY, sealed(said)) == said
    assert len(sealed(said)) == len(sealed()) <= SLOT_BYTES


def test_a_member_cannot_speak_for_another() -> None:
    with pytest.raises(IntegrityError):
        open_presence(FOLDER, EPOCH, IDENTITY, sealed(key=OTHER))
    with pytest.raises(IntegrityError):
        open_presence(FOLDER, EPOCH, IdentityKey(OTHER.public), sealed())


def test_a_slot_of_another_folder_or_epoch_or_an_altered_one_does_not_open() -> None:
    with pytest.raises(IntegrityError):
        open_presence(FolderId(bytes(16)), EPOCH, IDENTITY, sealed())
    with pytest.raises(IntegrityError):
        open_presence(FOLDER, LATER, IDENTITY, sealed())
    good = sealed()
    for place in range(0, len(good), 97):
        wrong = Ciphertext(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(IntegrityError):
            open_presence(FOLDER, EPOCH, IDENTITY, wrong)


@given(st.binary(max_size=1200))
def test_garbage_in_a_slot_is_one_of_our_errors(data: bytes) -> None:
    with pytest.raises(P2psyncError):
        open_presence(FOLDER, EPOCH, IDENTITY, Ciphertext(data))


def test_slots_of_members_and_epochs_have_nothing_in_common() -> None:
    ids = {slot_id(epoch, IdentityKey(key.public)) for epoch in (EPOCH, LATER) for key in (KEY, OTHER)}
    assert len(ids) == 4


def test_a_beacon_gives_its_port_to_members_of_that_day_only() -> None:
    beacon = seal_beacon(EPOCH, 19_000, IDENTITY, 22400, SALT)
    assert len(beacon) == BEACON_BYTES and open_beacon(EPOCH, 19_000, IDENTITY, beacon) == 22400
    for epoch, day, identity in (
        (LATER, 19_000, IDENTITY), (EPOCH, 19_001, IDENTITY), (EPOCH, 19_000, IdentityKey(OTHER.public)),
    ):  # fmt: skip
        assert beacon_tag(epoch, day, identity) != beacon[:16]
        with pytest.raises(IntegrityError):
            open_beacon(epoch, day, identity, beacon)
    with pytest.raises(IntegrityError):
        open_beacon(EPOCH, 19_000, IDENTITY, beacon[:-1] + bytes([beacon[-1] ^ 1]))


def test_announcements_of_different_days_share_nothing_and_tell_no_number_of_folders() -> None:
    """Property 42: nothing but the sender's own address links two days."""
    days = [
        build_announcement(
            [seal_beacon(epoch, day, IDENTITY, 22400, material(f"salt {n}"))], material(f"noise {n}", 2000)
        )
        for n, (day, epoch) in enumerate(((19_000, EPOCH), (19_001, EPOCH), (19_001, LATER)))
    ]
    assert {len(day) for day in days} == {ANNOUNCEMENT_BYTES}
    pieces = [{day[place : place + 8] for place in range(len(day) - 8)} for day in days]
    assert not pieces[0] & pieces[1] and not pieces[1] & pieces[2]
    full = build_announcement(
        [seal_beacon(EPOCH, 19_000, IDENTITY, 22400, material(f"salt {n}")) for n in range(16)], material("noise", 2000)
    )
    assert len(full) == ANNOUNCEMENT_BYTES and len(split_announcement(full)) == 16


@given(st.binary(max_size=64))
def test_what_has_another_size_is_no_announcement(data: bytes) -> None:
    assert split_announcement(data) == []


def test_the_golden_vectors_open() -> None:
    found = load("presence")
    slot, beacon = found["slot"], found["beacon"]
    identity = IdentityKey(bytes.fromhex(slot["identity"]))
    said = open_presence(FOLDER, EPOCH, identity, Ciphertext(bytes.fromhex(slot["content"])))
    assert (said.name, list(said.addresses), said.counter) == (slot["name"], slot["addresses"], slot["counter"])
    assert slot_id(EPOCH, identity).hex() == slot["id"]
    assert open_beacon(EPOCH, beacon["day"], identity, bytes.fromhex(beacon["bytes"])) == beacon["port"]
