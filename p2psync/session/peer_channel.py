"""One folder on a link between two devices, from both sides: what is asked, and what may be asked of us.

`PeerChannel` asks the other device about one folder; `FolderService` is what a folder here must be able to answer.
Everything that crosses is `Ciphertext`: no code path can hand a peer the bytes of a file. Neither side names the folder:
the channel was opened by proof (`peer_link`). A `NotFound` from any verb says that the folder is not open there any
more; a chunk the peer does not have is no error but left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2psync.errors import PeerError
from p2psync.ids import Ciphertext, EntryHash, FeedId, IdentityKey
from p2psync.session.asking import Asker
from p2psync.store.interface import Head, Watched
from p2psync.wire.bodies import REPORT_MAX, decode_heads
from p2psync.wire.messages import Answer, Done
from p2psync.wire.peer_bodies import (
    ENTRY_LIST_MAX,
    WantedChunk,
    decode_entries,
    encode_chunk_list,
    encode_entries,
    stream_size_max,
)
from p2psync.wire.peer_messages import GetChunks, GetEntries, PutEntries, WatchHeads

Transcript = tuple[bytes, ...]
"""Both nonces, both pins, and the role of whoever proves (`peer_link`)."""


class Prover(Protocol):
    """A folder's secret, as far as proofs go."""

    def prove(self, transcript: Transcript) -> Sequence[bytes]:
        """Proofs to try one after another."""

    def answer(self, theirs: Transcript, proof: bytes, ours: Transcript) -> bytes | None:
        """Our proof if theirs is good, else None."""


class FolderService(Protocol):
    """What a folder answers to another device. Every verb may be called by several tasks at once."""

    def permits(self, peer: IdentityKey) -> bool:
        """Whether this device may ask at all: it is a member. Asked again for every request."""

    async def watch(self, seen: int) -> Watched:
        """Heads and their revision, once it differs from `seen` (-1: at once)."""

    async def entries(self, feed: FeedId, after: int) -> Sequence[Ciphertext]:
        """Held entries of `feed` behind `after`, in order, within the bounds of an entry list."""

    async def take_entries(self, entries: Sequence[Ciphertext]) -> None:
        """Entries the other device has just written. What cannot be used is dropped: heads tell the truth later."""

    async def chunks(self, generation: int, wanted: Sequence[WantedChunk]) -> Sequence[Ciphertext]:
        """A sealed stream of those of the wanted chunks that are here now, as buffers one after another."""


class PeerChannel:
    """One folder at one other device. Made by `FolderOffer.open`."""

    def __init__(self, asker: Asker, number: int) -> None:
        self._asker, self.number = asker, number

    async def watch(self, seen: int) -> Watched:
        """The other device's heads once their revision differs from `seen` (-1: at once); level-triggered."""
        _, data = await self._asker.ask(
            lambda request: WatchHeads(request=request, channel=self.number, seen=max(seen, -1)),
            Answer,
            most=REPORT_MAX,
            waits=True,
        )
        revision, rows = decode_heads(data)
        return Watched(revision, {FeedId(feed): Head(seq, EntryHash(name)) for feed, seq, name in rows})

    async def entries(self, feed: FeedId, after: int) -> list[Ciphertext]:
        """Entries of `feed` behind `after`, as many as one answer holds. The reader verifies them."""
        _, data = await self._asker.ask(
            lambda request: GetEntries(request=request, channel=self.number, feed=feed, after=after),
            Answer,
            most=ENTRY_LIST_MAX,
        )
        return decode_entries(data)

    async def put_entries(self, entries: Sequence[Ciphertext]) -> None:
        """Hand over consecutive entries of our own feed, within the bounds of an entry list."""
        body = encode_entries(entries)
        size = sum(len(part) for part in body)
        if not 0 < size <= ENTRY_LIST_MAX:
            raise PeerError(f"an entry list of {size} bytes cannot be sent")
        await self._asker.ask(
            lambda request: PutEntries(request=request, channel=self.number, size=size), Done, body=body
        )

    async def chunks(self, generation: int, wanted: Sequence[WantedChunk], parts: list[bytes | bytearray]) -> None:
        """Ask for chunks; the bytes of the sealed stream are gathered in `parts` as they come.

        When the link is lost, `parts` holds what had come: complete frames in it are good.
        """
        body = encode_chunk_list(wanted)
        await self._asker.ask(
            lambda request: GetChunks(request=request, channel=self.number, generation=generation, size=len(body)),
            Answer,
            body=[body],
            most=stream_size_max(each.length for each in wanted),
            parts=parts,
        )
