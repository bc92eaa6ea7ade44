"""The dialogue that leads to a splice: one challenge, one login, one meeting point, and then no more messages.

A connection that is to become a splice says so in its hello, so that reading and writing can change hands between two
messages; nothing runs beside it. No store is opened for it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2psync.errors import AccessRefused, LinkLost, PeerError
from p2psync.session.link import Link
from p2psync.wire.messages import GetChallenge, LoggedIn, Login, Message, OpenSplice, Spliced
from relay.access import AccessList
from relay.login import Challenges
from relay.splices import End, MeetingPoint, Splices

CHANNEL = 1


class SpliceDialogue:
    def __init__(self, link: Link, stream: trio.abc.Stream, transport: trio.abc.Stream, challenges: Challenges) -> None:
        self._link, self._stream, self._transport, self._challenges = link, stream, transport, challenges

    async def run(self, access: AccessList, splices: Splices, welcome: Callable[[], None]) -> None:
        """Serve until the splice ends; `welcome` is called once the device has proved its access."""
        login = await self._login()
        right = await access.right_of(login.namespace, login.access_key)
        if right is None or not right.covers(login.right):
            raise AccessRefused("this device has no access to the folder's store at this relay")
        welcome()
        await self._say(LoggedIn(request=login.request, channel=CHANNEL))
        request = await self._link.next_message()
        if not isinstance(request, OpenSplice) or request.channel != CHANNEL:
            raise PeerError("this connection was opened for a splice, and asks for something else")
        point = MeetingPoint(login.namespace, request.rendezvous, request.side)
        end = End(point, login.access_key, self._stream, self._transport)

        async def met() -> None:
            await self._say(Spliced(request=request.request))

        await splices.join(end, met)

    async def _login(self) -> Login:
        asked = await self._link.next_message()
        if not isinstance(asked, GetChallenge):
            raise PeerError("this connection was opened for a splice, and asks for something else")
        await self._say(self._challenges.make(asked.request))
        login = await self._link.next_message()
        if not isinstance(login, Login):
            raise PeerError("a device that wants a splice must log in")
        self._challenges.check_login(login)
        return login

    async def _say(self, message: Message) -> None:
        self._link.outbox.say(message)
        try:
            await self._link.outbox.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost("the device left") from None
