"""Laws of proofs that a feed forked: only its own key can make one, and anybody can check it."""

from __future__ import annotations

import pytest

from p2psync.encoding import decode, encode
from p2psync.errors import BugError, IntegrityError, P2psyncError, PeerError
from p2psync.ids import ZERO_HASH, Ciphertext, EntryHash, EpochId
from p2psync.index.forks import decode_fork, encode_fork
from p2psync.limits import ENTRY_STEP
from p2psync.sealed import entry
from p2psync.sealed.fork import prove_fork
from tests.support.objects import make_feed_key

FEED = make_feed_key(1)
EPOCH = EpochId(bytes(16))


def made(seq: int, fill: int, feed: int = 1) -> entry.Entry:
    previous = ZERO_HASH if seq == 1 else EntryHash(bytes([seq]) * 32)
    size = ENTRY_STEP - entry.outer_overhead(seq, ENTRY_STEP)
    return entry.build(make_feed_key(feed), seq, previous, EPOCH, Ciphertext(bytes([fill]) * size))


def test_two_entries_of_one_place_prove_a_fork_in_either_order() -> None:
    one, other = made(5, 1), made(5, 2)
    record = encode_fork(prove_fork(one, other))
    assert record == encode_fork(prove_fork(other, one)) and len(record) < 300
    proof = decode_fork(record)
    assert (proof.feed, proof.seq) == (FEED.public, 5) and proof == prove_fork(one, other)


@pytest.mark.parametrize("other", [made(5, 1), made(6, 2), made(5, 2, feed=2)])
def test_nothing_else_proves_one(other: entry.Entry) -> None:
    with pytest.raises(BugError):
        prove_fork(made(5, 1), other)


def test_a_proof_that_the_feeds_key_did_not_sign_is_refused() -> None:
    fields = decode(encode_fork(prove_fork(made(5, 1), made(5, 2))), 4096)
    for place, value, error in (
        (1, make_feed_key(2).public, IntegrityError), (2, 6, IntegrityError), (3, bytes(32), IntegrityError),
        (4, bytes(64), IntegrityError), (6, bytes(64), IntegrityError), (5, fields[3], PeerError), (2, 0, PeerError),
        (3, bytes(31), PeerError),
    ):  # fmt: skip
        wrong = list(fields)
        wrong[place] = value
        with pytest.raises(error):
            decode_fork(encode(wrong))
    swapped = [*fields[:3], *fields[5:], *fields[3:5]]
    for form in (swapped, fields[:-1], [*fields, 0]):
        with pytest.raises(P2psyncError):
            decode_fork(encode(form))
