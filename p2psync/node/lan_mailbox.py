"""Codes that can be redeemed on the LAN: the admin's device keeps the mailbox itself, and answers who asks for it.

Owns, for each open code, a listener and an ear on the LAN; both are there only as long as the code is. Whoever comes is
a stranger: connections, their time and their bytes are bounded, and answers are paced. When it is full the stranger who
has been here longest makes room; a joiner that has left its guess is never pushed out. What the mail says is `pairing`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import trio

from p2psync.errors import P2psyncError, UserError
from p2psync.limits import MAILBOX_SECONDS
from p2psync.net.lan import OpenLan
from p2psync.net.network import bound_port, listen_on_one_port
from p2psync.node.failures import first_failure
from p2psync.node.lan_search import searching
from p2psync.node.link_options import LinkOptions
from p2psync.node.relays import Backoff
from p2psync.node.surroundings import Surroundings
from p2psync.pairing.calls import Question, Reply, mailbox_id, read_call
from p2psync.pairing.mail import Mailboxes
from p2psync.replica.context import Signal
from p2psync.seams import Randomness
from p2psync.session.mail_link import MailServing
from p2psync.session.mailbox import Mailbox
from p2psync.wire.messages import Side

CODES_MAX = 16
"""Codes open on the LAN at once."""
STREAMS_MAX = 32
"""Connections to one mailbox at once."""
ANSWER_SECONDS = 0.25
"""Between two answers, however often somebody asks: all who asked hear each."""
LINGER_SECONDS = 5.0
"""How long a code that is over waits for the joiner to have read the last word."""
TAKEN_SECONDS = 0.6
"""How long to ask whether another device on the LAN shows the same number."""
LAN_CODES_OFF = (
    "without a relay the other device must find this one on the LAN, which --listen none, --no-lan or --links without "
    "direct turn off; leave them out, or name a relay with --relay"
)


class LanMailbox:
    """One code's mailbox. Implements `pairing.mail.Mailboxes` for the admin on this device."""

    def __init__(self, nameplate: int) -> None:
        self.nameplate = nameplate
        self.port = 0
        self._mailbox = Mailbox(nameplate, float("inf"))
        self._id: bytes | None = None
        self._streams: dict[MailServing, None] = {}
        self._left = Signal()
        self._over = trio.Event()

    async def links(self) -> Mailboxes:
        await trio.lowlevel.checkpoint()
        return self

    async def claim_mailbox(self, wanted: int | None = None) -> int:
        await trio.lowlevel.checkpoint()
        return self.nameplate

    async def put_mail(self, nameplate: int, side: Side, index: int, body: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._mailbox.put(side, index, body)
        if not index:
            self._id = mailbox_id(nameplate, body)

    async def next_mail(self, nameplate: int, side: Side, index: int) -> bytes:
        return await self._mailbox.wait(side, index)

    async def close_mailbox(self, nameplate: int) -> None:
        await trio.lowlevel.checkpoint()
        self._id = None
        self._mailbox.close()

    async def finish(self) -> None:
        """The code is over: let the joiner read the last word, then close listener and ear."""
        self._id = None
        try:
            with trio.move_on_after(LINGER_SECONDS):
                while any(stream.joiner for stream in self._streams):
                    await self._left.wait(self._left.count)
        finally:
            self._over.set()

    async def run(
        self, outside: Surroundings, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """Be there for joiners until `finish`, or until the code has expired."""
        self.port = bound_port(listeners[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, list(listeners))
            nursery.start_soon(self._answer_all, outside.open_lan, outside.randomness)
            task_status.started()
            with trio.move_on_after(MAILBOX_SECONDS):
                await self._over.wait()
            nursery.cancel_scope.cancel()

    async def _serve(self, transport: trio.abc.Stream) -> None:
        if len(self._streams) >= STREAMS_MAX:
            stranger = next((each for each in self._streams if not each.joiner), None)
            if stranger is None:
                await trio.aclose_forcefully(transport)
                return
            del self._streams[stranger]
            stranger.life.cancel()
        stream = MailServing(transport, self._mailbox)
        self._streams[stream] = None
        try:
            await stream.run()
        finally:
            self._streams.pop(stream, None)
            self._left.notify()

    async def _answer_all(self, open_lan: OpenLan, randomness: Randomness) -> NoReturn:
        """Answer on whatever LAN there is; without one, the relay may still carry the code."""
        backoff = Backoff(randomness)
        while True:
            try:
                async with open_lan() as lan:
                    while True:
                        call = read_call((await lan.hear())[0])
                        if self._id is not None and call == Question(self.nameplate):
                            await lan.call(Reply(self.nameplate, self.port, self._id).encode())
                            await trio.sleep(ANSWER_SECONDS)
            except* P2psyncError as group:
                if first_failure(group) is None:
                    raise
            await trio.sleep(backoff.next())


class LanCodes:
    """The mailboxes this device keeps on the LAN, and whether it may."""

    def __init__(self, options: LinkOptions, outside: Surroundings, nursery: trio.Nursery) -> None:
        self._options, self._outside, self._nursery = options, outside, nursery
        self._open: set[LanMailbox] = set()

    @property
    def searched(self) -> bool:
        """Whether this device looks for codes on the LAN."""
        return self._options.lan and "direct" in self._options.links

    @property
    def kept(self) -> bool:
        """Whether codes of this device can be redeemed on the LAN."""
        return self.searched and self._options.listen is not None

    async def taken(self, nameplate: int) -> bool:
        """Whether a device on the LAN, this one too, shows a code with that number now."""
        async with searching(self._outside, nameplate) as search:
            with trio.move_on_after(TAKEN_SECONDS):
                while not search.found:
                    await search.news.wait(search.news.count)
        return bool(search.found)

    async def open(self, nameplate: int) -> LanMailbox:
        """A mailbox under that number. UserError where codes are not kept, or too many are open."""
        if not self.kept or self._options.listen is None:
            raise UserError(LAN_CODES_OFF)
        if len(self._open) >= CODES_MAX:
            raise UserError("too many pairing codes are open on this device; let some expire, which takes ten minutes")
        host, port = self._options.listen
        mailbox = LanMailbox(nameplate)
        self._open.add(mailbox)
        await self._nursery.start(self._run, mailbox, host, port + 1 if port else 0)
        return mailbox

    async def _run(
        self, mailbox: LanMailbox, host: str, port: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            listeners = await self._listen(host, port)
            await mailbox.run(self._outside, listeners, task_status)
        finally:
            self._open.discard(mailbox)

    async def _listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """The port after that of direct links, so that a firewall can name it; any free one when that is taken."""
        try:
            return await listen_on_one_port(self._outside.network, host, port)
        except UserError:
            if not port:
                raise
            return await listen_on_one_port(self._outside.network, host, 0)
