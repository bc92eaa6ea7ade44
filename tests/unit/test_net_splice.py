"""Splices: a stream like any other, through a real relay too; who may meet, and what ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused, LinkLost
from p2psync.ids import AccessKey, NamespaceId
from p2psync.limits import SPLICE_WAIT_SECONDS
from p2psync.net.network import Network, TcpNetwork
from p2psync.net.splice import SpliceStream
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.link import Link
from p2psync.session.relay_link import RelayLink, open_relay_link
from p2psync.session.splicing import open_splice
from p2psync.wire.conversation import Speaker
from p2psync.wire.login import Right
from p2psync.wire.messages import SpliceSide
from relay import splices
from tests.support.links import PIPE_BYTES, MemoryNetwork, SeededRandomness, running_relay
from tests.support.web import make_web_identity, web_front

OWNER, MEMBER, STRANGER = SigningKey(b"o" * 32), SigningKey(b"m" * 32), SigningKey(b"s" * 32)
POINT = bytes(range(16))


async def direct_pair() -> tuple[SpliceStream, SpliceStream]:
    network = MemoryNetwork()
    (listener,) = await network.listen("", 1)
    near = await network.connect("relay.example", 1)
    far = await listener.accept()
    await listener.aclose()
    return SpliceStream(near), SpliceStream(far)


async def test_splice_streams_keep_trios_stream_contract() -> None:
    async def clogged_pair() -> tuple[SpliceStream, SpliceStream]:
        pair = await direct_pair()
        for end in pair:
            await end.send_all(bytes(PIPE_BYTES - 4))
        return pair

    await trio.testing.check_half_closeable_stream(direct_pair, clogged_pair)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.data())
def test_pieces_are_understood_however_they_are_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(len(piece).to_bytes(4, "big") + piece for piece in pieces) + bytes(4)
    already = data.draw(st.integers(0, len(raw)))
    step = data.draw(st.integers(1, 9))

    async def run() -> None:
        near, far = trio.testing.memory_stream_pair()
        stream = SpliceStream(far, raw[:already])

        async def send() -> None:
            for start in range(already, len(raw), step):
                await near.send_all(raw[start : start + step])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            found = b""
            while part := await stream.receive_some():
                found += part
        assert found == b"".join(pieces)

    trio.run(run)


@asynccontextmanager
async def meeting(tmp_path: Path, network: Network) -> AsyncIterator[tuple[RelayUrl, NamespaceId, RelayLink]]:
    """A relay, a namespace with two members, and the owner's ordinary link."""
    async with (
        running_relay(tmp_path, network=network) as running,
        open_relay_link(running.url, network=network, clock=SystemClock(), randomness=SystemRandomness()) as link,
    ):
        namespace = await link.create_namespace(OWNER)
        await link.login(namespace, OWNER, Right.OWN)
        await link.grant(namespace, AccessKey(MEMBER.public), Right.GET)
        yield running.url, namespace, link


async def splice_pair(url: RelayUrl, namespace: NamespaceId, network: Network) -> tuple[SpliceStream, SpliceStream]:
    found: dict[SpliceSide, SpliceStream] = {}

    async def join(key: SigningKey, side: SpliceSide) -> None:
        found[side] = await open_splice(
            url, namespace=namespace, key=key, rendezvous=POINT, side=side, network=network,
            randomness=SystemRandomness(),
        )  # fmt: skip

    async with trio.open_nursery() as nursery:
        nursery.start_soon(join, OWNER, SpliceSide.DIALS)
        nursery.start_soon(join, MEMBER, SpliceSide.ANSWERS)
    return found[SpliceSide.DIALS], found[SpliceSide.ANSWERS]


@pytest.mark.parametrize("network", [MemoryNetwork(), TcpNetwork()], ids=["memory", "tcp"])
async def test_splices_through_a_relay_keep_trios_stream_contract(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splices, "LINGER_SECONDS", 0.1)  # how long one that only sends may not notice
    async with meeting(tmp_path, network) as (url, namespace, _):
        await trio.testing.check_half_closeable_stream(lambda: splice_pair(url, namespace, network), None)


async def test_everything_sent_arrives_though_the_sender_left(tmp_path: Path) -> None:
    network, data = TcpNetwork(), bytes(range(256)) * 20_000
    async with meeting(tmp_path, network) as (url, namespace, link):
        one, two = await splice_pair(url, namespace, network)

        async def send() -> None:
            await one.send_all(data)
            await one.aclose()

        received = bytearray()
        async with two, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while part := await two.receive_some():
                received += part
        assert received == data
        await link.close_mailbox(1)  # the session beside it is as it was


