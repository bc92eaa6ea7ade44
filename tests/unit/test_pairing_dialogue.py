"""Laws of the pairing dialogue, both sides at one table (properties 37 to 40)."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.catalog.keystore import credentials_of
from p2psync.encoding import decode, encode
from p2psync.errors import AccessRefused, IntegrityError, P2psyncError, PeerError, WrongCode
from p2psync.pairing.dialogue import (
    REFUSED_BY_USER,
    REFUSED_CODE,
    KnowsCode,
    ShowsCode,
    decode_admitted,
    decode_asking,
    decode_offered,
)
from p2psync.pairing.words import Code, _lists
from tests.support.pairing import CODE, SeededRandomness, make_admission, make_secrets, make_table

TABLE = make_table()
LOW_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def test_an_honest_pairing_hands_over_secrets_and_heads() -> None:
    table = make_table(folders=3)
    offered, asking = table.asking()
    asked = offered.hear(asking.said[1])
    assert asked.request.device_name == "laptop"
    assert {n.credentials.identity for n in asked.request.newcomers} == {table.joiner.identity_key}
    admissions = tuple(
        make_admission(folder.folder, newcomer)
        for folder, newcomer in zip(table.folders, asked.request.newcomers, strict=True)
    )
    admitted = asked.admit(admissions, credentials_of(TABLE.admin), b"3" * 32)
    welcomed = asking.hear(admitted.said[2], table.joiner)
    assert [s.encode() for s in welcomed.secrets] == [make_secrets(f.folder).encode() for f in table.folders]
    assert welcomed.heads == tuple(admission.head for admission in admissions)
    admitted.hear(welcomed.finish(b"4" * 32)[2])


def test_every_saved_step_goes_on_with_the_same_bytes() -> None:
    offered, asking = TABLE.asking()
    again, asking_again = decode_offered(offered.encode()), decode_asking(asking.encode())
    assert (again, asking_again) == (offered, asking)
    asked = again.hear(asking_again.said[1])
    admitted = asked.admit(
        (make_admission(TABLE.folders[0].folder, asked.request.newcomers[0]),), credentials_of(TABLE.admin), b"3" * 32
    )
    assert decode_admitted(admitted.encode()) == admitted
    welcomed = asking_again.hear(decode_admitted(admitted.encode()).said[2], TABLE.joiner)
    decode_admitted(admitted.encode()).hear(welcomed.finish(b"4" * 32)[2])


def _guesses(count: int) -> int:
    """Attack `count` fresh codes with one random wrong code each; the number of pairings."""
    random, paired = Random(37), 0
    for number in range(count):
        words = tuple(random.choice(words) for words in _lists())
        if words == CODE.words:
            continue
        shows, claims = TABLE.start(joiner_code=Code(7, words), seed=number)
        try:
            shows.hear(claims.said[0])
            paired += 1
        except WrongCode:
            with pytest.raises(WrongCode):
                claims.hear(REFUSED_CODE)
    return paired


def test_wrong_codes_never_pair_and_both_sides_are_told() -> None:
    assert _guesses(25) == 0


@pytest.mark.slow
def test_a_thousand_wrong_codes_never_pair() -> None:
    assert _guesses(1_000) == 0  # 40 ms each, in pure Python


def test_a_code_takes_one_guess_only() -> None:
    shows, wrong = TABLE.start(joiner_code=Code(7, ("crossover", "clockwork", "atlas")))
    with pytest.raises(WrongCode):
        shows.hear(wrong.said[0])
    right = KnowsCode(CODE, SeededRandomness(1)).hear(shows.said[0])
    with pytest.raises(P2psyncError):
        shows.hear(right.said[0])


def test_the_same_words_under_another_nameplate_do_not_pair() -> None:
    shows, claims = TABLE.start(joiner_code=Code(8, CODE.words))
    with pytest.raises(WrongCode):
        shows.hear(claims.said[0])


def test_an_admin_who_does_not_know_the_code_learns_nothing() -> None:
    """The joiner's guess is answered without a valid proof: he stops before any identity is sent."""
    _, claims = TABLE.start()
    with pytest.raises(WrongCode):
        claims.hear(encode([bytes(32), bytes(100)]))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["guess", "offer", "request", "admission", "done"]), st.data())
def test_an_altered_byte_anywhere_ends_the_pairing(which: str, data: st.DataObject) -> None:
    shows, claims = TABLE.start()
    offered, asking = TABLE.asking()
    asked = offered.hear(asking.said[1])
    admitted = asked.admit(
        (make_admission(TABLE.folders[0].folder, asked.request.newcomers[0]),), credentials_of(TABLE.admin), b"3" * 32
    )
    done = asking.hear(admitted.said[2], TABLE.joiner).finish(b"4" * 32)[2]
    messages = {
        "guess": (claims.said[0], shows.hear),
        "offer": (offered.said[1], claims.hear),
        "request": (asking.said[1], offered.hear),
        "admission": (admitted.said[2], lambda message: asking.hear(message, TABLE.joiner)),
        "done": (done, admitted.hear),
    }
    message, hear = messages[which]
    place = data.draw(st.integers(0, len(message) - 1))
    change = data.draw(st.integers(1, 255))
    altered = message[:place] + bytes([message[place] ^ change]) + message[place + 1 :]
    with pytest.raises((WrongCode, PeerError, IntegrityError)):
        hear(altered)


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(min_size=32, max_size=32).map(lambda b: b"B" + b)))
def test_garbage_in_the_exchange_gives_a_clean_error(garbage: bytes) -> None:
    shows = ShowsCode(CODE, SeededRandomness(1))
    with pytest.raises((PeerError, WrongCode)):
        shows.hear(encode([garbage, bytes(32)]))
    with pytest.raises((PeerError, WrongCode)):
        shows.hear(garbage)


