"""Work cut into groups of bounded count and bytes: what goes into one thread hop, one commit or one round of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def grouped(items: Iterable[T], size_of: Callable[[T], int], *, most: int, most_bytes: int) -> list[list[T]]:
    """The items in their order, at most `most` to a group and `most_bytes` together; a larger one stands alone."""
    groups: list[list[T]] = []
    size = 0
    for item in items:
        if not groups or len(groups[-1]) >= most or size + size_of(item) > most_bytes:
            groups.append([])
            size = 0
        groups[-1].append(item)
        size += size_of(item)
    return groups
