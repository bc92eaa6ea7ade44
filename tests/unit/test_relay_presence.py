"""Presence slots at the relay: who may write what, for how long, and what a watcher sees."""

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
from p2psync.errors import AccessRefused, PeerError, QuotaExceeded
from p2psync.ids import AccessKey, Ciphertext, NamespaceId
from p2psync.limits import SLOT_BYTES, SLOTS_PER_NAMESPACE
from p2psync.seams import SystemClock
from p2psync.session.presence import Presence as RemotePresence
from p2psync.session.relay_link import RelayLink, open_relay_link
from p2psync.wire.login import Right
from relay.presence import SLOTS_PER_KEY, Presence
from relay.server import Running
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay

OWNER, READER = SigningKey(b"o" * 32), SigningKey(b"r" * 32)
A, B = bytes(16), bytes(range(16))
SPACE, KEY = NamespaceId(bytes(16)), AccessKey(bytes(32))
SEALED = Ciphertext(b"sealed")


@asynccontextmanager
async def member(
    network: MemoryNetwork, running: Running, key: SigningKey
) -> AsyncIterator[tuple[RelayLink, RemotePresence]]:
    async with open_relay_link(
        running.url, network=network, clock=SystemClock(), randomness=SeededRandomness(key.public[0])
    ) as link:
        namespace = await link.create_namespace(OWNER)
        right = Right.OWN if key is OWNER else Right.GET
        if key is OWNER:
            store = await link.login(namespace, OWNER, Right.OWN)
            await link.grant(namespace, AccessKey(READER.public), Right.GET)
        else:
            store = await link.login(namespace, key, right)
        yield link, link.presence(store)


async def test_members_find_what_others_left(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with (
        running_relay(tmp_path, network=network) as running,
        member(network, running, OWNER) as (link, ours),
        member(network, running, READER) as (_, theirs),
    ):
        assert "presence" in link.features
        assert await theirs.get_slots([A, B]) == ()
        await ours.put_slot(A, SEALED, 300)
        await theirs.put_slot(A, Ciphertext(b"mine"), 100)
        assert {(slot.content, slot.seconds) for slot in await theirs.get_slots([A])} == {(SEALED, 300), (b"mine", 100)}
        assert await theirs.get_slots([B]) == ()
        await ours.put_slot(A, Ciphertext(b""), 1)
        assert [slot.content for slot in await ours.get_slots([A, B])] == [b"mine"]
        await trio.sleep(101)
        assert await ours.get_slots([A]) == ()


async def test_a_watcher_sees_the_latest_state_once(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with (
        running_relay(tmp_path, network=network) as running,
        member(network, running, OWNER) as (_, ours),
        member(network, running, READER) as (_, theirs),
    ):
        seen = await theirs.watch_slots(-1)
        assert seen.slots == ()
        for text in (b"one", b"two", b"three"):
            await ours.put_slot(A, Ciphertext(text), 60)
        seen = await theirs.watch_slots(seen.revision)
        assert [slot.content for slot in seen.slots] == [b"three"]
        await ours.put_slot(A, Ciphertext(b"three"), 90)
        with trio.move_on_after(0.05) as scope:
            await theirs.watch_slots(seen.revision)
        assert scope.cancelled_caught
        assert [slot.seconds for slot in await theirs.get_slots([A])] == [90]


async def test_a_revoked_device_leaves_no_slot(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with (
        running_relay(tmp_path, network=network) as running,
        member(network, running, OWNER) as (link, ours),
        member(network, running, READER) as (_, theirs),
    ):
        await theirs.put_slot(A, SEALED, 60)
        await link.grant(await link.create_namespace(OWNER), AccessKey(READER.public), None)
        assert await ours.get_slots([A]) == ()
        with pytest.raises(AccessRefused):
            await theirs.put_slot(A, SEALED, 60)


async def test_too_much_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with running_relay(tmp_path, network=network) as running, member(network, running, OWNER) as (_, ours):
        with pytest.raises(PeerError):
            await ours.put_slot(A, Ciphertext(bytes(SLOT_BYTES + 1)), 60)
        for number in range(SLOTS_PER_KEY):
            await ours.put_slot(bytes([number]) * 16, Ciphertext(bytes(SLOT_BYTES)), 60)
        with pytest.raises(AccessRefused):
            await ours.put_slot(b"x" * 16, SEALED, 60)
        await ours.put_slot(A, SEALED, 60)
        assert [slot.content for slot in await ours.get_slots([A])] == [SEALED]


async def test_a_namespace_and_the_relay_have_bounded_room(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = Presence()
    for number in range(SLOTS_PER_NAMESPACE):
        presence.put(SPACE, AccessKey(number.to_bytes(32, "big")), A, b"x", 60)
    with pytest.raises(QuotaExceeded):
        presence.put(SPACE, AccessKey(b"k" * 32), A, b"x", 60)
    monkeypatch.setattr("relay.presence.TOTAL_BYTES", presence._bytes + 300)
    presence.put(NamespaceId(b"n" * 16), KEY, A, b"x", 60)
    with pytest.raises(QuotaExceeded):
        presence.put(NamespaceId(b"n" * 16), KEY, B, b"x", 60)
    await trio.sleep(61)
    assert len(presence) == 0 and presence._bytes == 0 and not presence._boards


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.integers(0, 2), st.binary(max_size=3), st.integers(1, 9)), max_size=30
    )
)
def test_slots_are_those_of_a_plain_model(steps: list[tuple[bytes, int, bytes, int]]) -> None:
    async def run() -> None:
        presence, model = Presence(), {}
        for slot, who, content, seconds in steps:
            presence.put(SPACE, AccessKey(bytes([who]) * 32), slot, content, seconds)
            model[slot, who] = (content, trio.current_time() + seconds)
            await trio.sleep(seconds / 3)
            left = sorted(
                (slot, content) for (slot, _), (content, end) in model.items() if content and end > trio.current_time()
            )
            assert sorted((slot, content) for slot, content, _ in presence.present(SPACE)) == left

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
