"""Carries out a pairing: reads and says the dialogue's messages in a mailbox, and saves each step before it is said.

What has to happen at a step (ask the user, admit, adopt, write to disk) is the host's, an object of the node. Here stand
order and deadline only: save, then say; whatever goes wrong is told to the other side in one word, then raised. A code
lives ten minutes from its first moment, whatever restarts in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from p2psync.catalog.keystore import credentials_of
from p2psync.errors import AccessRefused, LinkLost, P2psyncError, TimedOut
from p2psync.limits import MAILBOX_BYTES, MAILBOX_SECONDS
from p2psync.pairing.dialogue import (
    Admitted,
    Asking,
    Invited,
    KnowsCode,
    Offered,
    ShowsCode,
    Welcomed,
    refusal_for,
)
from p2psync.pairing.mail import Mail, Place
from p2psync.pairing.offers import Admission, OfferedFolder, Request
from p2psync.pairing.words import Code
from p2psync.replica.failures import only_failure
from p2psync.seams import Clock, Randomness
from p2psync.vault.device_keys import DeviceKeys
from p2psync.wire.messages import Side

SALT_BYTES = 32
EXPIRED = "the pairing code expired: it is good for ten minutes; make a new code and try again"
UNACKNOWLEDGED = (
    "the new device was admitted but did not say within ten minutes that it has everything; "
    "if it does not appear as a member soon, pair it again"
)
TOO_LARGE = "too many folders for one code; pair fewer folders at once"


class AdminHost(Protocol):
    """What the admin's node does at each step. All of it is durable on return, and harmless when done twice."""

    @property
    def device(self) -> DeviceKeys: ...

    def settle(self, place: str) -> None:
        """The code's one guess was made at this place: all that follows is said there."""

    async def save(self, step: Offered | Admitted) -> None: ...

    async def confirm(self, request: Request) -> bool: ...

    async def admit(self, request: Request) -> tuple[Admission, ...]: ...

    async def forget(self) -> None: ...


class JoinerHost(Protocol):
    """What the newcomer's node does at each step. All of it is durable on return, and harmless when done twice."""

    @property
    def device(self) -> DeviceKeys: ...

    @property
    def device_name(self) -> str: ...

    async def accept(self, folders: tuple[OfferedFolder, ...]) -> None: ...

    async def save(self, step: Asking) -> None: ...

    async def adopt(self, welcomed: Welcomed) -> None: ...

    async def forget(self) -> None: ...


class Pairing:
    """What both sides of the driver need: where the mailbox stands, randomness, and the code's last moment."""

    def __init__(self, *places: Place, clock: Clock, randomness: Randomness, expires_at: float) -> None:
        """`places`: one, or several for an admin whose code can be redeemed at each. `expires_at`: seconds since
        1970, at most ten minutes from now whatever the clock did since."""
        self.places, self._clock, self.randomness, self.expires_at = places, clock, randomness, expires_at

    def mail(self, side: Side, nameplate: int, *, fresh: bool) -> Mail:
        """The mailbox of a pairing that has one place only."""
        (place,) = self.places
        return Mail(place.links, side, nameplate, fresh=fresh)

    def salt(self) -> bytes:
        return self.randomness.bytes(SALT_BYTES)

    @asynccontextmanager
    async def deadline(self, sentence: str) -> AsyncIterator[None]:
        left = min(max(self.expires_at - self._clock.now(), 0.0), MAILBOX_SECONDS)
        try:
            with trio.fail_after(left):
                yield
        except trio.TooSlowError:
            raise TimedOut(sentence) from None


@asynccontextmanager
async def _refusing(mail: Mail, said: tuple[bytes, ...]) -> AsyncIterator[None]:
    """Errors inside are told to the other side in place of our next message. A lost link is no reason to refuse."""
    try:
        yield
    except LinkLost:
        raise
    except P2psyncError as error:
        await mail.part((*said, refusal_for(error)))
        raise


async def offer(pairing: Pairing, code: Code, folders: tuple[OfferedFolder, ...], host: AdminHost) -> Request:
    """Admin: wait for the one guess at `code`, whose nameplate was claimed, and carry the pairing through."""
    mails = {place.name: Mail(place.links, Side.ADMIN, code.nameplate, fresh=False) for place in pairing.places}
    shows = ShowsCode(code, pairing.randomness)
    async with pairing.deadline(EXPIRED):
        place, guess = await _first_guess(mails, shows.said)
    mail = mails.pop(place)
    host.settle(place)
    async with _closing(list(mails.values())):
        async with pairing.deadline(EXPIRED):
            async with _refusing(mail, shows.said):
                offered = shows.hear(guess).offer(folders, pairing.salt())
                if sum(map(len, offered.said)) > MAILBOX_BYTES // 2:
                    raise AccessRefused(TOO_LARGE)
            await host.save(offered)
        return await _go_on_offering(pairing, mail, offered, host)


