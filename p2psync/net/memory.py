"""How this process treats its memory: what becomes of freed buffers of megabytes, and how often cycles are looked for.

Chunks, answers and packs are buffers of 1 to 16 MiB that live for milliseconds. glibc gives each back to the system as
soon as it is freed, and every next one pays for its pages again: of 12 CPU seconds that two devices spent on a GiB, 4
were page faults. Here freed buffers are kept for the next ones, within a bound, until `give_back` is called.

Python looks for cycles of garbage whenever 700 objects more were made than freed. A batch of 1,000 small files makes tens
of thousands, and hardly a cycle: looking for them was a tenth of its CPU time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import NoReturn

import trio

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From <malloc.h>."""
_KEPT_BYTES = 48 << 20
"""Free memory at the end of the heap beyond this goes back at once: a few requests and a pack."""
_LARGEST_BYTES = 24 << 20
"""Larger buffers are mapped one by one, as before; a pack is at most 16 MiB."""
_ARENAS = 1
"""Threads share what one of them has freed."""
_REST_SECONDS = 20
_NEW_OBJECTS, _YOUNG_COLLECTIONS, _MIDDLE_COLLECTIONS = 20_000, 10, 10
"""When Python looks for cycles among the new objects (and how many such looks later among the older ones)."""


def keep_freed_buffers() -> None:
    """Call once, before threads are started. Does nothing where the C library has no `mallopt`."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def collect_seldom() -> None:
    """Look for cycles of garbage only after many new objects; some megabytes of them may lie about meanwhile."""
    gc.set_threshold(_NEW_OBJECTS, _YOUNG_COLLECTIONS, _MIDDLE_COLLECTIONS)


def give_back() -> None:
    """Return what is free to the system."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


async def give_back_now_and_then() -> NoReturn:
    """So that a process at rest does not hold what its last transfer needed; for those who run one for long."""
    while True:
        await trio.sleep(_REST_SECONDS)
        await trio.to_thread.run_sync(give_back)