def hostile_exchange_messages() -> list[bytes]:
    shows, claims = TABLE.start()
    mine = shows.said[0]
    theirs = decode(claims.said[0], 1000)[0]
    shapes = [
        b"",
        b"B",
        mine,
        b"B" + mine[1:],
        b"A" + theirs[1:],
        b"S" + theirs[1:],
        theirs + b"\0",
        theirs[:-1],
        b"B" * 10_000,
    ]
    return shapes + [b"B" + point for point in LOW_ORDER]


def test_reflected_swapped_short_and_small_order_exchanges_fail_cleanly() -> None:
    for heard in hostile_exchange_messages():
        shows, _ = TABLE.start()
        with pytest.raises((PeerError, WrongCode)) as caught:
            shows.hear(encode([heard, bytes(32)]))
        assert isinstance(caught.value, PeerError), heard
    for point in LOW_ORDER:
        with pytest.raises(PeerError):
            KnowsCode(CODE, SeededRandomness(1)).hear(b"A" + point)


def test_hostile_exchanges_fail_cleanly_without_assertions() -> None:
    """`spake2` checks some of its input with assert; ours must hold under `python -O`."""
    program = (
        "from tests.unit.test_pairing_dialogue import *\n"
        "for heard in hostile_exchange_messages():\n"
        "    try:\n"
        "        TABLE.start()[0].hear(encode([heard, bytes(32)]))\n"
        "    except PeerError:\n"
        "        continue\n"
        "    raise SystemExit(f'accepted {heard!r}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-O", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_confirmation_cannot_be_stripped_or_replayed() -> None:
    shows, claims = TABLE.start(seed=1)
    _, other = TABLE.start(seed=2)
    heard, _ = decode(claims.said[0], 1000)
    _, replayed = decode(other.said[0], 1000)
    for shown, error in ((b"", PeerError), (replayed, WrongCode)):
        fresh, _ = TABLE.start(seed=1)
        with pytest.raises(error):
            fresh.hear(encode([heard, shown]))
    offered = shows.hear(claims.said[0]).offer(TABLE.folders, b"1" * 32)
    confirmation, sealed = decode(offered.said[1], 16384)
    with pytest.raises(WrongCode):
        claims.hear(encode([decode(claims.said[0], 1000)[1], sealed]))  # the joiner's own proof reflected
    with pytest.raises(PeerError):
        claims.hear(encode([confirmation[:31], sealed]))


def test_no_sealed_message_stands_in_for_another_step() -> None:
    offered, asking = TABLE.asking()
    sealed_offer = decode(offered.said[1], 16384)[1]
    with pytest.raises(IntegrityError):
        offered.hear(sealed_offer)
    with pytest.raises(IntegrityError):
        asking.hear(asking.said[1], TABLE.joiner)


def test_a_newcomer_cannot_take_a_higher_role_or_skip_a_folder() -> None:
    table = make_table(folders=2)
    offered, invited = table.offered()
    higher = replace(invited, folders=tuple(replace(f, role=type(f.role).ADMIN) for f in invited.folders))
    fewer = replace(invited, folders=invited.folders[:1])
    swapped = replace(invited, folders=invited.folders[::-1])
    for wrong in (higher, fewer, swapped):
        with pytest.raises((PeerError, IntegrityError)):
            offered.hear(wrong.ask(table.joiner, "laptop", b"2" * 32).said[1])


def test_secrets_open_for_the_admitted_device_only() -> None:
    offered, asking = TABLE.asking()
    asked = offered.hear(asking.said[1])
    admitted = asked.admit(
        (make_admission(TABLE.folders[0].folder, asked.request.newcomers[0]),), credentials_of(TABLE.admin), b"3" * 32
    )
    with pytest.raises(IntegrityError):
        asking.hear(admitted.said[2], TABLE.admin)


def test_a_refusal_ends_every_step() -> None:
    shows, claims = TABLE.start()
    offered, asking = TABLE.asking()
    for hear in (shows.hear, claims.hear, offered.hear, lambda message: asking.hear(message, TABLE.joiner)):
        with pytest.raises(AccessRefused):
            hear(REFUSED_BY_USER)


def test_no_key_shows_in_a_repr() -> None:
    offered, asking = TABLE.asking()
    for step in (offered, asking):
        assert offered.session.key.hex() not in repr(step) and repr(offered.session.key) not in repr(step)
