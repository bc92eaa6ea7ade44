"""Contents of a group of files that are to be described: the small ones are read together, the others when they are asked for.

It owns the order of reading; how one file is read is the reader's, what becomes of a description the scanner's. In memory
is what the group's small files hold, each until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2psync.index.paths import Path
from p2psync.limits import INLINE_MAX
from p2psync.replica.context import Context
from p2psync.replica.reader import Content, read_content, whole_content

_HOLES_SETTLE_NS = 60 * 10**9
"""Far beyond the time after which any filesystem has written out what was changed (OpenZFS: 5 s, ext4: 30 s)."""


class Contents:
    def __init__(self, context: Context, small: Sequence[Path], should_stop: Callable[[], bool]) -> None:
        """`small` are files of at most INLINE_MAX that surely will be asked for, those of one directory together."""
        self._context, self._should_stop = context, should_stop
        self._xattrs = context.shape.xattrs
        self._generation = context.secrets.generation
        self._began_ns = self._now_ns()
        # Attributes are looked at through the same descriptor, one file at a time.
        self._whole = {} if self._xattrs else context.filesystem.read_whole(small, INLINE_MAX)

    def of(self, path: Path) -> tuple[Content, int]:
        """What a file holds, and a moment (Unix time in ns) before which it was not read to its end. Raises as
        `read_content` does."""
        generation = self._generation
        whole = self._whole.pop(path, None)
        if whole is not None:
            return whole_content(whole, generation.chunk_key, generation.seed), self._began_ns
        content = read_content(
            self._context.filesystem, path, chunk_key=generation.chunk_key, seed=generation.seed,
            inline_limit=INLINE_MAX, should_stop=self._should_stop, holes_before_ns=self._now_ns() - _HOLES_SETTLE_NS,
            xattrs=self._xattrs,
        )  # fmt: skip
        return content, self._now_ns()

    def _now_ns(self) -> int:
        return int(self._context.clock.now() * 1e9)
