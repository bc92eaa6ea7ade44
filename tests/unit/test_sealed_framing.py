"""The outsides of entries, envelopes and packs: sizes, chains, and what a right signature does not excuse."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto import domains
from p2psync.crypto.hashing import content_hash, labelled_hash
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import encode
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import ZERO_HASH, Ciphertext, EntryHash, EpochId, PackName
from p2psync.limits import ENTRY_MAX, ENTRY_STEP, PACK_MAX, PACK_SIZE_MIN, SEQ_MAX
from p2psync.sealed import entry, envelope, pack
from p2psync.sealed.objects import check_object
from tests.support.objects import make_chain, make_entry, make_envelope, make_epoch, make_feed_key, make_pack

FEED = make_feed_key(9)
CHAIN = make_chain(FEED, 3)
STRANGER = make_chain(make_feed_key(10), 2)


def signed_entry(*fields: object, size: int = ENTRY_STEP) -> bytes:
    """An entry with a right signature over any fields, its sealed bytes filled up to `size` in all."""
    short = 64 + len(encode([*fields, bytes(1000)])) - 1000
    signed = encode([*fields, bytes(size - short)])
    return signed + sign_place(FEED, signed, fields[2] if len(fields) > 2 else 1)


def sign_place(key: SigningKey, signed: bytes, seq: object, label: str = domains.SIGN_ENTRY) -> bytes:
    place = seq.to_bytes(8, "big") if isinstance(seq, int) and 0 <= seq < 1 << 64 else b""
    return key.sign(label, place, labelled_hash(domains.ENTRY_HASH, signed))


def signed_envelope(*fields: object) -> bytes:
    signed = encode(list(fields))
    return signed + FEED.sign(domains.SIGN_ENVELOPE, signed)


@given(st.integers(1, PACK_MAX))
def test_padme_is_enough_idempotent_and_cheap(length: int) -> None:
    """Property 12."""
    size = pack.padme(length)
    assert size >= max(length, PACK_SIZE_MIN)
    assert pack.padme(size) == size
    assert size <= PACK_MAX
    if length >= PACK_SIZE_MIN:
        assert size - length <= length * 0.12
    if length >= 64 * 1024:
        assert size - length <= length * 0.07


@given(st.integers(1, PACK_MAX), st.integers(0, 1 << 20))
def test_padme_keeps_the_order_of_lengths(length: int, more: int) -> None:
    assert pack.padme(length) <= pack.padme(length + more)


def test_padme_sizes_are_few() -> None:
    assert len({pack.padme(length) for length in range(1, PACK_MAX, 997)}) < 400
    assert pack.padme(PACK_MAX) == PACK_MAX


def test_a_pack_of_a_size_outside_the_padme_set_is_refused() -> None:
    data = make_pack(1, 100_000)[1]
    for changed in (data + b"x", data[:-1], data[: PACK_SIZE_MIN - 1]):
        with pytest.raises(PeerError):
            pack.check(PackName(content_hash(changed)), changed)


def test_a_pack_beyond_the_bound_is_refused_before_it_is_hashed() -> None:
    data = make_pack(1)[1][: pack.HEADER_BYTES] + bytes(2 * PACK_MAX - pack.HEADER_BYTES)
    with pytest.raises(PeerError, match="size"):
        pack.check(PackName(bytes(32)), data)


def test_a_pack_header_reads_back() -> None:
    header = pack.PackHeader(make_epoch(3), bytes(range(32)))
    assert pack.parse_header(header.encode()) == header
    assert len(header.encode()) == pack.HEADER_BYTES


@pytest.mark.parametrize("data", [b"", b"p2psPACK", b"p2psPACK\x02" + bytes(60), b"P2PSPACK\x01" + bytes(60)])
def test_what_is_no_pack_header_is_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        pack.parse_header(data)


@given(st.integers(1, ENTRY_MAX))
def test_entry_sizes_are_a_step_times_a_power_of_two(least: int) -> None:
    size = entry.padded_size(least)
    steps = size // ENTRY_STEP
    assert size >= least and size % ENTRY_STEP == 0 and steps & (steps - 1) == 0
    assert size == ENTRY_STEP or size // 2 < least


def test_an_entry_above_the_bound_cannot_be_sized() -> None:
    with pytest.raises(ValueError):
        entry.padded_size(ENTRY_MAX + 1)


@pytest.mark.parametrize("seq", [1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, SEQ_MAX])
@pytest.mark.parametrize("size", [1 << power for power in range(12, 21)])
def test_the_outer_overhead_of_an_entry_is_exact(seq: int, size: int) -> None:
    sealed = bytes(size - entry.outer_overhead(seq, size - 300))
    made = entry.build(FEED, seq, EntryHash(bytes(32)), make_epoch(), Ciphertext(sealed))
    assert len(made.data) == size


def test_a_built_entry_parses_to_itself() -> None:
    for made in CHAIN:
        assert entry.parse(made.data) == made
        assert check_object(made.key, made.data) == made


def test_an_entry_follows_only_its_predecessor() -> None:
    seq, last = 0, ZERO_HASH
    for made in CHAIN:
        entry.check_follows(made, seq, last)
        seq, last = made.seq, made.hash
    fork = make_entry(FEED, 2, CHAIN[0].hash, branch=1)
    entry.check_follows(fork, 1, CHAIN[0].hash)
    for wrong, at, after in [
        (CHAIN[2], 2, fork.hash),  # fork: the other branch
        (CHAIN[2], 1, CHAIN[0].hash),  # gap
        (CHAIN[1], 2, CHAIN[1].hash),  # replayed
        (CHAIN[0], 3, CHAIN[2].hash),  # an older prefix
        (STRANGER[1], 1, CHAIN[0].hash),  # another feed
    ]:
        with pytest.raises(IntegrityError):
            entry.check_follows(wrong, at, after)


RIGHT = (1, FEED.public, 2, bytes(31) + b"\1", bytes(16))


def test_the_hand_made_entry_is_right() -> None:
    assert entry.parse(signed_entry(*RIGHT)).seq == 2


@pytest.mark.parametrize(
    "fields",
    [
        (2, *RIGHT[1:]),
        (0, *RIGHT[1:]),
        (None, *RIGHT[1:]),
        (True, *RIGHT[1:]),
        (1, FEED.public[:31], *RIGHT[2:]),
        (*RIGHT[:2], 0, *RIGHT[3:]),
        (*RIGHT[:2], -1, *RIGHT[3:]),
        (*RIGHT[:2], SEQ_MAX + 1, *RIGHT[3:]),
        (*RIGHT[:2], 1, *RIGHT[3:]),  # entry 1 follows nothing
        (*RIGHT[:3], bytes(32), RIGHT[4]),  # entry 2 follows something
        (*RIGHT[:3], bytes(31), RIGHT[4]),
        (*RIGHT[:4], bytes(17)),
        (*RIGHT[:4], "epoch"),
        RIGHT[:4],
        (*RIGHT, b"more"),
        (*RIGHT, [[]]),
    ],
)
def test_a_right_signature_does_not_excuse_a_wrong_form(fields: tuple[object, ...]) -> None:
    with pytest.raises(PeerError):
        entry.parse(signed_entry(*fields))


@pytest.mark.parametrize("size", [ENTRY_STEP - 1, ENTRY_STEP + 1, 3 * ENTRY_STEP, 2 * ENTRY_MAX])
def test_an_entry_of_a_size_not_allowed_is_refused(size: int) -> None:
    with pytest.raises(PeerError, match="size"):
        entry.parse(signed_entry(*RIGHT, size=size))


def test_an_entry_signed_by_another_feed_or_for_another_purpose_is_refused() -> None:
    signed = signed_entry(*RIGHT)[:-64]
    for signature in (
        sign_place(make_feed_key(10), signed, RIGHT[2]), sign_place(FEED, signed, RIGHT[2], domains.SIGN_ENVELOPE),
        sign_place(FEED, signed, 3), FEED.sign(domains.SIGN_ENTRY, signed),
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            entry.parse(signed + signature)


EPOCH = bytes(16)
ENVELOPE = (1, EPOCH, [bytes(16)], bytes(32), [bytes(80)], [bytes(160)] * 2, FEED.public)


@pytest.mark.parametrize("boxes", [1, 2, 4, 64])
@pytest.mark.parametrize("parents", [0, 1, 3])
def test_a_built_envelope_parses_to_itself(boxes: int, parents: int) -> None:
    made = make_envelope(1, boxes, parents)
    assert envelope.parse(made.data) == made
    assert check_object(made.key, made.data) == made


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (1, bytes(15)),
        (2, [bytes(15)]),
        (2, [bytes(16)] * 2),  # a parent without its secret
        (2, [[]]),
        (3, bytes(31)),
        (4, []),
        (4, [bytes(envelope.BOX_BYTES_MAX + 1)]),
        (5, [bytes(160)] * 3),  # no power of two: shows the number of members
        (5, [bytes(160), bytes(161)]),
        (5, [b""] * (2 * envelope.BOXES_MAX)),
        (5, [None]),
        (6, FEED.public[:31]),
    ],
)
def test_a_right_signature_does_not_excuse_a_wrong_envelope(place: int, value: object) -> None:
    envelope.parse(signed_envelope(*ENVELOPE))
    with pytest.raises(PeerError):
        envelope.parse(signed_envelope(*ENVELOPE[:place], value, *ENVELOPE[place + 1 :]))


def test_an_envelope_with_more_fields_is_refused() -> None:
    with pytest.raises(PeerError):
        envelope.parse(signed_envelope(*ENVELOPE, b""))


def test_an_epoch_id_does_not_depend_on_the_order_of_its_parents() -> None:
    random = Random(1)
    folder, commitment = random.randbytes(16), random.randbytes(32)
    one, two = EpochId(random.randbytes(16)), EpochId(random.randbytes(16))
    ids = [envelope.epoch_id(folder, parents, commitment) for parents in [(one, two), (two, one), (one,), (two,), ()]]
    assert ids[0] == ids[1] and len(set(ids)) == 4 and len(ids[0]) == 16
    assert envelope.epoch_id(commitment[:16], (one,), commitment) != ids[2]
