"""Which chunks to ask of which source: a pure plan that moves on as answers come.

Live peers take from one common pool, so that a fast one takes more and a slow one less; a chunk a peer does not have
goes to the others, and to the stores only when no live peer has it. The share of a source that vanished is free again
at once; what stays unanswered for long while others have nothing to do is asked of them too, and the first answer
counts. Time is an argument; who talks to whom is the fetcher's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from p2psync.ids import ChunkId
from p2psync.limits import KIB, MIB

ALL_LINKS = frozenset({"direct", "splice", "store"})
"""The kinds of link by which a source is reached."""
REQUEST_MAX = 4 * MIB
"""Plain bytes of one request; what one answer may have (`wire/peer_bodies`)."""
REQUEST_CHUNKS_MAX = 1024
REQUEST_LEAST = 512 * KIB
"""Requests shrink towards this as the end comes near, so that sources finish together."""
SLOW_SECONDS = 10.0
"""Asked for longer than this, a chunk may be asked of an idle source too."""
_LOOK_AHEAD = 8192
"""Pool entries looked at for one request: bounds the work for a source that has little."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk to bring: its id, plain length, and the generation that names it."""

    chunk: ChunkId
    length: int
    generation: int


@dataclass(slots=True)
class _Asked:
    piece: Piece
    since: float
    by: set[str]


class Sharing:
    """The pool of one transfer. Every piece is free, asked, unserved (no live peer has it), at the stores, given up,
    or has come."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._free: dict[ChunkId, Piece] = {}
        self._asked: dict[ChunkId, _Asked] = {}
        self._unserved: dict[ChunkId, Piece] = {piece.chunk: piece for piece in pieces}
        self._at_stores: dict[ChunkId, Piece] = {}
        self._given_up: dict[ChunkId, Piece] = {}
        self._not_stored: set[ChunkId] = set()
        self._lacking: dict[ChunkId, set[str]] = {}
        self._peers: set[str] = set()
        self._left = sum(piece.length for piece in self._unserved.values())

    # Sources come and go.

    def join(self, peer: str) -> None:
        """A live peer can be asked from now on, for anything that is not at the stores already."""
        self._peers.add(peer)
        for lacking in self._lacking.values():
            lacking.discard(peer)
        self._free |= self._unserved | self._given_up
        self._unserved.clear()
        self._given_up.clear()

    def leave(self, peer: str) -> None:
        """A peer is gone: what only it was asked for is free again."""
        self._peers.discard(peer)
        for chunk, asked in list(self._asked.items()):
            asked.by.discard(peer)
            if not asked.by:
                del self._asked[chunk]
                self._free[chunk] = asked.piece
        self._sort_out(list(self._free))

    @property
    def peers(self) -> frozenset[str]:
        return frozenset(self._peers)

    # Live peers.

    def take(self, peer: str, now: float) -> list[Piece]:
        """The next request to this peer, pieces of one generation; empty when there is nothing for it now."""
        if peer not in self._peers:
            return []
        bound = max(REQUEST_LEAST, min(REQUEST_MAX, self._left // (4 * max(1, len(self._peers)))))
        chosen: list[Piece] = []
        size = 0
        for piece in islice(self._free.values(), _LOOK_AHEAD):
            if peer in self._lacking.get(piece.chunk, ()) or (chosen and piece.generation != chosen[0].generation):
                continue
            if chosen and (size + piece.length > bound or len(chosen) == REQUEST_CHUNKS_MAX):
                break
            chosen.append(piece)
            size += piece.length
        if not chosen:
            chosen = self._slow(peer, now)
        for piece in chosen:
            self._free.pop(piece.chunk, None)
            asked = self._asked.setdefault(piece.chunk, _Asked(piece, now, set()))
            asked.by.add(peer)
            asked.since = now
        return chosen

    def _slow(self, peer: str, now: float) -> list[Piece]:
        """The first piece another peer has been asked for too long ago."""
        for chunk, asked in self._asked.items():
            if now - asked.since >= SLOW_SECONDS and peer not in asked.by | self._lacking.get(chunk, set()):
                return [asked.piece]
        return []

    def settle(self, peer: str, asked: Sequence[Piece], got: Collection[ChunkId], *, lost: bool = False) -> None:
        """A peer's request has ended: what is in `got` has come, and the rest it does not have (or was `lost`)."""
        for piece in asked:
            if piece.chunk in got:
                self._forget(piece)
                continue
            flying = self._asked.get(piece.chunk)
            if flying is None:
                continue  # it came from elsewhere meanwhile
            flying.by.discard(peer)
            if not lost:
                self._lacking.setdefault(piece.chunk, set()).add(peer)
            if not flying.by:
                del self._asked[piece.chunk]
                self._free[piece.chunk] = piece
        self._sort_out([piece.chunk for piece in asked])

    def _sort_out(self, chunks: Iterable[ChunkId]) -> None:
        """Free pieces that every peer lacks are for the stores."""
        for chunk in chunks:
            if chunk in self._free and self._peers <= self._lacking.get(chunk, set()):
                self._unserved[chunk] = self._free.pop(chunk)

    @property
    def _pools(self) -> tuple[dict[ChunkId, Piece], ...]:
        return self._free, self._unserved, self._at_stores, self._given_up

    def _forget(self, piece: Piece) -> None:
        known = [pool.pop(piece.chunk, None) for pool in self._pools]
        if self._asked.pop(piece.chunk, None) is not None or any(found is not None for found in known):
            self._left -= piece.length
        self._lacking.pop(piece.chunk, None)

    # Stores.

    def take_unserved(self, now: float) -> list[Piece]:
        """What the stores are to bring: all that no live peer has, and what live peers owe for too long."""
        slow = {
            chunk: asked.piece
            for chunk, asked in self._asked.items()
            if now - asked.since >= SLOW_SECONDS and chunk not in self._at_stores and chunk not in self._not_stored
        }
        taken = self._unserved | slow
        self._unserved = {}
        self._at_stores |= taken
        return list(taken.values())

    def settle_stores(self, asked: Iterable[Piece], got: Collection[ChunkId]) -> None:
        """The stores' turn for these pieces is over: what they did not give is given up, until another peer joins."""
        for piece in asked:
            held = self._at_stores.pop(piece.chunk, None)
            if piece.chunk in got:
                self._at_stores[piece.chunk] = piece
                self._forget(piece)
            elif piece.chunk in self._asked:
                self._not_stored.add(piece.chunk)  # a live peer still owes it
            elif held is not None and piece.chunk not in self._free and piece.chunk not in self._unserved:
                self._given_up[piece.chunk] = piece

    def finished(self, stores: bool) -> bool:
        """Whether nothing is under way and nobody is left to ask; `stores`: some store is connected."""
        return not (self._free or self._asked or self._at_stores or (stores and self._unserved))
