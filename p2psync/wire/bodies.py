"""The forms of bodies that are not plain object bytes: put tables, key lists, listings, heads, usage,
slots.

All are canonical msgpack, bounded by the reader. Which form a body has follows from its request. This module gives
tuples; the store's own types are made where they are used, since the wire does not know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2psync.encoding import Fields, decode, encode
from p2psync.limits import (
    KEYS_PER_REQUEST,
    LIST_PAGE,
    PACK_MAX,
    SEQ_MAX,
    SLOT_BYTES,
    SLOT_SECONDS_MAX,
    SLOTS_PER_NAMESPACE,
)
from p2psync.wire.messages import KEY_BYTES_MAX, SLOT_ID_BYTES

TABLE_MAX = KEYS_PER_REQUEST * (KEY_BYTES_MAX + 16)
"""Bytes of a put table or a key list."""
REPORT_MAX = 16 * 1024 * 1024
"""Bytes of a heads or usage body: about 200,000 feeds."""
REPORT_ITEMS_MAX = 200_000
FLAG_BYTES_MAX = 16
SLOTS_MAX = SLOTS_PER_NAMESPACE * (SLOT_BYTES + 64)
"""Bytes of a slots body."""


def encode_table(objects: Sequence[tuple[str, int]]) -> bytes:
    """Body of a put, first part: keys and sizes in the order in which the objects follow."""
    return encode([[key, size] for key, size in objects])


def decode_table(data: bytes) -> list[tuple[str, int]]:
    rows = Fields((decode(data, TABLE_MAX),), "put table").array("objects", KEYS_PER_REQUEST)
    return [_key_and_size(row, PACK_MAX) for row in rows]


def encode_keys(keys: Iterable[str]) -> bytes:
    return encode(list(keys))


def decode_keys(data: bytes) -> list[str]:
    values = Fields((decode(data, TABLE_MAX),), "key list").array("keys", KEYS_PER_REQUEST)
    source = Fields(values, "key list")
    return [source.text("key", KEY_BYTES_MAX) for _ in values]


def encode_listing(rows: Iterable[tuple[str, int]]) -> bytes:
    return encode([[key, size] for key, size in rows])


def decode_listing(data: bytes) -> list[tuple[str, int]]:
    rows = Fields((decode(data, LIST_PAGE * (KEY_BYTES_MAX + 16)),), "listing").array("rows", LIST_PAGE)
    return [_key_and_size(row, SEQ_MAX) for row in rows]


def _key_and_size(row: object, most: int) -> tuple[str, int]:
    source = Fields(row, "object row")
    found = source.text("key", KEY_BYTES_MAX), source.integer("size", 0, most)
    source.end()
    return found


def encode_heads(revision: int, heads: Iterable[tuple[bytes, int, bytes]]) -> bytes:
    """Body of a heads or watch answer; `heads` gives (feed, seq, entry hash). Heads alone have revision 0."""
    return encode([revision, [[feed, seq, entry_hash] for feed, seq, entry_hash in heads]])


def decode_heads(data: bytes) -> tuple[int, list[tuple[bytes, int, bytes]]]:
    source = Fields(decode(data, REPORT_MAX), "heads")
    revision, rows = source.integer("revision"), source.array("heads", REPORT_ITEMS_MAX)
    source.end()
    return revision, [_head(row) for row in rows]


def _head(row: object) -> tuple[bytes, int, bytes]:
    source = Fields(row, "head")
    found = source.data("feed", size=32), source.integer("seq", 1, SEQ_MAX), source.data("hash", size=32)
    source.end()
    return found


def encode_usage(objects: int, stored: int, quota: int | None, flagged: Iterable[tuple[str, str]]) -> bytes:
    return encode([objects, stored, [] if quota is None else [quota], [[key, flag] for key, flag in flagged]])


def decode_usage(data: bytes) -> tuple[int, int, int | None, list[tuple[str, str]]]:
    source = Fields(decode(data, REPORT_MAX), "usage")
    objects, stored, quota = source.integer("objects"), source.integer("stored bytes"), source.array("quota", 1)
    rows = source.array("flagged", REPORT_ITEMS_MAX)
    source.end()
    limit = Fields(quota, "quota").integer("bytes") if quota else None
    return objects, stored, limit, [_flagged(row) for row in rows]


def _flagged(row: object) -> tuple[str, str]:
    source = Fields(row, "flagged object")
    found = source.text("key", KEY_BYTES_MAX), source.text("flag", FLAG_BYTES_MAX)
    source.end()
    return found


def encode_slot_ids(slots: Iterable[bytes]) -> bytes:
    return encode(list(slots))


def decode_slot_ids(data: bytes) -> list[bytes]:
    values = Fields((decode(data, TABLE_MAX),), "slot ids").array("slots", SLOTS_PER_NAMESPACE)
    source = Fields(values, "slot ids")
    return [source.data("slot", size=SLOT_ID_BYTES) for _ in values]


def encode_slots(revision: int, slots: Iterable[tuple[bytes, bytes, int]]) -> bytes:
    """Body of an answer about slots: (id, content, seconds left) each. What was merely got has revision 0."""
    return encode([revision, [[slot, content, seconds] for slot, content, seconds in slots]])


def decode_slots(data: bytes) -> tuple[int, list[tuple[bytes, bytes, int]]]:
    source = Fields(decode(data, SLOTS_MAX), "slots")
    revision, rows = source.integer("revision"), source.array("slots", SLOTS_PER_NAMESPACE)
    source.end()
    return revision, [_slot(row) for row in rows]


def _slot(row: object) -> tuple[bytes, bytes, int]:
    source = Fields(row, "slot")
    found = (
        source.data("id", size=SLOT_ID_BYTES),
        source.data("content", most=SLOT_BYTES),
        source.integer("seconds", 0, SLOT_SECONDS_MAX),
    )
    source.end()
    return found
