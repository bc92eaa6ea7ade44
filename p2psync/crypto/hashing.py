"""BLAKE3 in its three uses: plain hash of stored bytes, labelled hash of fields, derive-key as the only KDF.

Length-prefixed concatenation makes field boundaries part of what is hashed: lp(label, f1, f2…) is, for the label in
UTF-8 and then each field, its length as 4 bytes big endian followed by its bytes. Source: formats, "lp" and "KDF".
"""

from __future__ import annotations

import hmac
from functools import lru_cache

from blake3 import blake3

from p2psync.errors import PeerError


def lp(label: str, *fields: bytes) -> bytes:
    """Length-prefixed concatenation of label and fields."""
    parts = [_labelled(label)]
    for field in fields:
        parts.append(len(field).to_bytes(4, "big"))
        parts.append(field)
    return b"".join(parts)


@lru_cache(maxsize=256)
def _labelled(label: str) -> bytes:
    """There are some fifty labels, and every record and every chunk takes one."""
    data = label.encode()
    return len(data).to_bytes(4, "big") + data


def split_lp(label: str, data: bytes, count: int) -> list[bytes]:
    """Undo lp: the `count` fields behind `label`. PeerError when the form, label or count differs."""
    fields, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        field = data[place + 4 : place + 4 + size]
        if len(field) != size:
            raise PeerError(f"truncated fields ({label})")
        fields.append(field)
        place += 4 + size
    if len(fields) != count + 1 or fields[0] != label.encode():
        raise PeerError(f"not the fields of ({label})")
    return fields[1:]


def content_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Plain BLAKE3 of stored bytes, 32 bytes: what names a pack."""
    return blake3(data).digest()


def labelled_hash(label: str, *fields: bytes) -> bytes:
    """BLAKE3 over lp(label, fields…), 32 bytes."""
    return blake3(lp(label, *fields)).digest()


def keyed_hash(key: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3 keyed mode; `key` is 32 bytes, the result 32 bytes."""
    return blake3(data, key=key).digest()


def derive_key(secret: bytes, label: str, *fields: bytes) -> bytes:
    """KDF(secret, label, fields…): BLAKE3 derive-key, context = label, material = lp(label, secret, fields…)."""
    return blake3(lp(label, secret, *fields), derive_key_context=label).digest()


def equal(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left, right)
