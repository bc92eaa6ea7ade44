"""Keys of blind objects: each has one form, and their order is the order of a feed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import PeerError
from p2psync.ids import EntryHash, EpochId, FeedId, PackName
from p2psync.limits import SEQ_MAX
from p2psync.sealed.keys import (
    EntryKey,
    EnvelopeKey,
    PackKey,
    after_seq,
    entry_key,
    entry_prefix,
    envelope_key,
    pack_key,
    parse_key,
)

HASHES = st.binary(min_size=32, max_size=32)
SEQS = st.integers(1, SEQ_MAX)
PACK = "p/" + "ab" * 32
ENTRY = "e/" + "cd" * 32 + "/" + "0" * 15 + "7-" + "ef" * 32
ENVELOPE = "k/" + "01" * 16 + "/" + "23" * 32


@given(HASHES, SEQS, HASHES, st.binary(min_size=16, max_size=16))
def test_keys_read_back_as_what_they_name(name: bytes, seq: int, entry_hash: bytes, epoch: bytes) -> None:
    assert parse_key(pack_key(PackName(name))) == PackKey(PackName(name))
    feed, hashed = FeedId(name), EntryHash(entry_hash)
    assert parse_key(entry_key(feed, seq, hashed)) == EntryKey(feed, seq, hashed)
    assert parse_key(envelope_key(EpochId(epoch), entry_hash)) == EnvelopeKey(EpochId(epoch), entry_hash)


@pytest.mark.parametrize("key", [PACK, ENTRY, ENVELOPE])
def test_a_key_with_any_character_changed_is_another_key_or_none(key: str) -> None:
    assert parse_key(key)
    wrong = [key + "0", key[:-1], key + "\n", "\n" + key, " " + key, key.upper(), "../" + key, key + "/..", "x" + key]
    wrong += [key.replace("/", "\\"), key.replace("/", "//"), key.replace("/", "\0"), key[:5] + "٣" + key[6:]]
    for changed in wrong:
        with pytest.raises(PeerError):
            parse_key(changed)
    for place in range(len(key)):
        with pytest.raises(PeerError):
            parse_key(key[:place] + "g" + key[place + 1 :])


@given(st.text(alphabet="pek/-.0123456789abcdefgABC\n\0", max_size=140))
def test_any_text_is_a_key_or_a_peer_error(text: str) -> None:
    try:
        parse_key(text)
    except PeerError:
        return
    assert text[0] in "pek" and ".." not in text and "\0" not in text


@given(SEQS, HASHES, SEQS, HASHES)
def test_keys_of_a_feed_sort_by_seq(seq: int, left: bytes, other: int, right: bytes) -> None:
    feed = FeedId(bytes(32))
    one, two = entry_key(feed, seq, EntryHash(left)), entry_key(feed, other, EntryHash(right))
    assert (one < two) == ((seq, left) < (other, right))
    assert one.startswith(entry_prefix(feed))


@given(SEQS, SEQS, HASHES)
def test_after_seq_lies_behind_that_seq_and_before_the_next(seq: int, other: int, entry_hash: bytes) -> None:
    feed = FeedId(b"\x07" * 32)
    assert (entry_key(feed, other, EntryHash(entry_hash)) > after_seq(feed, seq)) == (other > seq)
    assert entry_key(feed, seq + 1, EntryHash(bytes(32))) > after_seq(feed, seq)
    assert entry_key(feed, seq, EntryHash(b"\xff" * 32)) < after_seq(feed, seq)
    assert after_seq(feed, 0) < entry_key(feed, 1, EntryHash(bytes(32)))
