"""Pairing mailboxes: two sides, one joiner, ten minutes, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from p2psync.errors import AccessRefused, NotFound, PeerError
from p2psync.limits import MAILBOX_BYTES, MAILBOX_SECONDS
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.relay_link import open_relay_link
from p2psync.wire.messages import Side
from relay.mailboxes import PER_ADDRESS, POOL, Mailboxes, first_after_restart
from tests.support.links import MemoryNetwork, SeededRandomness, running_relay


async def test_mail_passes_between_two_devices_whoever_comes_first(tmp_path: Path) -> None:
    network = MemoryNetwork()
    device = network.seen_from("10.0.0.2")
    async with running_relay(tmp_path, network=network) as running:
        arguments = {"clock": SystemClock(), "randomness": SeededRandomness(4)}
        async with (
            open_relay_link(running.url, network=network, **arguments) as admin,  # type: ignore[arg-type]
            open_relay_link(running.url, network=device, **arguments) as joiner,  # type: ignore[arg-type]
        ):
            number = await admin.claim_mailbox()
            assert number == 1

            async def answer() -> None:
                assert await joiner.next_mail(number, Side.JOINER, 0) == b"hello"
                await joiner.put_mail(number, Side.JOINER, 0, b"x" * 9000)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                await trio.testing.wait_all_tasks_blocked()
                await admin.put_mail(number, Side.ADMIN, 0, b"hello")
                assert await admin.next_mail(number, Side.ADMIN, 0) == b"x" * 9000
            await admin.close_mailbox(number)
            await admin.close_mailbox(number)
            with pytest.raises(NotFound):
                await joiner.next_mail(number, Side.JOINER, 0)
            assert await admin.claim_mailbox(7) == 7
            with pytest.raises(AccessRefused):
                await joiner.claim_mailbox(7)


async def test_a_second_joiner_is_told_that_the_code_is_used() -> None:
    boxes = Mailboxes()
    number = boxes.claim("a", None)
    boxes.put(number, Side.JOINER, 0, b"first")
    boxes.put(number, Side.JOINER, 0, b"first")
    with pytest.raises(AccessRefused, match="already used"):
        boxes.put(number, Side.JOINER, 0, b"second")
    assert await boxes.wait(number, Side.ADMIN, 0) == b"first"


async def test_a_mailbox_is_bounded_in_bytes_order_and_time(autojump_clock: object) -> None:
    boxes = Mailboxes()
    number = boxes.claim("a", None)
    boxes.put(number, Side.ADMIN, 0, bytes(MAILBOX_BYTES))
    with pytest.raises(AccessRefused):
        boxes.put(number, Side.JOINER, 0, b"1")
    with pytest.raises(PeerError):
        boxes.put(number, Side.JOINER, 1, b"")
    started = trio.current_time()
    with pytest.raises(NotFound):
        await boxes.wait(number, Side.ADMIN, 0)
    assert trio.current_time() - started == pytest.approx(MAILBOX_SECONDS)
    assert len(boxes) == 0


async def test_ten_thousand_claims_from_one_address_do_not_keep_others_out(autojump_clock: object) -> None:
    boxes = Mailboxes()
    honest = boxes.claim("honest", None)
    for _ in range(10_000):
        with pytest.raises(AccessRefused):
            while True:
                boxes.claim("attacker", None)
    assert len(boxes) == 1 + PER_ADDRESS
    assert boxes.claim("later", None) <= PER_ADDRESS + 2
    boxes.put(honest, Side.ADMIN, 0, b"hello")
    assert await boxes.wait(honest, Side.JOINER, 0) == b"hello"


async def test_after_a_restart_fresh_codes_leave_the_numbers_of_earlier_ones_alone(autojump_clock: object) -> None:
    earlier = Mailboxes()
    shown = earlier.claim("a", None)
    boxes = Mailboxes(first_after_restart(SystemRandomness()))
    fresh = boxes.claim("b", None)
    assert boxes.claim("a", shown) == shown != fresh
    await trio.sleep(MAILBOX_SECONDS + 1)
    assert boxes.claim("a", None) == 1


async def test_the_whole_pool_is_given_out_wherever_it_begins() -> None:
    boxes = Mailboxes(9_000)
    numbers = {boxes.claim(str(count), None) for count in range(POOL)}
    assert len(numbers) == POOL
    with pytest.raises(AccessRefused, match="no pairing numbers left"):
        boxes.claim("one more", None)


async def test_a_wait_ends_when_the_mailbox_is_closed() -> None:
    boxes = Mailboxes()
    number = boxes.claim("a", None)

    async def wait() -> None:
        with pytest.raises(NotFound):
            await boxes.wait(number, Side.ADMIN, 0)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            boxes.close(number)
