"""One side's view of a mailbox, over whatever link is up: says everything again after every interruption.

A mailbox stands at a relay or, for joiners on the same LAN, at the admin's own device. A relay keeps mailboxes in memory
only, so after its restart the admin claims the same nameplate anew and both sides put all they have said once more; the
same bytes under the same number change nothing. Knows neither what the messages mean nor how links are made: `links`
waits for one that is up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from p2psync.errors import AccessRefused, LinkLost, NotFound, P2psyncError, UserError
from p2psync.wire.messages import Side

RETRY_SECONDS = 1.0
"""Between two tries on a lost link or a vanished mailbox: the link itself backs off, this only breaks a hot loop."""
PARTING_SECONDS = 10.0
"""How long a last word may take that nobody depends on."""


class Mailboxes(Protocol):
    """The mailbox verbs of a relay link."""

    async def claim_mailbox(self, wanted: int | None = None) -> int: ...

    async def put_mail(self, nameplate: int, side: Side, index: int, body: bytes) -> None: ...

    async def next_mail(self, nameplate: int, side: Side, index: int) -> bytes: ...

    async def close_mailbox(self, nameplate: int) -> None: ...


Links = Callable[[], Awaitable[Mailboxes]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mailbox stands: `name` is a relay's URL or what the node calls the LAN, `links` waits for a way there."""

    name: str
    links: Links


class Mail:
    """Messages of `side` at `nameplate`."""

    def __init__(self, links: Links, side: Side, nameplate: int, *, fresh: bool) -> None:
        """`fresh`: nobody knows yet whether such a mailbox exists (a joiner's first try)."""
        self._links, self._side, self.nameplate = links, side, nameplate
        self._fresh = fresh
        self._link: Mailboxes | None = None
        self._said = 0

    async def hear(self, said: Sequence[bytes], index: int) -> bytes:
        """Have `said` in the mailbox, then wait for the other side's message number `index`."""
        return await self._persist(said, index)

    async def say(self, said: Sequence[bytes]) -> None:
        """Have `said` in the mailbox."""
        await self._persist(said, None)

    async def part(self, said: Sequence[bytes]) -> None:
        """Say a last word if that is possible soon; nothing depends on it."""
        with trio.move_on_after(PARTING_SECONDS, shield=True):
            try:
                await self.say(said)
            except P2psyncError:
                return  # the other side then learns it by its own clock

    async def close(self) -> None:
        """Free the nameplate if that is possible soon; it expires by itself otherwise."""
        with trio.move_on_after(PARTING_SECONDS, shield=True):
            try:
                await (await self._links()).close_mailbox(self.nameplate)
            except P2psyncError:
                return

    async def _persist(self, said: Sequence[bytes], index: int | None) -> bytes:
        while True:
            try:
                return await self._once(said, index)
            except LinkLost:
                self._link = None
            except NotFound:
                self._link = None
                if self._side is Side.ADMIN:
                    await self._claim_again()
                    continue
                if self._fresh:
                    raise UserError(
                        f"no pairing waits under number {self.nameplate} at this relay; check the code and the relay,"
                        " or make a new code"
                    ) from None
            await trio.sleep(RETRY_SECONDS)

    async def _once(self, said: Sequence[bytes], index: int | None) -> bytes:
        link = await self._links()
        if link is not self._link:
            self._link, self._said = link, 0
        for number in range(self._said, len(said)):
            await link.put_mail(self.nameplate, self._side, number, said[number])
            self._said, self._fresh = number + 1, False
        if index is None:
            return b""
        heard = await link.next_mail(self.nameplate, self._side, index)
        self._fresh = False
        return heard

    async def _claim_again(self) -> None:
        """The relay restarted and forgot the mailbox: open it again under the number that stands on the screen."""
        try:
            await (await self._links()).claim_mailbox(self.nameplate)
        except AccessRefused:
            raise UserError(
                "the relay restarted and gave the code's number away; make a new code and try again"
            ) from None
        except LinkLost:
            await trio.sleep(RETRY_SECONDS)