async def _first_guess(mails: dict[str, Mail], said: tuple[bytes, ...]) -> tuple[str, bytes]:
    """Wait at every place at once. The code allows one guess in all: whoever comes first anywhere has it."""
    heard: list[tuple[str, bytes]] = []
    try:
        async with trio.open_nursery() as nursery:

            async def wait(place: str, mail: Mail) -> None:
                heard.append((place, await mail.hear(said, 0)))
                nursery.cancel_scope.cancel()

            for place, mail in mails.items():
                nursery.start_soon(wait, place, mail)
    except BaseExceptionGroup as group:
        raise only_failure(group, P2psyncError) or group from None
    return heard[0]


@asynccontextmanager
async def _closing(mails: Sequence[Mail]) -> AsyncIterator[None]:
    """Throw away the mailboxes nobody listens to any more, while the block goes on."""
    try:
        async with trio.open_nursery() as nursery:
            for mail in mails:
                nursery.start_soon(mail.close)
            yield
    except BaseExceptionGroup as group:
        # Closing raises nothing, so a group of one is the block's own error: callers expect it bare.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise


async def resume_offer(pairing: Pairing, step: Offered | Admitted, host: AdminHost) -> Request | None:
    """Admin, after a restart: from the step that was saved."""
    mail = pairing.mail(Side.ADMIN, step.session.nameplate, fresh=False)
    if isinstance(step, Offered):
        return await _go_on_offering(pairing, mail, step, host)
    await _wait_for_done(pairing, mail, step, host)
    return None


async def _go_on_offering(pairing: Pairing, mail: Mail, offered: Offered, host: AdminHost) -> Request:
    async with pairing.deadline(EXPIRED):
        message = await mail.hear(offered.said, 1)
        async with _refusing(mail, offered.said):
            asked = offered.hear(message)
            if not await host.confirm(asked.request):
                raise AccessRefused("the device was declined; nothing was shared")
    # From here on the newcomer is a member: this is carried through even when the code expires meanwhile.
    admitted = asked.admit(await host.admit(asked.request), credentials_of(host.device), pairing.salt())
    await host.save(admitted)
    await _wait_for_done(pairing, mail, admitted, host)
    return asked.request


async def _wait_for_done(pairing: Pairing, mail: Mail, admitted: Admitted, host: AdminHost) -> None:
    async with pairing.deadline(UNACKNOWLEDGED):
        admitted.hear(await mail.hear(admitted.said, 2))
    await host.forget()
    await mail.close()


async def redeem(pairing: Pairing, code: Code, host: JoinerHost) -> Welcomed:
    """Joiner: make the one guess at `code`, and carry the pairing through until everything is adopted."""
    mail = pairing.mail(Side.JOINER, code.nameplate, fresh=True)
    knows = KnowsCode(code, pairing.randomness)
    async with pairing.deadline(EXPIRED):
        opening = await mail.hear(knows.said, 0)
        async with _refusing(mail, knows.said):
            claims = knows.hear(opening)
        answer = await mail.hear(claims.said, 1)
        async with _refusing(mail, claims.said):
            invited: Invited = claims.hear(answer)
            await host.accept(invited.folders)
            asking = invited.ask(host.device, host.device_name, pairing.salt())
        await host.save(asking)
    return await resume_redeem(pairing, asking, host, mail=mail)


async def resume_redeem(pairing: Pairing, asking: Asking, host: JoinerHost, *, mail: Mail | None = None) -> Welcomed:
    """Joiner, after a restart: from the step that was saved."""
    mail = mail or pairing.mail(Side.JOINER, asking.session.nameplate, fresh=False)
    async with pairing.deadline(EXPIRED):
        message = await mail.hear(asking.said, 2)
        async with _refusing(mail, asking.said):
            welcomed = asking.hear(message, host.device)
    await host.adopt(welcomed)
    await mail.part(welcomed.finish(pairing.salt()))
    await host.forget()
    return welcomed
