"""What keeps windows sound: order of admission, credit of bodies that end early, order of writing."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2psync.limits import LINK_CREDIT
from p2psync.session.budget import Budget
from p2psync.session.lanes import Lane, Window
from p2psync.session.link import Link
from p2psync.session.serving import RequestBody
from p2psync.wire.conversation import Conversation, Speaker, State
from p2psync.wire.messages import Bulk, Done, Urgent
from tests.support.links import MemoryNetwork


async def ready_link() -> Link:
    network = MemoryNetwork()
    await network.listen("", 1)
    link = Link(await network.connect("device", 1), Speaker.SERVER, "device")
    link.conversation.state = State.READY
    return link


async def receive(body: RequestBody, budget: Budget) -> None:
    async with body.received(budget):
        pass


async def test_a_body_is_not_asked_for_before_those_ahead_of_it() -> None:
    link, first = await ready_link(), trio.Event()
    body = RequestBody(link, Lane.BULK, 1000, first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, body, Budget(5000))
        await trio.testing.wait_all_tasks_blocked()
        assert link._windows[Lane.BULK].outstanding == 0 and not body.admitted.is_set()
        first.set()
        await body.admitted.wait()
        assert link._windows[Lane.BULK].outstanding == 1000
        nursery.cancel_scope.cancel()


async def test_credit_of_a_body_given_up_serves_the_next_one() -> None:
    link, ready, budget = await ready_link(), trio.Event(), Budget(64 * LINK_CREDIT)
    ready.set()
    window = link._windows[Lane.BULK]
    for _ in range(5):
        body = RequestBody(link, Lane.BULK, 2 * LINK_CREDIT, ready)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, body, budget)
            await body.admitted.wait()
            nursery.cancel_scope.cancel()
        body.end()
        assert window.outstanding == LINK_CREDIT
        assert window.permit(0) == 0
    window.arrived(LINK_CREDIT)
    assert window.outstanding == 0, "nothing that was given up is asked for again"
    assert budget.free == 64 * LINK_CREDIT


def test_a_withdrawn_permission_is_not_granted_twice() -> None:
    window = Window()
    assert window.permit(2 * LINK_CREDIT) == LINK_CREDIT
    window.withdraw(2 * LINK_CREDIT)
    assert window.permit(LINK_CREDIT) == 0
    assert window.arrived(LINK_CREDIT) == 0
    assert window.permit(10) == 10


async def test_messages_go_before_urgent_bodies_and_those_before_one_bulk_frame() -> None:
    link = await ready_link()
    outbox = link.outbox
    for lane in Lane:
        outbox.credit(lane, LINK_CREDIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_body, Lane.BULK, 1, [bytes(600_000)])
        nursery.start_soon(outbox.send_body, Lane.URGENT, 2, [b"entry"])
        await trio.testing.wait_all_tasks_blocked()
        outbox.say(Done(request=3))
        listener = Conversation(Speaker.CLIENT)
        listener.state = State.READY
        listener.receive_data(b"".join(outbox._next_batch()))
        nursery.cancel_scope.cancel()
    said = [event[0] for event in iter(listener.next_event, None) if event]
    assert said == [Done(request=3), Urgent(request=2, last=True), Bulk(request=1, last=False)]


async def test_a_body_that_stops_coming_gives_its_memory_back(autojump_clock: object) -> None:
    link, ready, budget = await ready_link(), trio.Event(), Budget(5000)
    ready.set()
    body = RequestBody(link, Lane.BULK, 1000, ready)
    with pytest.raises(Exception, match="stopped coming"):
        await receive(body, budget)
    assert budget.free == 5000
