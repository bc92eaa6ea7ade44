"""The golden transcript of a pairing: the code says these bytes, and what it says opens by the formats alone."""

from __future__ import annotations

import json
from typing import Any

import msgpack
from blake3 import blake3
from nacl import bindings

from tests.support.pairing_vectors import FILE, transcript

GOLDEN = {
    name: value if name == "code" else bytes.fromhex(value) for name, value in json.loads(FILE.read_text()).items()
}


def lp(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def test_a_pairing_from_fixed_seeds_says_the_golden_bytes() -> None:
    assert transcript() == json.loads(FILE.read_text())


def test_the_confirmations_follow_from_the_session_key_and_the_transcript() -> None:
    label = "p2psync 1 key pairing confirm"
    guess, offer = msgpack.unpackb(GOLDEN["joiner 0 guess"]), msgpack.unpackb(GOLDEN["admin 1 offer"])
    transcript_hash = blake3(lp(label.encode(), b"7", GOLDEN["admin 0 exchange"], guess[0])).digest()
    for side, shown in ((b"joiner", guess[1]), (b"admin", offer[0])):
        material = lp(label.encode(), GOLDEN["session key"], side, transcript_hash)
        assert blake3(material, derive_key_context=label).digest() == shown


def test_the_four_sealed_messages_open_with_the_session_key_by_the_formats_alone() -> None:
    bodies = {
        b"offer": msgpack.unpackb(GOLDEN["admin 1 offer"])[1],
        b"request": GOLDEN["joiner 1 request"],
        b"admission": GOLDEN["admin 2 admission"],
        b"done": GOLDEN["joiner 2 done"],
    }
    opened = {step: _open(step, sealed) for step, sealed in bodies.items()}
    assert opened[b"done"] == ["done"]
    assert opened[b"request"][0] == "laptop"
    assert opened[b"offer"][0][1] == "folder 0"
    (admin, admissions) = opened[b"admission"]
    assert len(admin) == 3 and len(admissions[0][1]) == 3


def _open(step: bytes, sealed: bytes) -> list[Any]:
    label = "p2psync 1 key pairing message"
    key = blake3(lp(label.encode(), GOLDEN["session key"], sealed[:32]), derive_key_context=label).digest()
    aad = lp(b"p2psync 1 aad pairing", step, b"7")
    plain = bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed[32:], aad, bytes(12), key)
    value: list[Any] = msgpack.unpackb(plain)
    return value
