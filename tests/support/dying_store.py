"""A process that works on a disk store and kills itself before its n-th step on the disk.

Run as `python -m tests.support.dying_store DIRECTORY N`. Every finished operation is acknowledged with one byte on
standard output. `OPERATIONS` is the script; `held_after` tells what must be held after the first k of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from p2psync.net.workers import InlineWorkers
from p2psync.sealed.keys import ObjectKey
from p2psync.store.disk import DiskStore, open_disk_store
from p2psync.store.retention import DELETE_GRACE_SECONDS
from p2psync.store.sqlite import Database
from tests.support.objects import BlindObject, blind, make_chain, make_envelope, make_feed_key, make_pack
from tests.support.stores import SettableClock

_CHAIN = make_chain(make_feed_key(7), 4)
FIRST: list[BlindObject] = [make_pack(70), make_pack(71), blind(_CHAIN[0]), blind(_CHAIN[1])]
SECOND: list[BlindObject] = [make_pack(72), blind(_CHAIN[2]), blind(_CHAIN[3]), blind(make_envelope(7))]
OPERATIONS: list[tuple[str, list[BlindObject]]] = [
    ("put", FIRST),
    ("put", SECOND),
    ("delete", FIRST),
    ("restore", FIRST),
    ("delete", FIRST),
    ("put", FIRST),
    ("delete", FIRST),
    ("collect", []),
    ("put", FIRST),
]


def held_after(count: int) -> set[ObjectKey]:
    """The keys held once the first `count` operations are done."""
    held: set[ObjectKey] = set()
    for verb, things in OPERATIONS[:count]:
        keys = {key for key, _ in things}
        held = held - keys if verb == "delete" else held | keys
    return held


class _Fuse:
    """Counts steps and kills the process before one of them."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def guard(self, owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return original(*arguments, **named)

        setattr(owner, name, step)


async def _work(store: DiskStore, clock: SettableClock) -> None:
    for verb, things in OPERATIONS:
        keys = [key for key, _ in things]
        if verb == "put":
            await store.put(things)
        elif verb == "delete":
            await store.delete(keys)
        elif verb == "restore":
            await store.restore(keys)
        else:
            clock.time += DELETE_GRACE_SECONDS
            await store.collect(clock.now())
        os.write(1, b".")


async def main(directory: Path, steps: int) -> None:
    fuse = _Fuse(steps)
    for owner, name in [(os, "fsync"), (os, "replace"), (os, "unlink"), (os, "open"), (os, "mkdir")]:
        fuse.guard(owner, name)
    fuse.guard(Database, "execute")
    clock = SettableClock()
    async with open_disk_store(directory, workers=InlineWorkers(), clock=clock) as store:
        await _work(store, clock)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
