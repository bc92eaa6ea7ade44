"""Upkeep: what a replica does now and then for its feed, whatever its user does.

It sums the feed up when that has grown, looks after chunks that other feeds' snapshots left out and files here hold, and
forgets what nobody needs any more. Nothing here is urgent, nothing is lost when it does not run. Source: formats,
"Snapshots".
"""

from __future__ import annotations

from contextlib import suppress

import trio

from p2psync.errors import AccessRefused, LinkLost, StorageError
from p2psync.replica.compaction import is_due, write_snapshot
from p2psync.replica.context import Context
from p2psync.replica.forgetting import forget_entries, forget_in_store
from p2psync.replica.rescuing import rescue_chunks

LOOK_SECONDS = 60.0
"""At most so often the own feed is looked at after feeds grew."""
RESCUE_SECONDS = 86400.0
FORGET_SECONDS = 3600.0


class Upkeep:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sum_up)
            nursery.start_soon(self._rescue)
            nursery.start_soon(self._forget)

    async def _sum_up(self) -> None:
        context = self._context
        while True:
            seen = context.feeds_grew.count
            if await context.workers.run(is_due, context):
                await sum_up(context)
            await trio.sleep(LOOK_SECONDS)
            await context.feeds_grew.wait(seen)

    async def _rescue(self) -> None:
        """When a snapshot has come, and now and then: a version that needs what it left out may come after it."""
        context, known, rescued = self._context, -1, 0.0
        while True:
            seen, came, now = context.feeds_grew.count, context.snapshots, trio.current_time()
            if came != known or now - rescued >= RESCUE_SECONDS:
                known, rescued = came, now
                if await context.workers.run(rescue_chunks, context):
                    context.wake_for_uploads()
            with trio.move_on_after(RESCUE_SECONDS):
                await context.feeds_grew.wait(seen)

    async def _forget(self) -> None:
        context = self._context
        while True:
            await trio.sleep(FORGET_SECONDS)
            await context.workers.run(forget_entries, context)
            for store in list(context.stores.values()):
                with suppress(LinkLost, StorageError, AccessRefused):  # another time; only owners of a store may delete
                    await forget_in_store(context, store)


async def sum_up(context: Context) -> bool:
    """Write a snapshot of the own feed now; whether there was anything to sum up, and it could be done."""
    if not await context.workers.run(write_snapshot, context):
        return False
    context.wake_for_entries()
    context.wake_for_uploads()
    return True
