"""How this process's allocator treats buffers of megabytes.

Chunks, answers and packs are buffers of 1 to 16 MiB that live for milliseconds. glibc gives each back to the system as
soon as it is freed, and every next one pays for its pages again: of 12 CPU seconds that two devices spent on a GiB, 4
were page faults. Here freed buffers are kept for the next ones, within a bound, until `give_back` is called.
"""

from __future__ import annotations

import ctypes
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


def keep_freed_buffers() -> None:
    """Call once, before threads are started. Does nothing where the C library has no `mallopt`."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


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
