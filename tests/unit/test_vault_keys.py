"""Keys and their wrappings: members open, strangers do not, and no secret is ever shown."""

from __future__ import annotations

import traceback
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.public import PrivateKey, PublicKey, SealedBox

from p2psync.crypto.hashing import derive_key, lp
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import decode, encode
from p2psync.errors import IntegrityError, PeerError, UserError
from p2psync.ids import EpochId, FolderId, RelayKey
from p2psync.sealed import envelope as outer
from p2psync.vault.aead import Sealer, open_message, seal_message
from p2psync.vault.boxes import OVERHEAD, BoxKey, seal_box
from p2psync.vault.device_keys import decode_device_keys
from p2psync.vault.envelope import (
    OpenedBox,
    decode_generations,
    encode_generations,
    open_envelope,
    open_parents,
    seal_envelope,
)
from p2psync.vault.secrets import (
    EpochSecret,
    FolderSecrets,
    Generation,
    commitment,
    decode_folder_secrets,
    first_epoch,
)
from tests.support.vectors import EPOCH, FEED, FOLDER, FOUNDER, GENERATION, make_device, material

KEYS = st.binary(min_size=32, max_size=32)
MEMBERS = [make_device(f"member {number}") for number in range(9)]


# --- AEAD and boxes -------------------------------------------------------------


@given(KEYS, st.integers(0, 2**32), st.binary(max_size=100), st.binary(max_size=5000), KEYS)
def test_libsodium_opens_our_aead_and_ours_opens_libsodiums(
    secret: bytes, counter: int, aad: bytes, plain: bytes, salt: bytes
) -> None:
    sealer = Sealer(secret, "label", salt)
    key, nonce = derive_key(secret, "label", salt), counter.to_bytes(12, "big")
    sealed = sealer.seal(counter, aad, plain)
    assert bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, aad, nonce, key) == plain
    assert bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plain, aad, nonce, key) == sealed
    assert sealer.open(counter, aad, sealed) == plain


@given(st.sampled_from(["secret", "label", "aad", "salt", "counter"]))
def test_every_input_of_the_aead_counts(changed: str) -> None:
    sealed = Sealer(bytes(32), "label", bytes(32)).seal(1, b"aad", b"plain")
    other = Sealer(
        b"\1" * 32 if changed == "secret" else bytes(32),
        "other" if changed == "label" else "label",
        b"\1" * 32 if changed == "salt" else bytes(32),
    )
    with pytest.raises(IntegrityError):
        other.open(2 if changed == "counter" else 1, b"" if changed == "aad" else b"aad", sealed)


@pytest.mark.parametrize("size", [0, 31, 32, 47])
def test_a_message_too_short_to_be_sealed_is_refused(size: int) -> None:
    with pytest.raises(IntegrityError):
        open_message(bytes(32), "label", b"", bytes(size))
    assert open_message(bytes(32), "label", b"", seal_message(bytes(32), "label", b"", b"", bytes(32))) == b""


@given(KEYS, KEYS, st.binary(max_size=2000))
def test_our_boxes_and_libsodiums_open_each_other(seed: bytes, ephemeral: bytes, plain: bytes) -> None:
    key = BoxKey(seed)
    assert SealedBox(PrivateKey(seed)).decrypt(seal_box(key.public, plain, ephemeral)) == plain
    assert key.open(SealedBox(PublicKey(key.public)).encrypt(plain)) == plain
    assert len(seal_box(key.public, plain, ephemeral)) == len(plain) + OVERHEAD


