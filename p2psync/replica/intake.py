"""The intake: verified chunks of one answer on their way to whoever takes them, many at a time.

Small chunks are held back until there is enough for one writing, so that the files of a directory are made together; a
large one goes at once. It opens nothing and writes nothing. For one worker's `with`: what is held is handed on at its
end, after an error too, since what came before one is as good as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2psync.ids import ChunkId, Plaintext
from p2psync.limits import MIB
from p2psync.replica.assembly import Assembly

_AT_ONCE = 1 * MIB
"""Plain bytes from which what is held is handed on: 256 files of 4 KiB, of which a directory has its part."""

Take = Callable[[Sequence[tuple[ChunkId, Plaintext]]], list[Assembly]]
"""Keeps verified chunks (in a worker); returns the files they completed."""


class Intake:
    def __init__(self, take: Take) -> None:
        self._take = take
        self._held: list[tuple[ChunkId, Plaintext]] = []
        self._size = 0
        self.got: list[ChunkId] = []
        """What was kept, in the order it came."""
        self.done: list[Assembly] = []
        """The files that completed."""

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *exception: object) -> None:
        self._hand_on()

    def add(self, chunk: ChunkId, plain: Plaintext) -> None:
        self._held.append((chunk, plain))
        self._size += len(plain)
        if self._size >= _AT_ONCE:
            self._hand_on()

    def _hand_on(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held:
            self.done += self._take(held)
            self.got += [chunk for chunk, _ in held]
