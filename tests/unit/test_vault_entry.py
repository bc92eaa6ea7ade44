"""Sealed entries: what opens, what does not, and what their size tells."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto import domains
from p2psync.crypto.hashing import lp
from p2psync.crypto.signing import SigningKey
from p2psync.errors import IntegrityError
from p2psync.ids import ZERO_HASH, Ciphertext, EntryHash, EpochId, FeedId, FolderId
from p2psync.index.records import encode_version
from p2psync.index.versions import Dot, Kind, Version
from p2psync.limits import ENTRY_BODY_MAX, ENTRY_BODY_PLAIN_MAX, ENTRY_MAX, ENTRY_STEP
from p2psync.sealed import entry as outer
from p2psync.vault.aead import seal_message
from p2psync.vault.entry import open_entry, seal_entry
from p2psync.vault.secrets import EpochSecret
from tests.support.vectors import EPOCH, FEED, FOLDER, material

PREVIOUS = EntryHash(b"\1" * 32)


def sealed(body: bytes, seq: int = 2, salt: bytes = bytes(32), previous: EntryHash = PREVIOUS) -> outer.Entry:
    return seal_entry(
        folder=FOLDER, secret=EPOCH, feed_key=FEED, seq=seq, previous=previous, body=body, salt=salt,
    )  # fmt: skip


def noise(size: int, seed: int = 0) -> bytes:
    return Random(f"noise {size} {seed}").randbytes(size)


@given(
    st.integers(0, 300_000), st.sampled_from([noise, lambda n: bytes(n), lambda n: b"name/of/a/file " * (n // 15)]),
    st.sampled_from([2, 200, 70_000, 2**40, 2**53 - 1]),
)  # fmt: skip
def test_a_body_opens_to_itself_in_an_object_of_an_allowed_size(size: int, content, seq: int) -> None:  # type: ignore[no-untyped-def]
    """Property 12: 4 KiB times a power of two."""
    made = sealed(content(size), seq)
    assert open_entry(FOLDER, EPOCH, outer.parse(made.data)) == content(size)
    assert len(made.data) % ENTRY_STEP == 0 and (len(made.data) // ENTRY_STEP).bit_count() == 1


@pytest.mark.parametrize("edge", [1 << power for power in range(12, 20)])
@pytest.mark.parametrize("seq", [2, 127, 128, 65536, 2**32])
def test_the_size_class_changes_exactly_where_the_body_no_longer_fits(edge: int, seq: int) -> None:
    room = edge - outer.outer_overhead(seq, edge - 256) - 32 - 16 - 5
    assert len(sealed(noise(room), seq).data) == edge
    assert len(sealed(noise(room + 1), seq).data) == 2 * edge


def test_the_largest_body_fits_and_a_larger_one_is_refused() -> None:
    assert len(sealed(noise(ENTRY_BODY_MAX), 2**53 - 1).data) == ENTRY_MAX
    with pytest.raises(ValueError):
        sealed(noise(ENTRY_MAX))


@given(st.integers(1, 200), st.integers(1, 12))
def test_name_and_depth_of_a_path_do_not_show_in_the_size(length: int, depth: int) -> None:
    """Property 12: within the step of 4 KiB nothing of a name is visible."""
    version = Version(
        path=(b"n" * length,) * depth, dot=Dot(FeedId(FEED.public), 2, 0), kind=Kind.DIRECTORY,
        vector={FeedId(FEED.public): 2}, mode=0o755,
    )  # fmt: skip
    assert len(sealed(encode_version(version)).data) == ENTRY_STEP


def wrong_places(made: outer.Entry) -> dict[str, outer.Entry]:
    other = SigningKey(material("another feed"))
    return {
        "seq": outer.build(FEED, 3, made.previous, made.epoch, made.sealed),
        "previous": outer.build(FEED, 2, EntryHash(b"\2" * 32), made.epoch, made.sealed),
        "epoch": outer.build(FEED, 2, made.previous, EpochId(bytes(16)), made.sealed),
        "feed": outer.build(other, 2, made.previous, made.epoch, made.sealed),
    }


@pytest.mark.parametrize("place", ["seq", "previous", "epoch", "feed"])
def test_a_sealed_body_opens_in_its_own_place_only(place: str) -> None:
    """Property 2."""
    moved = wrong_places(sealed(b"body"))[place]
    with pytest.raises(IntegrityError):
        open_entry(FOLDER, EPOCH, moved)


def test_a_sealed_body_opens_in_its_own_folder_and_epoch_only() -> None:
    """Property 2."""
    made = sealed(b"body")
    for folder, secret in [
        (FolderId(bytes(16)), EPOCH),
        (FOLDER, EpochSecret(EPOCH.epoch, bytes(32))),
        (FOLDER, EpochSecret(EPOCH.epoch, EPOCH.secret[::-1])),
    ]:
        with pytest.raises(IntegrityError):
            open_entry(folder, secret, made)


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_changed_byte_of_the_seal_never_opens(place: int, change: int) -> None:
    made = sealed(b"body")
    data = bytearray(made.sealed)
    data[place % len(data)] ^= change
    with pytest.raises(IntegrityError):
        open_entry(FOLDER, EPOCH, replace(made, sealed=Ciphertext(bytes(data))))


@pytest.mark.parametrize("size", [0, 1, 31, 32, 47, 48, 52])
def test_a_seal_that_is_too_short_is_refused(size: int) -> None:
    with pytest.raises(IntegrityError):
        open_entry(FOLDER, EPOCH, replace(sealed(b""), sealed=Ciphertext(bytes(size))))


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        b"\0\0\0\0",
        b"\0" + (1).to_bytes(4, "big"),
        b"\0" + b"\xff" * 4 + bytes(100),
        b"\0" + (1).to_bytes(4, "big") + b"xx",
        b"\0" + bytes(4) + bytes(99) + b"\1",
        b"\2" + bytes(4),
        b"\1" + bytes(4),
        b"\1" + (4).to_bytes(4, "big") + b"junk",
    ],
)
def test_a_right_seal_does_not_excuse_a_wrong_inside(inner: bytes) -> None:
    from_author = _sealed_inside(inner)
    with pytest.raises(IntegrityError):
        open_entry(FOLDER, EPOCH, from_author)


def _sealed_inside(inner: bytes) -> outer.Entry:
    aad = lp(domains.AAD_ENTRY, FOLDER, FEED.public, (2).to_bytes(8, "big"), PREVIOUS, EPOCH.epoch)
    body = seal_message(EPOCH.secret, domains.KEY_ENTRY, aad, inner, bytes(32))
    return outer.build(FEED, 2, PREVIOUS, EPOCH.epoch, Ciphertext(body))


def test_a_body_that_would_unpack_beyond_the_bound_is_refused_unopened() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(ENTRY_BODY_PLAIN_MAX + 1))
    with pytest.raises(IntegrityError, match="larger"):
        open_entry(FOLDER, EPOCH, _sealed_inside(b"\1" + len(bomb).to_bytes(4, "big") + bomb))


def test_another_salt_gives_other_bytes_throughout() -> None:
    one, two = sealed(b"body"), sealed(b"body", salt=b"\1" * 32)
    same = sum(left == right for left, right in zip(one.sealed, two.sealed, strict=True))
    assert same < len(one.sealed) // 50


def test_the_first_entry_follows_nothing() -> None:
    made = sealed(b"", seq=1, previous=ZERO_HASH)
    assert outer.parse(made.data) == made
