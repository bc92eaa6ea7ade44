"""Folders over a link between devices: only those both can prove, only for members, and only while both serve them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.errors import LinkLost, NotFound, PeerError
from p2psync.ids import Ciphertext, EntryHash, FeedId, FolderId, IdentityKey
from p2psync.limits import FRAME_BODY_MAX
from p2psync.session.peer_channel import PeerChannel
from p2psync.session.peer_link import PeerLink
from p2psync.store.interface import Head, Watched
from p2psync.vault.channel import FolderProver
from p2psync.vault.secrets import FolderSecrets, first_epoch
from p2psync.wire.peer_bodies import WantedChunk
from p2psync.wire.peer_messages import ChannelOpened, OpenChannel
from tests.support.peers import CountedStream, device_links, devices

FEED = FeedId(b"f" * 32)
TLS_RECORD = 16 * 1024
GREETING = 8 * 1024
"""More than what handshake, hello and the opening of a channel take, and all the records."""


class Answers:
    """A folder that keeps what it was given."""

    def __init__(self, permitted: bool = True) -> None:
        self.permitted = permitted
        self.taken: list[Ciphertext] = []
        self.stream = [Ciphertext(b"s" * 48)]

    def permits(self, peer: IdentityKey) -> bool:
        return self.permitted

    async def watch(self, seen: int) -> Watched:
        if seen >= 0:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return Watched(0, {FEED: Head(1, EntryHash(b"h" * 32))})

    async def entries(self, feed: FeedId, after: int) -> Sequence[Ciphertext]:
        await trio.lowlevel.checkpoint()
        return [Ciphertext(b"e" * (1 << 20))] * 4

    async def take_entries(self, entries: Sequence[Ciphertext]) -> None:
        await trio.lowlevel.checkpoint()
        self.taken += entries

    async def chunks(self, generation: int, wanted: Sequence[WantedChunk]) -> Sequence[Ciphertext]:
        await trio.lowlevel.checkpoint()
        return self.stream


def prover(secret: bytes = b"S" * 32) -> FolderProver:
    folder = FolderId(b"f" * 16)
    epoch = first_epoch(folder, secret)
    return FolderProver(FolderSecrets(folder, {epoch.epoch: epoch}, {}, epoch.epoch))


@asynccontextmanager
async def opened(home: Path, service: Answers) -> AsyncIterator[tuple[PeerLink, PeerChannel]]:
    a, b, _ = devices(home)
    async with device_links(a, b) as (near, far), far.offer(prover(), service):
        async with near.offer(prover(), Answers()) as offer:
            yield near, await offer.open()


async def test_a_folder_opens_once_both_serve_it_and_everything_crosses(tmp_path: Path) -> None:
    service = Answers()
    async with opened(tmp_path, service) as (_, channel):
        assert (await channel.watch(-1)).heads == {FEED: Head(1, EntryHash(b"h" * 32))}
        assert [len(entry) for entry in await channel.entries(FEED, 0)] == [1 << 20] * 4
        await channel.put_entries([Ciphertext(b"x" * (1 << 20)), Ciphertext(b"y")])
        assert [len(entry) for entry in service.taken] == [1 << 20, 1]
        parts: list[bytes | bytearray] = []
        await channel.chunks(0, [WantedChunk(b"c" * 32, 10)], parts)  # type: ignore[arg-type]
        assert b"".join(parts) == b"s" * 48


async def test_of_an_answer_that_is_cut_off_every_byte_counts_that_had_come(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    service, size = Answers(), 2 * FRAME_BODY_MAX - 1
    service.stream = [Ciphertext(bytes(range(256)) * (FRAME_BODY_MAX // 128))[:size]]
    line: list[CountedStream] = []

    def cut(stream: trio.abc.Stream) -> CountedStream:
        line.append(CountedStream(stream, FRAME_BODY_MAX + FRAME_BODY_MAX // 2))  # in the middle of the second frame
        return line[-1]

    parts: list[bytes | bytearray] = []
    async with device_links(a, b, cut) as (near, far), far.offer(prover(), service):
        async with near.offer(prover(), Answers()) as offer:
            channel = await offer.open()
            with pytest.raises(LinkLost):
                await channel.chunks(0, [WantedChunk(b"c" * 32, size)], parts)  # type: ignore[arg-type]
    came = b"".join(parts)
    assert service.stream[0].startswith(came)
    assert FRAME_BODY_MAX + FRAME_BODY_MAX // 2 - len(came) < GREETING + TLS_RECORD


async def test_a_folder_offered_later_opens_then(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    async with device_links(a, b) as (near, far), near.offer(prover(), Answers()) as offer:
        got: list[PeerChannel] = []

        async def open_it() -> None:
            got.append(await offer.open())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_it)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not got
            async with far.offer(prover(), Answers()) as other:
                await other.open()
                with trio.fail_after(5):
                    while not got:
                        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("fault", ["another secret", "not a member", "reflected", "not offered"])
async def test_what_cannot_be_proven_is_no_such_channel(tmp_path: Path, fault: str) -> None:
    a, b, _ = devices(tmp_path)
    theirs = prover(b"T" * 32) if fault == "another secret" else prover()
    async with device_links(a, b) as (near, far):
        proof = prover().prove(near.theirs if fault == "reflected" else near.ours)[0]
        answers = Answers(permitted=fault != "not a member")

        async def ask() -> None:
            await near.asker.ask(lambda n: OpenChannel(request=n, channel=1, proof=proof), ChannelOpened)

        with pytest.raises(NotFound, match=r"^no such channel$"):
            if fault == "not offered":
                await ask()
            async with far.offer(theirs, answers):
                await ask()


async def test_a_proof_is_good_for_one_link_only(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    async with device_links(a, b) as (near, far):
        old = prover().prove(near.ours)[0]
    a.seed = 5  # other nonces
    async with device_links(a, b) as (near, far), far.offer(prover(), Answers()):
        with pytest.raises(NotFound):
            await near.asker.ask(lambda n: OpenChannel(request=n, channel=1, proof=old), ChannelOpened)


async def test_a_side_that_cannot_prove_the_folder_back_is_refused(tmp_path: Path) -> None:
    class Liar(FolderProver):
        def answer(self, theirs: tuple[bytes, ...], proof: bytes, ours: tuple[bytes, ...]) -> bytes | None:
            return proof  # all it has seen: reflects it

    a, b, _ = devices(tmp_path)
    folder = FolderId(b"f" * 16)
    epoch = first_epoch(folder, b"S" * 32)
    liar = Liar(FolderSecrets(folder, {epoch.epoch: epoch}, {}, epoch.epoch))
    async with device_links(a, b) as (near, far), far.offer(liar, Answers()):
        async with near.offer(prover(), Answers()) as offer:
            with pytest.raises(PeerError, match="does not have"):
                await offer.open()


async def test_a_folder_that_closes_or_a_member_that_leaves_ends_the_channel(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    service = Answers()
    async with device_links(a, b) as (near, far), near.offer(prover(), Answers()) as offer:
        async with far.offer(prover(), service):
            channel = await offer.open()
            await channel.watch(-1)
            service.permitted = False
            with pytest.raises(NotFound):
                await channel.watch(-1)
            service.permitted = True
            await channel.watch(-1)
        with pytest.raises(NotFound):
            await channel.watch(-1)


async def test_a_lost_link_ends_every_call_with_link_lost(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    async with device_links(a, b) as (near, far), near.offer(prover(), Answers()) as offer:
        async with far.offer(prover(), Answers()):
            channel = await offer.open()
            far.end("going away")
            with pytest.raises(LinkLost, match="going away"):
                await channel.watch(0)
            with pytest.raises(LinkLost):
                await channel.entries(FEED, 0)
