"""Laws of the mailbox stream between a joiner and the admin's device, and of what is called out on the LAN around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2psync.errors import AccessRefused, NotFound
from p2psync.pairing.calls import CALL_BYTES, Question, Reply, read_call
from p2psync.session.mail_link import MailLink, MailServing
from p2psync.session.mailbox import Mailbox
from p2psync.wire.messages import Side
from tests.support.links import SeededRandomness


@asynccontextmanager
async def mail_streams(mailbox: Mailbox) -> AsyncIterator[tuple[MailLink, MailServing]]:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        link, serving = MailLink(near, "the other end"), MailServing(far, mailbox)
        nursery.start_soon(link.carry)
        nursery.start_soon(serving.run)
        yield link, serving
        nursery.cancel_scope.cancel()


async def test_a_stranger_may_speak_as_the_joiner_only_and_waits_for_nothing(autojump_clock: trio.abc.Clock) -> None:
    mailbox = Mailbox(7, float("inf"))
    mailbox.put(Side.ADMIN, 0, b"half")
    async with mail_streams(mailbox) as (link, serving):
        assert await link.next_mail(7, Side.JOINER, 0) == b"half"
        for refused, attempt in (
            (AccessRefused, lambda: link.put_mail(7, Side.ADMIN, 1, b"offer")),
            (AccessRefused, lambda: link.next_mail(7, Side.ADMIN, 0)),
            (AccessRefused, lambda: link.next_mail(7, Side.JOINER, 1)),
            (AccessRefused, lambda: link.put_mail(7, Side.JOINER, 0, bytes(16 * 1024 + 1))),
            (NotFound, lambda: link.put_mail(8, Side.JOINER, 0, b"guess")),
        ):
            with pytest.raises(refused):
                await attempt()
        assert not serving.joiner
        await trio.sleep(11)
        assert link.error is not None


async def test_a_joiner_that_left_its_guess_may_wait_and_another_is_told(autojump_clock: trio.abc.Clock) -> None:
    mailbox = Mailbox(7, float("inf"))
    async with mail_streams(mailbox) as (link, _):
        await link.put_mail(7, Side.JOINER, 0, b"guess")
        await trio.sleep(300)
        async with mail_streams(mailbox) as (second, _):
            with pytest.raises(AccessRefused, match="already used"):
                await second.put_mail(7, Side.JOINER, 0, b"another")
        mailbox.put(Side.ADMIN, 0, b"half")
        mailbox.put(Side.ADMIN, 1, b"offer")
        assert await link.next_mail(7, Side.JOINER, 1) == b"offer"
        mailbox.close()
        with pytest.raises(NotFound):
            await link.next_mail(7, Side.JOINER, 2)


def test_garbage_ends_a_stream_and_nothing_else(autojump_clock: trio.abc.Clock) -> None:
    random = SeededRandomness(6)

    async def one(data: bytes) -> None:
        near, far = trio.testing.memory_stream_pair()
        mailbox = Mailbox(7, float("inf"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(MailServing(far, mailbox).run)
            await near.send_all(data)
            with trio.fail_after(15):
                while await near.receive_some():
                    pass
        assert not mailbox.size

    async def all_of_them() -> None:
        for size in range(1, 200):
            await one(random.bytes(size))

    trio.run(all_of_them, clock=autojump_clock)


def test_calls_are_read_as_they_were_written_and_nothing_else_is() -> None:
    question, reply = Question(7), Reply(99_999, 22_401, b"m" * 16)
    assert read_call(question.encode()) == question and read_call(reply.encode()) == reply
    assert len(question.encode()) == len(reply.encode()) == CALL_BYTES
    random = SeededRandomness(7)
    for data in (
        b"",
        question.encode()[:-1],
        reply.encode() + b"x",
        Reply(7, 0, b"m" * 16).encode(),
        Question(0).encode(),
    ):
        assert read_call(data) is None
    assert all(read_call(random.bytes(CALL_BYTES)) is None for _ in range(1000))
