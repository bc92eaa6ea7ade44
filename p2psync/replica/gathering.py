"""Gathering: whoever carries out what entries say is told of them when no more of the feed comes.

What the first entries of a feed ask for its last ones often replace; it would be fetched and placed for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from p2psync.replica.admission import Admitted
from p2psync.replica.context import Context

GATHER_SECONDS = 5.0
"""Of a feed that takes longer to read, what has come is told this often."""


@contextmanager
def gathering(context: Context) -> Iterator[Callable[[Admitted], None]]:
    """Gives what is to be called with what each page of one feed brought."""
    found, due = False, trio.current_time() + GATHER_SECONDS

    def announce(result: Admitted) -> None:
        nonlocal found, due
        found |= bool(result.entries or result.forks)
        if found and trio.current_time() >= due:
            found, due = False, trio.current_time() + GATHER_SECONDS
            context.wake_for_entries()

    try:
        yield announce
    finally:
        if found:
            context.wake_for_entries()
