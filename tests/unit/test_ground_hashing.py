"""Hashing, key derivation and signing: labels and field boundaries are part of what is hashed and signed."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto import domains
from p2psync.crypto.hashing import content_hash, derive_key, equal, keyed_hash, labelled_hash, lp
from p2psync.crypto.signing import SIGNATURE_BYTES, SigningKey, verify
from p2psync.errors import IntegrityError

FIELDS = st.lists(st.binary(max_size=12), max_size=4)
LABELS = {name: text for name, text in vars(domains).items() if name.isupper() and name != "PREFIX"}

RFC8032_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC8032_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_no_label_is_used_twice_or_starts_another() -> None:
    texts = list(LABELS.values())
    assert len(set(texts)) == len(texts)
    assert all(text.startswith(domains.PREFIX) for text in texts)


def test_lp_is_the_length_of_each_part_in_four_bytes_and_the_part() -> None:
    assert lp("ab", b"", b"xyz") == b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03xyz"


@given(FIELDS, FIELDS)
def test_different_fields_are_never_the_same_input(left: list[bytes], right: list[bytes]) -> None:
    assert (lp("label", *left) == lp("label", *right)) == (left == right)
    assert (labelled_hash("label", *left) == labelled_hash("label", *right)) == (left == right)


def test_the_three_hashes_are_blake3() -> None:
    assert content_hash(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert labelled_hash("l", b"x") == blake3(lp("l", b"x")).digest()
    assert keyed_hash(b"k" * 32, b"x") == blake3(b"x", key=b"k" * 32).digest()
    assert derive_key(b"s", "l", b"x") == blake3(lp("l", b"s", b"x"), derive_key_context="l").digest()


def test_equal_content_of_any_buffer_hashes_the_same() -> None:
    assert content_hash(b"abc") == content_hash(bytearray(b"abc")) == content_hash(memoryview(b"abc"))


def test_a_key_differs_by_secret_label_and_field() -> None:
    keys = {
        derive_key(b"secret", "label", b"field"),
        derive_key(b"Secret", "label", b"field"),
        derive_key(b"secret", "Label", b"field"),
        derive_key(b"secret", "label", b"Field"),
        derive_key(b"secret", "label", b"field", b""),
        derive_key(b"secretfield", "label"),
    }
    assert len(keys) == 6


def test_equal_compares_content() -> None:
    assert equal(b"abc", bytes([97, 98, 99]))
    assert not equal(b"abc", b"abd")
    assert not equal(b"abc", b"ab")


def test_a_signing_key_is_that_of_rfc_8032() -> None:
    assert SigningKey(RFC8032_SEED).public == RFC8032_PUBLIC


@given(st.binary(max_size=40))
def test_a_signature_verifies_for_its_key_label_and_fields_alone(message: bytes) -> None:
    key, other = SigningKey(bytes(32)), SigningKey(b"\x01" * 32)
    signature = key.sign(domains.SIGN_ENTRY, message, b"x")
    assert len(signature) == SIGNATURE_BYTES
    verify(key.public, signature, domains.SIGN_ENTRY, message, b"x")
    for public, label, fields in [
        (other.public, domains.SIGN_ENTRY, (message, b"x")),
        (key.public, domains.SIGN_LOGIN, (message, b"x")),
        (key.public, domains.SIGN_ENTRY, (message + b"x",)),
        (key.public, domains.SIGN_ENTRY, (message, b"x", b"")),
    ]:
        with pytest.raises(IntegrityError):
            verify(public, signature, label, *fields)


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(64), bytes(65)])
def test_bytes_that_are_no_signature_are_an_integrity_error(signature: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify(SigningKey(bytes(32)).public, signature, domains.SIGN_ENTRY, b"x")


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), bytes(33)])
def test_bytes_that_are_no_public_key_are_an_integrity_error(public: bytes) -> None:
    signature = SigningKey(bytes(32)).sign(domains.SIGN_ENTRY, b"x")
    with pytest.raises(IntegrityError):
        verify(public, signature, domains.SIGN_ENTRY, b"x")


def test_every_flipped_bit_of_a_signature_is_found() -> None:
    key = SigningKey(bytes(32))
    signature = key.sign(domains.SIGN_ENTRY, b"x")
    for place in range(len(signature) * 8):
        flipped = bytearray(signature)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            verify(key.public, bytes(flipped), domains.SIGN_ENTRY, b"x")


def test_a_signing_key_never_shows_its_secret() -> None:
    seed = bytes(range(32))
    key = SigningKey(seed)
    assert seed.hex()[:8] not in repr(key) and repr(seed) not in repr(key)
    assert key == SigningKey(seed) != SigningKey(bytes(32))
    assert hash(key) == hash(SigningKey(seed))
