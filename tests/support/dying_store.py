"""Processes that work on a disk store and kill themselves before their n-th step on the disk.

`DyingStores` runs them: each is a fork of one process that has loaded everything. Every finished operation is acknowledged
with one byte. `OPERATIONS` is the script; `held_after` tells what must be held after the first k of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
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


class DyingStores:
    """`with DyingStores() as stores: stores.run(directory, steps)`."""

    def __enter__(self) -> DyingStores:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.dying_store"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def run(self, directory: Path, steps: int) -> tuple[bool, int]:
        """(killed?, operations acknowledged)."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([str(directory), steps]), file=self._process.stdin, flush=True)
        code, acknowledged = json.loads(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0, acknowledged


def _serve() -> None:
    for line in sys.stdin:
        directory, steps = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            trio.run(main, Path(directory), steps)
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            acknowledged = len(pipe.read())
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), acknowledged]), flush=True)


if __name__ == "__main__":
    _serve()