async def test_a_slow_reader_slows_its_writer_and_not_the_relay(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with meeting(tmp_path, network) as (url, namespace, link):
        one, two = await splice_pair(url, namespace, network)
        sent = 0
        with trio.move_on_after(0.3) as scope:
            while True:
                await one.send_all(bytes(10_000))
                sent += 10_000
        assert scope.cancelled_caught and sent < 3_000_000
        await link.close_mailbox(1)
        await trio.aclose_forcefully(one)
        await trio.aclose_forcefully(two)


async def test_a_device_that_nobody_meets_is_told(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with meeting(tmp_path, network) as (url, namespace, _):
        started = trio.current_time()
        with pytest.raises(LinkLost, match="did not come"):
            await open_splice(
                url, namespace=namespace, key=OWNER, rendezvous=POINT, side=SpliceSide.DIALS, network=network,
                randomness=SeededRandomness(1),
            )  # fmt: skip
        assert trio.current_time() - started >= SPLICE_WAIT_SECONDS


async def test_the_same_side_takes_the_place_of_its_broken_connection(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with meeting(tmp_path, network) as (url, namespace, _), trio.open_nursery() as nursery:

        async def join(key: SigningKey, side: SpliceSide) -> SpliceStream:
            return await open_splice(
                url, namespace=namespace, key=key, rendezvous=POINT, side=side, network=network,
                randomness=SystemRandomness(),
            )  # fmt: skip

        replaced = trio.Event()

        async def first() -> None:
            with pytest.raises(LinkLost):
                await join(OWNER, SpliceSide.DIALS)
            replaced.set()

        async def second() -> None:
            async with await join(OWNER, SpliceSide.DIALS) as stream:
                await stream.send_all(b"x")

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(second)
        await replaced.wait()
        async with await join(MEMBER, SpliceSide.ANSWERS) as stream:
            assert await stream.receive_some() == b"x"


async def test_strangers_and_the_revoked_do_not_meet(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with meeting(tmp_path, network) as (url, namespace, link):
        with pytest.raises(AccessRefused), trio.fail_after(4):
            await open_splice(
                url, namespace=namespace, key=STRANGER, rendezvous=POINT, side=SpliceSide.DIALS, network=network,
                randomness=SeededRandomness(1),
            )  # fmt: skip
        one, two = await splice_pair(url, namespace, network)
        await link.grant(namespace, AccessKey(MEMBER.public), None)
        with trio.fail_after(4):  # at once, not when the one that was cut off has lingered
            for end in (one, two):
                with pytest.raises(trio.BrokenResourceError):
                    await end.receive_some()
                await end.aclose()


async def test_a_folder_has_a_bounded_number_of_splices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = MemoryNetwork()
    monkeypatch.setattr(splices, "SPLICES_PER_NAMESPACE", 2)
    async with meeting(tmp_path, network) as (url, namespace, _):
        pair = await splice_pair(url, namespace, network)
        with pytest.raises(AccessRefused, match="at most 2"):
            await open_splice(
                url, namespace=namespace, key=OWNER, rendezvous=bytes(16), side=SpliceSide.DIALS, network=network,
                randomness=SeededRandomness(1),
            )  # fmt: skip
        for end in pair:
            await end.aclose()


async def test_a_relay_that_ends_is_a_lost_link_at_both_devices(tmp_path: Path) -> None:
    network = TcpNetwork()
    async with meeting(tmp_path, network) as (url, namespace, _):
        pair = await splice_pair(url, namespace, network)
    for end in pair:
        with pytest.raises(LinkLost):
            await Link(end, Speaker.CLIENT, "the other device").next_message()
        await end.aclose()


async def test_devices_meet_behind_a_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity, network = make_web_identity(tmp_path), TcpNetwork()
    monkeypatch.setenv("SSL_CERT_FILE", str(identity.authority))
    async with meeting(tmp_path / "relay", network) as (url, namespace, _), web_front(identity, url.port) as port:
        one, two = await splice_pair(parse_relay_url(f"wss://127.0.0.1:{port}/"), namespace, network)
        await one.send_all(b"there")
        assert await two.receive_some() == b"there"
        await two.send_eof()
        assert await one.receive_some() == b""
        await one.aclose()
        await two.aclose()
