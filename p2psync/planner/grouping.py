"""Work cut into groups of bounded count and bytes: what goes into one thread hop, one commit or one round of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def grouped(
    items: Iterable[T], size_of: Callable[[T], int], *, most: int, most_bytes: int, first: int | None = None
) -> list[list[T]]:
    """The items in their order, at most `most` to a group and `most_bytes` together; a larger one stands alone.

    With `first` the groups begin with at most that many and double: whoever works on a group that is done begins early.
    """
    groups: list[list[T]] = []
    size, room = 0, min(most, first or most)
    for item in items:
        if not groups or len(groups[-1]) >= room or size + size_of(item) > most_bytes:
            room = min(most, 2 * room) if groups and first else room
            groups.append([])
            size = 0
        groups[-1].append(item)
        size += size_of(item)
    return groups
