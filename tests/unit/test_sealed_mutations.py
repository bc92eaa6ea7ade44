"""Property 1: no changed byte of a stored object passes the check that every store and reader makes."""

from __future__ import annotations

from random import Random

import pytest

from p2psync.errors import IntegrityError, PeerError
from p2psync.sealed.objects import check_object
from tests.support.objects import BlindObject, blind, make_chain, make_entry, make_envelope, make_feed_key, make_pack

CHAIN = make_chain(make_feed_key(5), 2)
OBJECTS: dict[str, BlindObject] = {
    "pack": make_pack(50, 9_000),
    "entry": blind(CHAIN[1]),
    "large entry": blind(make_entry(make_feed_key(5), 3, CHAIN[1].hash, size=32 * 1024)),
    "envelope": blind(make_envelope(5)),
}


def _flip_bit(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data))
    count = random.randint(1, 64)
    data[start : start + count] = random.randbytes(len(data[start : start + count]))


def _zero(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data))
    count = random.randint(1, 512)
    data[start : start + count] = bytes(len(data[start : start + count]))


def _truncate(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def _extend(data: bytearray, random: Random) -> None:
    data += random.choice([bytes, random.randbytes])(random.choice([1, 2, 64, len(data)]))


def _insert(data: bytearray, random: Random) -> None:
    place = random.randrange(len(data))
    data[place:place] = random.randbytes(random.randint(1, 64))


def _remove(data: bytearray, random: Random) -> None:
    place = random.randrange(len(data))
    del data[place : place + random.randint(1, 64)]


def _move(data: bytearray, random: Random) -> None:
    """Swap two blocks of equal length: size and all bytes stay, the order does not."""
    count = random.randint(1, 64)
    left, right = random.randrange(len(data) // 2 - count), random.randrange(len(data) // 2, len(data) - count)
    first, second = data[left : left + count], data[right : right + count]
    data[left : left + count], data[right : right + count] = second, first


_MUTATIONS = (_flip_bit, _overwrite, _zero, _truncate, _extend, _insert, _remove, _move)


def refuse_mutations(name: str, count: int) -> None:
    """Make `count` real mutations of an object and see each one refused with nothing but our errors."""
    key, data = OBJECTS[name]
    random = Random(f"mutations of {name}")
    made = 0
    while made < count:
        mutated = bytearray(data)
        random.choice(_MUTATIONS)(mutated, random)
        if bytes(mutated) == data:
            continue
        made += 1
        with pytest.raises((PeerError, IntegrityError)):
            check_object(key, mutated)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_object_itself_passes(name: str) -> None:
    key, data = OBJECTS[name]
    for form in (data, bytearray(data), memoryview(data)):
        check_object(key, form)


@pytest.mark.parametrize("name", OBJECTS)
def test_mutations_are_refused(name: str) -> None:
    refuse_mutations(name, 400)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTS)
def test_ten_thousand_mutations_are_refused(name: str) -> None:
    refuse_mutations(name, 10_000)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_bit_of_the_first_bytes_counts(name: str) -> None:
    key, data = OBJECTS[name]
    for bit in range(64 * 8):
        mutated = bytearray(data)
        mutated[bit // 8] ^= 1 << bit % 8
        with pytest.raises((PeerError, IntegrityError)):
            check_object(key, mutated)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("other", OBJECTS)
def test_no_object_passes_for_another(name: str, other: str) -> None:
    """Property 2."""
    if name != other:
        with pytest.raises((PeerError, IntegrityError)):
            check_object(OBJECTS[name][0], OBJECTS[other][1])


@pytest.mark.parametrize("data", [b"", b"x", bytes(4096), bytes(1 << 20), b"p2psPACK\x01" + bytes(4087)])
@pytest.mark.parametrize("name", OBJECTS)
def test_bytes_that_are_no_object_are_refused(name: str, data: bytes) -> None:
    with pytest.raises((PeerError, IntegrityError)):
        check_object(OBJECTS[name][0], data)
