"""Both ends of a mailbox stream: the mailbox of one pairing, kept by the admin's device, used over the LAN.

The stream is plain: its ends do not know each other yet, so TLS could vouch for nobody, and all that passes is a PAKE's
or sealed under the key it gives. The answering end spends no asymmetric cryptography on whoever connects, lets him speak
as the joiner only, and gives him seconds unless he has left mail that counts. Finding the stream is the node's business.
"""

from __future__ import annotations

import trio

from p2psync.errors import AccessRefused, BugError, P2psyncError, PeerError
from p2psync.limits import MAILBOX_BYTES, UNAUTHENTICATED_SECONDS
from p2psync.session.asking import Asker
from p2psync.session.budget import Budget
from p2psync.session.lanes import Ahead
from p2psync.session.link import Link
from p2psync.session.mailbox import Mailbox, gone
from p2psync.session.mailing import Mailing
from p2psync.session.serving import RequestBody, Response, Server, joined
from p2psync.wire.conversation import Speaker
from p2psync.wire.mail_conversation import MailConversation
from p2psync.wire.messages import Answer, Done, NextMail, PutMail, Request, Side

_AHEAD = Ahead(urgent=MAILBOX_BYTES, bulk=0)
"""What either end may send unasked: one mailbox full."""


class MailLink(Mailing):
    """The joiner's end: the mailbox verbs of a relay link. Of use while `carry` runs."""

    def __init__(self, transport: trio.abc.Stream, place: str) -> None:
        """`place` names the other end in errors."""
        self._link = Link(transport, Speaker.CLIENT, place, MailConversation(Speaker.CLIENT))
        super().__init__(Asker(self._link))
        self._carrying = trio.CancelScope()

    @property
    def error(self) -> P2psyncError | None:
        """Why the stream was lost; None while it lives."""
        return self._link.error

    async def claim_mailbox(self, wanted: int | None = None) -> int:
        raise BugError("a joiner claims no mailbox")

    async def close_mailbox(self, nameplate: int) -> None:
        raise BugError("a joiner closes no mailbox")

    def close(self) -> None:
        """End the stream soon."""
        self._carrying.cancel()

    async def carry(self) -> None:
        """Run the stream until it ends, and close it. Everybody who waits on it then gets its error."""
        self._link.open_windows(_AHEAD)
        try:
            with self._carrying:
                await self._link.run(self._asker.receive)
        finally:
            self._asker.end()
            await self._link.aclose()


class MailServing:
    """The admin's end of one stream."""

    def __init__(self, transport: trio.abc.Stream, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._link = Link(transport, Speaker.SERVER, "a device that pairs", MailConversation(Speaker.SERVER))
        self._memory = Budget(MAILBOX_BYTES)
        self.joiner = False
        """Whether it left mail that the mailbox holds: then it may wait for the answers."""
        self.life = trio.CancelScope(deadline=trio.current_time() + UNAUTHENTICATED_SECONDS)
        """Cancelled when the time of a stranger is over."""

    async def run(self) -> None:
        """Serve until the stream ends. Raises nothing but cancellation and our own bugs."""
        reason: P2psyncError | None = None
        try:
            with self.life:
                async with trio.open_nursery() as nursery:
                    server = Server(self._link, nursery, self._handle)
                    self._link.open_windows(_AHEAD)
                    await self._link.run(server.receive)
                    nursery.cancel_scope.cancel()
                reason = self._link.error if isinstance(self._link.error, PeerError) else None
        finally:
            await self._link.aclose(reason)

    async def _handle(self, request: Request, body: RequestBody) -> Response:
        await trio.lowlevel.checkpoint()
        match request:
            case PutMail(request=number, nameplate=nameplate, side=side, index=index):
                self._check(nameplate, side)
                self._mailbox.put(side, index, await self._letter(body))
                self.joiner = True
                self.life.deadline = float("inf")
                return Done(request=number)
            case NextMail(request=number, nameplate=nameplate, side=side, index=index):
                self._check(nameplate, side)
                if index and not self.joiner:
                    raise AccessRefused("only the device that redeems the code may wait for more mail")
                letter = await self._mailbox.wait(side, index)
                return Answer(request=number, size=len(letter), bulk=False), letter
        raise PeerError("that is not asked of a mailbox")

    def _check(self, nameplate: int, side: Side) -> None:
        if nameplate != self._mailbox.number:
            raise gone(nameplate)
        if side is not Side.JOINER:
            raise AccessRefused("only the joiner's side of the mailbox is open to the LAN")

    async def _letter(self, body: RequestBody) -> bytes:
        if body.size > MAILBOX_BYTES:
            raise AccessRefused(f"a pairing mailbox holds at most {MAILBOX_BYTES} bytes")
        async with body.received(self._memory) as parts:
            return joined(parts)
