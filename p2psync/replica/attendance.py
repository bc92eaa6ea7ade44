"""Attendance: this device says something once a day, and notices who has been silent for long.

A heartbeat is an entry without records: it tells the others that this device lives and which heads it has seen, so that
silence means something. A member silent for 90 attended days is *lapsed*: shown as such, and not waited for. Nothing is
counted and nothing said while this device hears nobody. Source: formats, "Heartbeats".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from p2psync.ids import IdentityKey
from p2psync.index.body import decode_body
from p2psync.planner.attendance import beats, is_lapsed
from p2psync.replica.context import Context
from p2psync.replica.publisher import EntryWriter
from p2psync.sealed.entry import parse
from p2psync.vault.entry import open_entry

LOOK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Silence:
    """When something of a member last came (Unix seconds by this device's clock, None: never), and whether it lapsed."""

    heard: float | None = None
    lapsed: bool = False


class Attending:
    def __init__(self, context: Context, has_heard: Callable[[], bool]) -> None:
        """`has_heard`: whether everything some store or device showed at its last word was taken in."""
        self._context, self._has_heard = context, has_heard

    async def run(self) -> None:
        """Look now and then until cancelled."""
        context = self._context
        while True:
            seen = context.changed.count
            if not self._has_heard():
                await context.changed.wait(seen)
                continue
            if await context.workers.run(attend, context):
                context.feeds_grew.notify()
                context.changed.notify()
            await trio.sleep(LOOK_SECONDS)


def attend(context: Context) -> bool:
    """Count attended time, and write a heartbeat if nothing was written for a day; whether one was. Blocking."""
    catalog, now = context.catalog, context.clock.now()
    with context.tree, catalog.transaction():
        catalog.attendance.look(now)
        catalog.attendance.meet(context.membership.members)
        if context.unsure or context.membership.role_of(context.device.identity_key) is None:
            return False
        if not beats(_last_written(context), now):
            return False
        EntryWriter(context).flush(heartbeat=True)
        return True


def silences(context: Context) -> dict[IdentityKey, Silence]:
    """How long each member has been silent. One that has not been met by `attend` yet is not lapsed. Blocking."""
    return {
        member: Silence(heard.at, is_lapsed(heard.silent))
        for member, heard in context.catalog.attendance.heard().items()
        if member in context.membership.members and member != context.device.identity_key
    }


def _last_written(context: Context) -> float:
    """What this device's clock said (Unix seconds) when it wrote its last entry."""
    data = context.catalog.feeds.entry(context.own_feed, context.catalog.feeds.state(context.own_feed).seq)
    assert data is not None, "a feed begins with its binding"
    entry = parse(data)
    return decode_body(open_entry(context.folder, context.secrets.epoch(entry.epoch), entry)).time_ms / 1000
