"""The answering side of a link between devices: folders on offer, channels opened to them, and their requests.

Knows which channel number of the other end means which folder here, and bounds the memory that answers and incoming
entries take. A request on a channel that is not open, of a folder that is closed, or by a device that is no member gets
the same words as a proof that matches nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from p2psync.errors import NotFound, PeerError
from p2psync.ids import IdentityKey
from p2psync.limits import MIB
from p2psync.session.budget import Budget
from p2psync.session.lanes import Lane
from p2psync.session.link import Link
from p2psync.session.peer_channel import FolderService, Prover, Transcript
from p2psync.session.serving import RequestBody, Response, joined
from p2psync.wire.bodies import encode_heads
from p2psync.wire.messages import Answer, Done
from p2psync.wire.peer_bodies import (
    CHUNK_LIST_MAX,
    ENTRIES_BYTES_MAX,
    ENTRY_LIST_MAX,
    decode_chunk_list,
    decode_entries,
    encode_entries,
    stream_size_max,
)
from p2psync.wire.peer_messages import (
    ChannelOpened,
    GetChunks,
    GetEntries,
    OpenChannel,
    PeerRequest,
    Punch,
    Punching,
    PutEntries,
    WatchHeads,
)

OUTGOING_BYTES = 16 * MIB
"""Sealed chunks and entries in memory for one other device: four requests, one sealed while another travels."""
INCOMING_BYTES = 16 * MIB
CHANNELS_MAX = 4096
"""Channels the other end may have open: one for each folder in common."""
_NO_CHANNEL = "no such channel"

AnswerPunch = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
"""Takes the other side's outside addresses, begins to dial them, and gives our own. NotFound when it will not."""


class Offered:
    """One folder this side serves, and how often the other side has opened it."""

    def __init__(self, prover: Prover, service: FolderService) -> None:
        self.prover, self.service = prover, service
        self.opened = 0
        self.news = trio.lowlevel.ParkingLot()

    def note_opened(self) -> None:
        self.opened += 1
        self.news.unpark_all()

    async def wait_opened(self, seen: int) -> None:
        """Wait until the other side has opened the folder more than `seen` times."""
        await trio.lowlevel.checkpoint()
        while self.opened == seen:
            await self.news.park()


class PeerServing:
    """Answers one other device. `theirs` and `ours` are the transcripts of their proofs and of ours."""

    def __init__(self, link: Link, peer: IdentityKey, theirs: Transcript, ours: Transcript) -> None:
        self._link, self._peer, self._theirs, self._ours = link, peer, theirs, ours
        self.answer_punch: AnswerPunch | None = None
        self._offers: list[Offered] = []
        self._channels: dict[int, Offered] = {}
        self._outgoing, self._incoming = Budget(OUTGOING_BYTES), Budget(INCOMING_BYTES)

    def add(self, offered: Offered) -> None:
        self._offers.append(offered)

    def remove(self, offered: Offered) -> None:
        self._offers.remove(offered)
        self._channels = {number: each for number, each in self._channels.items() if each is not offered}

    def close(self, channel: int) -> None:
        """The other side's folder is closed; one that is not open is no error."""
        self._channels.pop(channel, None)

    async def answer(self, request: PeerRequest, body: RequestBody) -> Response:
        match request:
            case OpenChannel():
                await trio.lowlevel.checkpoint()
                return self._open(request)
            case WatchHeads(channel=channel, seen=seen):
                return await self._watch(request.request, self._service(channel), seen)
            case GetEntries():
                return await self._get_entries(request, self._service(request.channel))
            case PutEntries():
                return await self._put_entries(request, self._service(request.channel), body)
            case GetChunks():
                return await self._get_chunks(request, self._service(request.channel), body)
            case Punch(request=number, outside=outside):
                if self.answer_punch is None:
                    raise NotFound("this link is not to be replaced by a direct one")
                return Punching(request=number, outside=tuple(await self.answer_punch(outside)))
        raise PeerError(f"a device does not ask {type(request).__name__}")

    def _open(self, request: OpenChannel) -> ChannelOpened:
        if len(self._channels) >= CHANNELS_MAX:
            raise PeerError("too many channels are open")
        for offered in self._offers:
            proof = offered.prover.answer(self._theirs, request.proof, self._ours)
            if proof is not None and offered.service.permits(self._peer):
                self._channels[request.channel] = offered
                offered.note_opened()
                return ChannelOpened(request=request.request, proof=proof)
        raise NotFound(_NO_CHANNEL)

    def _service(self, channel: int) -> FolderService:
        offered = self._channels.get(channel)
        if offered is None or not offered.service.permits(self._peer):
            raise NotFound(_NO_CHANNEL)
        return offered.service

    async def _watch(self, number: int, service: FolderService, seen: int) -> Response:
        watched = await service.watch(seen)
        body = encode_heads(watched.revision, [(feed, head.seq, head.hash) for feed, head in watched.heads.items()])
        return Answer(request=number, size=len(body), bulk=False), body

    async def _get_entries(self, request: GetEntries, service: FolderService) -> Response:
        async with self._outgoing.hold(ENTRIES_BYTES_MAX):
            entries = await service.entries(request.feed, request.after)
            await self._send(request.request, Lane.URGENT, encode_entries(entries))
        return None

    async def _put_entries(self, request: PutEntries, service: FolderService, body: RequestBody) -> Done:
        if not 0 < request.size <= ENTRY_LIST_MAX:
            raise PeerError(f"an entry list of {request.size} bytes")
        async with body.received(self._incoming) as parts:
            entries = decode_entries(joined(parts))
            parts.clear()
            await service.take_entries(entries)
        return Done(request=request.request)

    async def _get_chunks(self, request: GetChunks, service: FolderService, body: RequestBody) -> Response:
        if not 0 < request.size <= CHUNK_LIST_MAX:
            raise PeerError(f"a chunk list of {request.size} bytes")
        async with body.received(self._incoming) as parts:
            wanted = decode_chunk_list(joined(parts))
        async with self._outgoing.hold(stream_size_max(each.length for each in wanted)):
            stream = await service.chunks(request.generation, wanted)
            await self._send(request.request, Lane.BULK, stream)
        return None

    async def _send(self, number: int, lane: Lane, buffers: Sequence[bytes]) -> None:
        """Say the answer and its body, in the lane's order, while the caller holds the memory."""
        size = sum(len(buffer) for buffer in buffers)
        outbox = self._link.outbox
        async with outbox.turn(lane):
            self._link.say(Answer(request=number, size=size, bulk=lane is Lane.BULK))
            try:
                await outbox.send_body(lane, number, buffers)
            except BaseException:
                outbox.forget(number)
                raise
