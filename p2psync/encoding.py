"""The one door to msgpack: canonical arrays, bounded, no maps, floats, extensions or surprises.

Canonical means: re-encoding what was decoded gives the same bytes, so one meaning has one form and hashes and
signatures cannot be played against each other. `Fields` reads an array by position with types and bounds checked;
whatever is wrong is a `PeerError`, never another exception.
"""

from __future__ import annotations

import threading
from typing import Any

import msgpack

from p2psync.errors import PeerError

_DEPTH_MAX = 12
"""Deeper than any format of ours; bounds the recursion of `_check` on hostile input."""
_ITEMS_MAX = 1 << 16
"""Items of one array, and the largest there is: the records of an entry."""
_ALL_ITEMS_MAX = 1 << 17
"""Items of all arrays together: hostile bytes become at most some MiB of objects before they are refused."""
_UNCOUNTED = _ALL_ITEMS_MAX // 2
"""So many bytes cannot hold more: an array takes a byte, and so does each of its items."""


_BUFFER_BYTES = 4 * 1024
_KEPT_BELOW = 64 * 1024
"""A packer that has grown for something larger is not kept."""
_packers = threading.local()
"""One for each thread: `packb` takes a new buffer of 256 KiB for every record of a hundred bytes."""


def encode(value: Any) -> bytes:
    """Encode nested lists/tuples of int, bytes, str, bool and None."""
    packer: msgpack.Packer | None = getattr(_packers, "packer", None)
    if packer is None:
        packer = _packers.packer = msgpack.Packer(use_bin_type=True, buf_size=_BUFFER_BYTES)
    data: bytes = packer.pack(value)
    if len(data) > _KEPT_BELOW:
        _packers.packer = None
    return data


def decode(data: bytes | memoryview, max_size: int) -> Any:
    """Decode canonical msgpack of at most `max_size` bytes; lists come back as tuples. PeerError otherwise."""
    if len(data) > max_size:
        raise PeerError(f"message of {len(data)} bytes where at most {max_size} are allowed")
    try:
        value = msgpack.unpackb(
            data, raw=False, use_list=False, list_hook=_Counter() if len(data) > _UNCOUNTED else None,
            ext_hook=_refuse_extension, strict_map_key=True, max_array_len=_ITEMS_MAX, max_map_len=0, max_ext_len=0,
        )  # fmt: skip
    except (ValueError, TypeError, RecursionError, MemoryError, msgpack.exceptions.UnpackException) as error:
        raise PeerError(f"not valid msgpack: {type(error).__name__}") from None
    _check(value, 0)
    if encode(value) != data:
        raise PeerError("msgpack is not in canonical form")
    return value


def decode_own(data: bytes) -> Any:
    """Decode what this process or an earlier one of this device has encoded itself: nothing is checked."""
    return msgpack.unpackb(data, raw=False, use_list=False)


class _Counter:
    """Called with every array as it ends, so that counting stops what would grow too large."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items = 0

    def __call__(self, array: tuple[Any, ...]) -> tuple[Any, ...]:
        self._items += 1 + len(array)
        if self._items > _ALL_ITEMS_MAX:
            raise ValueError("too many items")
        return array


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


_PLAIN = frozenset({int, bytes, str, bool, type(None)})


def _check(value: Any, depth: int) -> None:
    """One call for every array, not for every item: records are read by the thousand."""
    items = value if type(value) is tuple else (value,)
    if depth > _DEPTH_MAX or (depth == _DEPTH_MAX and items):
        raise PeerError("msgpack is nested too deeply")
    if _PLAIN.issuperset(map(type, items)):
        return
    for item in items:
        kind = type(item)
        if kind is tuple:
            _check(item, depth + 1)
        elif kind not in _PLAIN:
            raise PeerError(f"msgpack holds a {kind.__name__}, which no format here uses")


class Fields:
    """Reads a decoded array field by field. Every method raises PeerError naming the structure and field."""

    __slots__ = ("_place", "_values", "_what")

    def __init__(self, values: Any, what: str, at_least: int = 0) -> None:
        if not isinstance(values, tuple) or len(values) < at_least:
            raise PeerError(f"{what}: not an array of at least {at_least} fields")
        self._values, self._what, self._place = values, what, 0

    def _next(self, kind: type, name: str) -> Any:
        if self._place >= len(self._values):
            raise PeerError(f"{self._what}: field {name} is missing")
        value = self._values[self._place]
        self._place += 1
        # bool is an int in Python; the formats keep them apart.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise PeerError(f"{self._what}: field {name} is a {type(value).__name__}")
        return value

    def integer(self, name: str, low: int = 0, high: int = (1 << 53) - 1) -> int:
        value: int = self._next(int, name)
        if not low <= value <= high:
            raise PeerError(f"{self._what}: field {name} is out of range")
        return value

    def data(self, name: str, size: int | None = None, most: int | None = None) -> bytes:
        """Bytes of exactly `size`, or of at most `most`."""
        value: bytes = self._next(bytes, name)
        if (size is not None and len(value) != size) or (most is not None and len(value) > most):
            raise PeerError(f"{self._what}: field {name} has {len(value)} bytes")
        return value

    def optional_data(self, name: str, size: int | None = None, most: int | None = None) -> bytes | None:
        if self._place < len(self._values) and self._values[self._place] is None:
            self._place += 1
            return None
        return self.data(name, size, most)

    def text(self, name: str, most: int) -> str:
        value: str = self._next(str, name)
        if len(value.encode()) > most:
            raise PeerError(f"{self._what}: field {name} is longer than {most} bytes")
        return value

    def flag(self, name: str) -> bool:
        return bool(self._next(bool, name))

    def array(self, name: str, most: int) -> tuple[Any, ...]:
        value: tuple[Any, ...] = self._next(tuple, name)
        if len(value) > most:
            raise PeerError(f"{self._what}: field {name} has {len(value)} items, at most {most} are allowed")
        return value

    def optional_array(self, name: str, most: int) -> tuple[Any, ...] | None:
        if self._place < len(self._values) and self._values[self._place] is None:
            self._place += 1
            return None
        return self.array(name, most)

    @property
    def more(self) -> bool:
        """Whether a field is left: for one that may be absent at the end."""
        return self._place < len(self._values)

    def end(self) -> None:
        """Refuse fields beyond those read: a later version announces itself by its version number."""
        if self._place != len(self._values):
            raise PeerError(f"{self._what}: {len(self._values) - self._place} unknown fields")
