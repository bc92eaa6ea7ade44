"""Who is let in: logins, replays, rights, invites, revocation, strangers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused, LinkLost
from p2psync.ids import AccessKey, RelayKey
from p2psync.limits import UNAUTHENTICATED_SECONDS
from p2psync.net.tls import open_client
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.asking import Asker
from p2psync.session.relay_link import RelayLink, open_relay_link
from p2psync.store.sqlite import Database
from p2psync.wire.login import Right, sign_login
from p2psync.wire.messages import Challenge, LoggedIn, Login
from relay.access import MIGRATIONS, make_invite
from relay.server import Running
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay
from tests.support.objects import make_pack
from tests.support.stores import SettableClock

OWNER, MEMBER = SigningKey(b"o" * 32), SigningKey(b"m" * 32)
MEMBER_KEY = AccessKey(MEMBER.public)


@asynccontextmanager
async def linked(network: MemoryNetwork, running: Running) -> AsyncIterator[RelayLink]:
    async with open_relay_link(
        running.url, network=network, clock=SystemClock(), randomness=SystemRandomness()
    ) as link:
        yield link


async def present(asker: Asker, login: Login) -> LoggedIn:
    answer, _ = await asker.ask(
        lambda request: Login(
            request=request, namespace=login.namespace, access_key=login.access_key, right=login.right,
            nonce=login.nonce, expiry=login.expiry, signature=login.signature,
        ),
        LoggedIn,
    )  # fmt: skip
    return answer


async def signed_login(link: RelayLink, key: SigningKey, relay: RelayKey, challenge: Challenge) -> Login:
    namespace = await link.create_namespace(key)
    signature = sign_login(key, relay, namespace, Right.OWN, challenge.nonce, challenge.expiry, None)
    return Login(
        request=0, namespace=namespace, access_key=AccessKey(key.public), right=Right.OWN, nonce=challenge.nonce,
        expiry=challenge.expiry, signature=signature,
    )  # fmt: skip


async def test_a_login_works_once_on_its_own_connection(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running) as link:
        login = await signed_login(link, OWNER, link.relay_key, await link._challenge())
        await present(link._asker, login)
        with pytest.raises(AccessRefused):
            await present(link._asker, login)
        again = await signed_login(link, OWNER, link.relay_key, await link._challenge())
        async with linked(network, running) as other:
            with pytest.raises(AccessRefused):
                await present(other._asker, again)


async def test_a_login_signed_for_another_relay_is_refused(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running) as link:
        login = await signed_login(link, OWNER, RelayKey(b"x" * 32), await link._challenge())
        with pytest.raises(AccessRefused):
            await present(link._asker, login)


async def test_a_late_login_is_refused_on_the_relays_clock(tmp_path: Path) -> None:
    network, clock = MemoryNetwork(), SettableClock()
    async with running_relay(tmp_path, network=network, clock=clock) as running, linked(network, running) as link:
        login = await signed_login(link, OWNER, link.relay_key, await link._challenge())
        clock.time += 61
        with pytest.raises(AccessRefused, match="too late"):
            await present(link._asker, login)


async def test_rights_are_what_was_granted_and_only_an_owner_grants(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running) as link:
        namespace = await link.create_namespace(OWNER)
        for key in (MEMBER, OWNER):
            with pytest.raises(AccessRefused):
                await link.grant(namespace, MEMBER_KEY, Right.OWN)
            if key is MEMBER:
                with pytest.raises(AccessRefused):
                    await link.login(namespace, MEMBER, Right.GET)
        owner = await link.login(namespace, OWNER, Right.OWN)
        await link.grant(namespace, MEMBER_KEY, Right.PUT)
        with pytest.raises(AccessRefused):
            await link.login(namespace, MEMBER, Right.OWN)
        member = await link.login(namespace, MEMBER, Right.PUT)
        pack = make_pack(1)
        await member.put([pack])
        assert await owner.get(pack[0]) == pack[1]
        for verb in (member.delete, member.restore):
            with pytest.raises(AccessRefused):
                await verb([pack[0]])
        with pytest.raises(AccessRefused):
            await (await link.login(namespace, MEMBER, Right.GET)).put([pack])


async def test_a_revoked_key_is_out_at_once_and_others_are_not(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, linked(network, running) as link:
        namespace = await link.create_namespace(OWNER)
        owner = await link.login(namespace, OWNER, Right.OWN)
        await link.grant(namespace, MEMBER_KEY, Right.PUT)
        async with linked(network, running) as other:
            member = await other.login(namespace, MEMBER)
            refused = trio.Event()

            async def wait_for_news() -> None:
                with pytest.raises(AccessRefused, match="taken away"):
                    await member.watch((await member.watch(-1)).revision)
                refused.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_news)
                await trio.testing.wait_all_tasks_blocked()
                await link.grant(namespace, MEMBER_KEY, None)
                with trio.fail_after(5):
                    await refused.wait()
            with pytest.raises(AccessRefused):
                await member.put([make_pack(1)])
            with pytest.raises(AccessRefused):
                await other.login(namespace, MEMBER)
        await owner.put([make_pack(2)])


async def test_invites_are_counted_exactly_and_the_same_namespace_is_free(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network, open_to_all=False) as running, linked(network, running) as link:
        assert running.token and (tmp_path / "invite").read_text().strip() == running.token
        database = Database(tmp_path / "relay.db", MIGRATIONS)
        token = make_invite(database, 3, SeededRandomness(9), 0)
        assert token.encode() not in (tmp_path / "relay.db").read_bytes()
        database.close()
        with pytest.raises(AccessRefused, match="P2PSYNC_RELAY_INVITE"):
            await link.create_namespace(OWNER)
        with pytest.raises(AccessRefused, match="does not know"):
            await link.create_namespace(OWNER, "wrong")
        made, refused = [], []

        async def create(number: int) -> None:
            try:
                made.append(await link.create_namespace(SigningKey(bytes([number]) * 32), token))
            except AccessRefused:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(create, number)
        assert (len(set(made)), len(refused)) == (3, 7)
        for number in set(range(10)) - set(refused):
            assert await link.create_namespace(SigningKey(bytes([number]) * 32)) in made
        await link.create_namespace(OWNER, running.token.upper() + " ")


async def test_strangers_are_closed_after_ten_seconds(autojump_clock: object, tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running:
        started = trio.current_time()
        silent = await network.connect("relay", running.url.port)
        assert await silent.receive_some(10) == b""
        async with linked(network, running) as link:
            await link.closed()
        half_way, _ = await open_client(await network.connect("relay", running.url.port), running.url)
        with pytest.raises(trio.BrokenResourceError):
            await half_way.send_all(b"\0\0\0")
            if not await half_way.receive_some(10):
                raise trio.BrokenResourceError
        assert trio.current_time() - started <= 3 * UNAUTHENTICATED_SECONDS + 1
        async with linked(network, running) as link:
            await link.login(await link.create_namespace(OWNER), OWNER)
            with trio.move_on_after(100):
                await link.closed()
            assert link.error is None


async def test_no_byte_is_written_for_strangers(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running:
        before = _times(tmp_path)
        async with linked(network, running) as link:
            with pytest.raises(AccessRefused):
                await link.login(await _unknown_namespace(link), OWNER)
            await link.claim_mailbox()
        assert _times(tmp_path) == before


def _times(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


async def _unknown_namespace(link: RelayLink) -> object:
    await trio.lowlevel.checkpoint()
    return bytes(16)


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x04\0\x02\x91\x20"])
async def test_garbage_ends_one_connection_and_no_more(tmp_path: Path, garbage: bytes) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running:
        raw = await network.connect("relay", running.url.port)
        await raw.send_all(garbage)
        await raw.aclose()
        stream, _ = await open_client(await network.connect("relay", running.url.port), running.url)
        await stream.send_all(garbage)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            while True:
                assert await stream.receive_some(1000)
        async with linked(network, running) as link:
            await link.create_namespace(OWNER)


async def test_a_restarted_relay_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    network, pack = MemoryNetwork(), make_pack(1)
    async with running_relay(tmp_path, network=network, port=7) as running:
        async with linked(network, running) as link:
            await (await link.login(await link.create_namespace(OWNER), OWNER)).put([pack])
    async with running_relay(tmp_path, network=network, port=7) as again:
        assert again.url == running.url
        async with linked(network, again) as link:
            store = await link.login(await link.create_namespace(OWNER), OWNER)
            assert await store.get(pack[0]) == pack[1]


async def test_a_stopping_relay_is_a_lost_link(tmp_path: Path) -> None:
    network, stop = MemoryNetwork(), trio.Event()

    async def serve(task_status: trio.TaskStatus[Running]) -> None:
        async with running_relay(tmp_path, network=network) as running:
            task_status.started(running)
            await stop.wait()

    async with trio.open_nursery() as nursery:
        running = await nursery.start(serve)
        async with linked(network, running) as link:
            stop.set()
            with trio.fail_after(5):
                await link.closed()
            with pytest.raises(LinkLost):
                await link.create_namespace(OWNER)
