"""The product's identifiers as distinct types, so that mixing them fails in mypy.

They are plain bytes at run time (hashing and SQL stay cheap); sizes are checked where bytes become an id, in the
parsers. Only the device id has a text form made for people.
"""

from __future__ import annotations

import base64
from typing import NewType

FolderId = NewType("FolderId", bytes)
"""16 bytes, hash of the folder's genesis."""
EpochId = NewType("EpochId", bytes)
"""16 bytes."""
FeedId = NewType("FeedId", bytes)
"""32 bytes: the feed's Ed25519 public key."""
EntryHash = NewType("EntryHash", bytes)
"""32 bytes."""
RecordHash = NewType("RecordHash", bytes)
"""32 bytes: hash of one record's bytes (version hash, membership parent)."""
ChunkId = NewType("ChunkId", bytes)
"""32 bytes: keyed hash of the chunk's plaintext."""
PackName = NewType("PackName", bytes)
"""32 bytes: BLAKE3 of all bytes of the pack."""
NamespaceId = NewType("NamespaceId", bytes)
"""16 bytes: one folder's area at one relay."""
IdentityKey = NewType("IdentityKey", bytes)
"""32 bytes: a device's Ed25519 public key."""
AccessKey = NewType("AccessKey", bytes)
"""32 bytes: Ed25519 public key a device shows to one namespace of one relay."""
RelayKey = NewType("RelayKey", bytes)
"""32 bytes: the relay's Ed25519 public key."""
DeviceId = NewType("DeviceId", str)
"""56 characters in 8 groups of 7: base32 of a 32-byte hash with four check characters."""

Plaintext = NewType("Plaintext", bytes)
"""Bytes of a user's file. Never handed to a store."""
Ciphertext = NewType("Ciphertext", bytes)
"""A sealed object or part of one. The only thing a store takes."""

ZERO_HASH = EntryHash(bytes(32))
"""Previous hash of a feed's first entry."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_GROUP = 13
"""Data characters per check character; 52 data characters give 4 checks and 56 in all, as Syncthing's ids do."""


def _check_character(group: str) -> str:
    """Luhn mod 32: finds every single wrong character and almost every swap of neighbours."""
    total = 0
    for place, character in enumerate(reversed(group)):
        value = _ALPHABET.index(character) * (2 if place % 2 == 0 else 1)
        total += value // 32 + value % 32
    return _ALPHABET[-total % 32]


def format_device_id(digest: bytes) -> DeviceId:
    """Give the text form of a 32-byte device digest."""
    data = base64.b32encode(digest).decode().rstrip("=")
    groups = [data[i : i + _GROUP] for i in range(0, len(data), _GROUP)]
    checked = "".join(group + _check_character(group) for group in groups)
    return DeviceId("-".join(checked[i : i + 7] for i in range(0, len(checked), 7)))


def parse_device_id(text: str) -> bytes:
    """Return the 32-byte digest; ValueError names what is wrong (length, character, mistyped group)."""
    plain = text.replace("-", "").replace(" ", "").upper()
    if len(plain) != 56:
        raise ValueError(f"a device id has 56 characters, this has {len(plain)}")
    if strange := set(plain) - set(_ALPHABET):
        raise ValueError(f"a device id has no character {sorted(strange)[0]!r}")
    data = ""
    for start in range(0, 56, _GROUP + 1):
        group, check = plain[start : start + _GROUP], plain[start + _GROUP]
        if _check_character(group) != check:
            raise ValueError(f"mistyped near {group[:7]}")
        data += group
    digest = base64.b32decode(data + "====")
    if base64.b32encode(digest).decode().rstrip("=") != data:
        raise ValueError("mistyped at the end: this is no device's id")  # 52 characters hold 4 bits too many
    return digest


def short_device_id(device: DeviceId) -> str:
    """First seven characters: what logs and conflict names show."""
    return device[:7]
