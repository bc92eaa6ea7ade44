"""A joiner on the LAN: asks who shows a code's number, and reaches the mailbox of whoever answers.

Owns the bounds on what answers may cost: a handful of mailboxes and addresses are kept, and a mailbox is dialled at most
at four addresses a second. Answers are not believed: a mailbox is the one that was found only if the admin's first
message in it has the hash that names it, and the code proves the rest. Which mailbox to take is `finding`'s decision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import trio

from p2psync.errors import P2psyncError
from p2psync.net.addresses import Address, parse_address
from p2psync.net.lan import Lan
from p2psync.net.network import place
from p2psync.node.failures import first_failure
from p2psync.node.surroundings import Surroundings
from p2psync.pairing.calls import Question, Reply, mailbox_id, read_call
from p2psync.pairing.mail import Mailboxes, Place
from p2psync.replica.context import Signal
from p2psync.session.mail_link import MailLink
from p2psync.wire.messages import Side

ASK_FIRST, ASK_LAST = 0.2, 1.0
"""Seconds between two questions: quickly at first, since a datagram may be lost."""
MAILBOXES_MAX = 4
ADDRESSES_MAX = 4
"""Of one mailbox: a device has a few interfaces, and false answers should not cost more dials than that."""
DIAL_SECONDS = 4.0
RETRY_SECONDS = 1.0
"""Between two rounds of dialling."""
LAN = "lan"


@dataclass(frozen=True, slots=True)
class Found:
    """A mailbox that somebody on the LAN says to keep, and where."""

    mailbox: bytes
    addresses: tuple[Address, ...] = ()

    @property
    def place(self) -> str:
        """Its name in the registry."""
        return f"{LAN} {self.mailbox.hex()}"


def found_at(place_name: str) -> Found | None:
    """The mailbox a place's name in the registry means; None when it is a relay."""
    word, _, mailbox = place_name.partition(" ")
    return Found(bytes.fromhex(mailbox)) if word == LAN else None


class Search:
    """Asks for one number. Made by `searching`."""

    def __init__(self, nameplate: int, wanted: bytes | None, news: Signal) -> None:
        self.found: dict[bytes, list[Address]] = {}
        """Mailbox → where it is said to stand, the latest last."""
        self.news = news
        self._nameplate, self._wanted = nameplate, wanted

    def all(self) -> list[Found]:
        return [Found(mailbox, tuple(addresses)) for mailbox, addresses in self.found.items()]

    async def run(self, outside: Surroundings) -> NoReturn:
        """Until cancelled. Where the LAN cannot be used, nobody is found there."""
        while True:
            try:
                async with outside.open_lan() as lan, trio.open_nursery() as nursery:
                    nursery.start_soon(self._ask, lan)
                    nursery.start_soon(self._hear, lan)
            except* P2psyncError as group:
                if first_failure(group) is None:
                    raise
            await trio.sleep(ASK_LAST)

    async def _ask(self, lan: Lan) -> NoReturn:
        pause = ASK_FIRST
        while True:
            await lan.call(Question(self._nameplate).encode())
            await trio.sleep(pause)
            pause = min(pause * 2, ASK_LAST)

    async def _hear(self, lan: Lan) -> NoReturn:
        while True:
            data, host = await lan.hear()
            call = read_call(data)
            if isinstance(call, Reply) and call.nameplate == self._nameplate:
                self._note(call, parse_address(place(host, call.port)))

    def _note(self, reply: Reply, address: Address | None) -> None:
        wanted = self._wanted in (None, reply.mailbox)
        if address is None or not wanted or (reply.mailbox not in self.found and len(self.found) >= MAILBOXES_MAX):
            return
        addresses = self.found.setdefault(reply.mailbox, [])
        if address in addresses:
            return
        addresses.append(address)
        del addresses[:-ADDRESSES_MAX]
        self.news.notify()


@asynccontextmanager
async def searching(
    outside: Surroundings, nameplate: int, *, wanted: bytes | None = None, news: Signal | None = None
) -> AsyncIterator[Search]:
    """Ask for a number for the length of the block; `wanted` ignores all mailboxes but that one."""
    search = Search(nameplate, wanted, news or Signal())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(search.run, outside)
        yield search
        nursery.cancel_scope.cancel()


class LanPlace:
    """The way to one mailbox on the LAN, found again whenever it is lost. Made by `lan_place`."""

    def __init__(self, outside: Surroundings, nameplate: int, found: Found, nursery: trio.Nursery) -> None:
        self.place = Place(found.place, self._links)
        self._outside, self._nameplate, self._found, self._nursery = outside, nameplate, found, nursery
        self._addresses: Sequence[Address] = found.addresses
        self._link: MailLink | None = None

    async def _links(self) -> Mailboxes:
        await trio.lowlevel.checkpoint()
        if self._link is None or self._link.error is not None:
            self._link = await self._reach()
        return self._link

    async def _reach(self) -> MailLink:
        for address in self._addresses:
            if (link := await self._dial(address)) is not None:
                return link
        self._addresses = ()  # from now on where it is said to be now: it may have been started anew
        async with searching(self._outside, self._nameplate, wanted=self._found.mailbox) as search:
            while True:
                while not search.found:
                    await search.news.wait(search.news.count)
                for address in search.found[self._found.mailbox][::-1]:
                    if (link := await self._dial(address)) is not None:
                        return link
                search.found.clear()
                await trio.sleep(RETRY_SECONDS)

    async def _dial(self, address: Address) -> MailLink | None:
        """A stream to this very mailbox; None when it is not there."""
        link = None
        try:
            with trio.move_on_after(DIAL_SECONDS):
                link = MailLink(await self._outside.network.connect(address.host, address.port), str(address))
                self._nursery.start_soon(link.carry)
                first = await link.next_mail(self._nameplate, Side.JOINER, 0)
                if mailbox_id(self._nameplate, first) == self._found.mailbox:
                    return link
        except P2psyncError:
            pass  # somebody else, or nobody: the caller looks on
        if link is not None:
            link.close()
        return None


@asynccontextmanager
async def lan_place(outside: Surroundings, nameplate: int, found: Found) -> AsyncIterator[Place]:
    """The place of a mailbox on the LAN for the length of the block; its stream is closed with it."""
    try:
        async with trio.open_nursery() as nursery:
            yield LanPlace(outside, nameplate, found, nursery).place
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The streams raise nothing, so a group of one is the block's own error: callers expect it bare.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