@given(st.integers(0, 100), st.integers(1, 255))
def test_a_changed_box_does_not_open(place: int, change: int) -> None:
    key = MEMBERS[0].box
    sealed = bytearray(seal_box(key.public, b"x" * 53, material("ephemeral")))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(IntegrityError):
        key.open(bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", bytes(47), bytes(48), bytes(100)])
def test_what_is_no_box_is_refused(sealed: bytes) -> None:
    with pytest.raises(IntegrityError):
        MEMBERS[0].box.open(sealed)


@pytest.mark.parametrize("recipient", [bytes(32), b"\1" + bytes(31)])
def test_nothing_is_sealed_to_a_key_everybody_knows(recipient: bytes) -> None:
    """Property 8: a small-order key would make the box readable by all."""
    with pytest.raises(PeerError):
        seal_box(recipient, b"secret", material("ephemeral"))


# --- envelopes --------------------------------------------------------------------


def envelope(members: int, parents: tuple[EpochSecret, ...] = (), seed: int = 0) -> outer.Envelope:
    return seal_envelope(
        folder=FOLDER, secret=EPOCH, generations=[GENERATION, Generation(1, bytes(32))], issuer=FOUNDER.identity_key,
        feed_key=FEED, recipients=[device.box.public for device in MEMBERS[:members]], parents=parents,
        random=Random(seed).randbytes,
    )  # fmt: skip


@pytest.mark.parametrize("members", range(1, 9))
def test_every_member_opens_an_envelope_and_a_stranger_does_not(members: int) -> None:
    made = envelope(members)
    assert len(made.boxes).bit_count() == 1 and members <= len(made.boxes) < 2 * members
    for device in MEMBERS[:members]:
        opened = open_envelope(FOLDER, device.box, made)
        assert opened.secret == EPOCH and opened.issuer == FOUNDER.identity_key
        assert [(g.number, g.secret) for g in opened.generations] == [(0, GENERATION.secret), (1, bytes(32))]
    with pytest.raises(IntegrityError, match="no box"):
        open_envelope(FOLDER, MEMBERS[8].box, made)


def test_the_boxes_stand_in_no_order_and_dummies_look_like_them() -> None:
    """Where a member's box stands says nothing of who was admitted when."""
    first = set()
    for seed in range(20):
        made = envelope(3, seed=seed)
        assert len({len(box) for box in made.boxes}) == 1 and len(set(made.boxes)) == 4
        first.add(next(place for place, box in enumerate(made.boxes) if _opens(MEMBERS[0].box, box)))
    assert first == {0, 1, 2, 3}


def _opens(key: BoxKey, sealed: bytes) -> bool:
    try:
        key.open(sealed)
    except IntegrityError:
        return False
    return True


def test_an_envelope_of_another_folder_epoch_or_secret_is_refused() -> None:
    """Property 8."""
    made, key = envelope(2), MEMBERS[0].box
    altered = [
        replace(made, commitment=commitment(bytes(32))),
        replace(made, epoch=EpochId(bytes(16))),
        replace(made, parents=(EpochId(bytes(16)),)),
    ]
    for wrong in altered:
        with pytest.raises(IntegrityError):
            open_envelope(FOLDER, key, wrong)
    with pytest.raises(IntegrityError):
        open_envelope(FolderId(bytes(16)), key, made)


def test_a_box_made_for_another_device_is_refused_even_if_it_opens() -> None:
    key = MEMBERS[0].box
    stolen = MEMBERS[1].box.open(next(box for box in envelope(2).boxes if _opens(MEMBERS[1].box, box)))
    resealed = outer.build(
        FEED, EPOCH.epoch, (), commitment(EPOCH.secret), (), (seal_box(key.public, stolen, material("ephemeral")),)
    )
    with pytest.raises(IntegrityError, match="another"):
        open_envelope(FOLDER, key, resealed)


@pytest.mark.parametrize("plain", [b"", b"junk", lp("p2psync 1 box epoch", b""), b"\xff" * 100])
def test_a_box_with_a_wrong_inside_is_refused(plain: bytes) -> None:
    key = MEMBERS[0].box
    made = outer.build(FEED, EPOCH.epoch, (), bytes(32), (), (seal_box(key.public, plain, material("ephemeral")),))
    with pytest.raises((IntegrityError, PeerError)):
        open_envelope(FOLDER, key, made)


def test_whoever_holds_an_epoch_reads_its_parents() -> None:
    one = first_epoch(FOLDER, material("one"))
    two = first_epoch(FOLDER, material("two"))
    made = envelope(1, (one, two))
    assert open_parents(FOLDER, EPOCH, made) == [one, two]
    for swapped in (
        replace(made, sealed_parents=made.sealed_parents[::-1]),
        replace(made, sealed_parents=(b"", made.sealed_parents[1])),
    ):
        with pytest.raises(IntegrityError):
            open_parents(FOLDER, EPOCH, swapped)
    with pytest.raises(IntegrityError):
        open_parents(FOLDER, one, made)


@given(st.lists(st.tuples(st.integers(0, 65535), KEYS), max_size=8))
def test_generation_secrets_read_back(rows: list[tuple[int, bytes]]) -> None:
    data = encode_generations([Generation(number, secret) for number, secret in rows])
    assert [(g.number, g.secret) for g in decode_generations(data)] == rows
    with pytest.raises(PeerError):
        decode_generations(data + b"x")


# --- device and folder secrets -----------------------------------------------------


def test_access_keys_of_different_places_have_nothing_in_common() -> None:
    relays, folders = [RelayKey(bytes(32)), RelayKey(b"\1" * 32)], [FOLDER, FolderId(bytes(16))]
    keys = {FOUNDER.access_key(relay, folder).public for relay in relays for folder in folders}
    assert len(keys) == 4 and FOUNDER.identity_key not in keys
    assert FOUNDER.access_key(relays[0], FOLDER) == FOUNDER.access_key(relays[0], FOLDER)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_device_file_is_the_users_to_mend_or_another_key(place: int, change: int) -> None:
    data = bytearray(FOUNDER.encode())
    data[place % len(data)] ^= change
    try:
        assert decode_device_keys(bytes(data)) != FOUNDER
    except UserError as error:
        assert "backup" in str(error) or "update" in str(error)


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x90", bytes(5000), FOUNDER.encode()[:-1], FOUNDER.encode() + b"\0"])
def test_what_is_no_device_file_is_the_users_to_mend(data: bytes) -> None:
    with pytest.raises(UserError):
        decode_device_keys(data)


def folder_secrets() -> FolderSecrets:
    newer = first_epoch(FOLDER, material("newer"))
    return FolderSecrets(
        FOLDER, {e.epoch: e for e in (EPOCH, newer)}, {0: GENERATION, 3: Generation(3, bytes(32))}, newer.epoch
    )


def test_folder_secrets_read_back_and_write_under_the_current_epoch() -> None:
    made = folder_secrets()
    read = decode_folder_secrets(FOLDER, made.encode())
    assert read.epochs == made.epochs and read.current == made.current and read.encode() == made.encode()
    assert read.generation.number == 3 and read.writing == made.epochs[read.writing.epoch]
    assert read.epoch(EPOCH.epoch) == EPOCH
    with pytest.raises(IntegrityError):
        read.epoch(EpochId(bytes(16)))
    with pytest.raises(IntegrityError):
        FolderSecrets(FOLDER).writing  # noqa: B018


@pytest.mark.parametrize("place", range(3))
def test_folder_secrets_without_a_usable_epoch_or_generation_are_refused(place: int) -> None:
    fields = list(decode(folder_secrets().encode(), 10_000))
    for wrong in (None, [], bytes(16), [[b"", b""]], [[1, 2]]):
        if place < 2 or wrong is not None:
            with pytest.raises(PeerError):
                decode_folder_secrets(FOLDER, encode([*fields[:place], wrong, *fields[place + 1 :]]))
    with pytest.raises(PeerError):
        decode_folder_secrets(FOLDER, encode([*fields[:2], None]))


SECRETS: list[object] = [
    FOUNDER, FOUNDER.identity, FOUNDER.box, EPOCH, GENERATION, folder_secrets(), Sealer(EPOCH.secret, "label", bytes(32)),
    OpenedBox(EPOCH, (GENERATION,), FOUNDER.identity_key), SigningKey(material("feed")),
]  # fmt: skip
HIDDEN = [
    FOUNDER.identity.seed, FOUNDER.box.seed, FOUNDER.tls_seed, FOUNDER.device_seed, EPOCH.secret, GENERATION.secret,
    GENERATION.chunk_key, material("feed"), material("newer"),
]  # fmt: skip


@pytest.mark.parametrize("thing", SECRETS, ids=lambda thing: type(thing).__name__)
def test_no_key_shows_its_bytes(thing: object) -> None:
    """Property 47."""
    try:
        raise ValueError(thing)
    except ValueError:
        shown = f"{thing!r} {thing} {[thing]} {traceback.format_exc()}"
    for secret in HIDDEN:
        assert repr(secret)[2:14] not in shown and secret.hex()[:8] not in shown and str(list(secret))[:20] not in shown
    assert f"{GENERATION.seed}" not in shown and f"{GENERATION.seed:x}" not in shown
