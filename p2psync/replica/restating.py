"""What a snapshot says of records that were written before, and for whom that counts.

It tells something new only to those who lack what it replaces: of what was held before its first part came, nothing is
taken from it. That is compared instead: a record restated otherwise than it was written is refused. What it leaves out is
`settling.py`'s. Source: formats, "Snapshots".
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from p2psync.catalog.snapshots import Underway
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import FeedId
from p2psync.index.paths import Path, show
from p2psync.index.snapshot import Part
from p2psync.index.versions import Dot, Version
from p2psync.replica.context import Context
from p2psync.replica.statements import Statement, own_records


class ContradictionFound(IntegrityError):
    """A snapshot says otherwise of what was read here than the entries did. Reaction: take nothing from it."""


class Restating:
    """One part of a snapshot on its way in."""

    def __init__(self, context: Context, feed: FeedId, seq: int, part: Part, held: int) -> None:
        """`held` is the last entry of the feed that was taken in. PeerError when the part does not follow the one before."""
        self._context, self._feed, self._seq, self._part = context, feed, seq, part
        first = seq - part.number
        known = context.catalog.snapshots.underway(feed, first) if part.number else Underway(first, held, 0)
        if known is None or known.parts != part.number:
            raise PeerError("a part of a snapshot that does not follow the part before; it replaces nothing")
        self._known = known
        self._said: dict[tuple[Path, int], Statement] = {}
        self._entry: tuple[int, tuple[bytes, ...]] = (0, ())
        """The entry that was read last, with its records."""

    def is_new(self, version: Version, statement: Statement) -> bool:
        """Whether a restated version stood in an entry that was never here.

        PeerError when it is restated otherwise than it was written, or than the snapshot says elsewhere.
        """
        snapshots, dot = self._context.catalog.snapshots, version.dot
        before = self._said.setdefault((version.path, dot.seq), statement)
        held: tuple[Dot, bytes] | None = (before.dot, before.data) if before is not statement else None
        held = held or snapshots.in_frontier(version.path, dot.feed, dot.seq)
        if held is None and self._known.behind:
            held = self._written(version)
        if held is not None and held != (dot, statement.data):
            self._refuse(version)
        return dot.seq > self._known.behind and before is statement

    def _written(self, version: Version) -> tuple[Dot, bytes] | None:
        """What the entry said that a version is said to come from, if it is here."""
        dot = version.dot
        if self._entry[0] != dot.seq:
            entry = self._context.catalog.feeds.entry(dot.feed, dot.seq)
            if entry is None:
                return None
            self._entry = dot.seq, own_records(self._context, entry)
        said = self._entry[1][dot.index : dot.index + 1]
        return dot, said[0] if said else b""

    def _refuse(self, version: Version) -> NoReturn:
        """Of who has read everything, one record is refused. Who is about to pass over entries he lacks stays where he is:
        it may be another branch of a forked feed."""
        sentence = f"{show(version.path)}: a snapshot restates it otherwise than it was written"
        known = self._known
        raise ContradictionFound(sentence) if 0 < known.behind < known.first - 1 else PeerError(sentence)

    def finish(self) -> None:
        """Write down how far the snapshot is here."""
        context, feed, part = self._context, self._feed, self._part
        known = replace(self._known, parts=self._known.parts + 1)
        context.catalog.snapshots.note(feed, known, self._seq if part.last else 0)
        if part.last:
            context.catalog.locations.leave_out(feed, known.first)
        if part.number == 0:
            context.catalog.snapshots.note_seen(feed, known.first, context.catalog.feeds.seen(feed))
        context.catalog.snapshots.note_restated(((s.dot, s.place) for s in self._said.values()), self._seq)
        context.snapshots += part.last
