"""One relay this device uses: keeps a link open while somebody wants it, with jittered exponential back-off.

Owns connecting and reconnecting, and runs what is attached to the relay (a folder's store) on every link anew. Why the
relay is not reachable stands in `error`, for status. Does not know what is done over the link.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

import trio

from p2psync.errors import LinkLost, NobodyReachable, P2psyncError
from p2psync.ids import FolderId, RelayKey
from p2psync.net.network import Network
from p2psync.net.urls import RelayUrl
from p2psync.node.failures import first_failure
from p2psync.seams import Clock, Randomness
from p2psync.session.relay_link import RelayLink, open_relay_link

BACKOFF_FIRST = 0.5
BACKOFF_SHORT = 8.0
BACKOFF_LAST = 60.0
SHORT_TRIES = 75
"""So many waits, some eight minutes, stay at 8 s: most outages are over by then, and should be so within seconds."""
STEADY_SECONDS = 30.0
"""A link that lived this long was a success: the next wait starts from the beginning."""

TRIES = 3
"""Failed tries after which a command gives up on a relay, a matter of seconds when the connection is refused."""

Serve = Callable[[RelayLink], Awaitable[None]]


class Backoff:
    """Waiting times that double from 0.5 s to 8 s, and after a while to 60 s, each between half and the whole of its step."""

    def __init__(self, randomness: Randomness) -> None:
        self._randomness = randomness
        self.reset()

    def reset(self) -> None:
        self._step, self._tries = BACKOFF_FIRST, 0

    def next(self) -> float:
        share = int.from_bytes(self._randomness.bytes(2), "big") / 0xFFFF
        wait = self._step * (0.5 + share / 2)
        self._tries += 1
        self._step = min(self._step * 2, BACKOFF_SHORT if self._tries < SHORT_TRIES else BACKOFF_LAST)
        return wait


@dataclass(slots=True)
class Attachment:
    """What runs on every link: `serve` until the link ends. `error` says why it does not run now."""

    folder: FolderId
    serve: Serve
    error: str | None = None
    active: bool = False
    running: trio.CancelScope | None = None
    ended: trio.Event = field(default_factory=trio.Event)


class RelayKeeper:
    def __init__(self, url: RelayUrl, *, network: Network, clock: Clock, randomness: Randomness) -> None:
        self.url = url
        self.error: str | None = None
        self.expected: RelayKey | None = None
        """The relay's key, fixed at first contact or by a folder that knows it."""
        self._network, self._clock, self._randomness = network, clock, randomness
        self._attachments: list[Attachment] = []
        self._link: RelayLink | None = None
        self._nursery: trio.Nursery | None = None
        self._waiting = self._failures = 0
        self._hurried = False
        self._news = trio.Event()

    @property
    def connected(self) -> bool:
        return self._link is not None

    def attachment(self, folder: FolderId) -> Attachment | None:
        return next((item for item in self._attachments if item.folder == folder), None)

    def attach(self, folder: FolderId, serve: Serve) -> None:
        """Run `serve` on this and every later link."""
        attachment = Attachment(folder, serve)
        self._attachments.append(attachment)
        if self._link is not None and self._nursery is not None:
            self._nursery.start_soon(self._run_attachment, attachment, self._link)
        self._tell()

    async def detach(self, folder: FolderId) -> None:
        """Start `serve` no more; returns when one that runs has ended, since what it uses may be closed then."""
        gone = [item for item in self._attachments if item.folder == folder]
        self._attachments = [item for item in self._attachments if item.folder != folder]
        for item in gone:
            if item.running is not None:
                item.running.cancel()
                await item.ended.wait()
        await trio.lowlevel.checkpoint()

    async def link(self) -> RelayLink:
        """The open link; waits for one, without an end: deadlines belong to the caller."""
        self._waiting += 1
        self._tell()
        try:
            while self._link is None:
                await self._news.wait()
            await trio.lowlevel.checkpoint()
            link: RelayLink | None = self._link
            return link if link is not None else await self.link()
        finally:
            self._waiting -= 1

    async def link_within(self, seconds: float) -> RelayLink:
        """The open link; NobodyReachable with the reason when there is none in time."""
        failures = self._failures
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                found: list[RelayLink] = []

                async def wait() -> None:
                    found.append(await self.link())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(wait)
                while self._failures < failures + TRIES:
                    await self._news.wait()
                nursery.cancel_scope.cancel()
            if found:
                return found[0]
        raise NobodyReachable(self.error or f"the relay {self.url.place} does not answer")

    async def run(self) -> NoReturn:
        backoff = Backoff(self._randomness)
        while True:
            while not (self._attachments or self._waiting):
                await self._news.wait()
            started, self._hurried = trio.current_time(), False
            try:
                async with open_relay_link(
                    self.url, network=self._network, clock=self._clock, randomness=self._randomness,
                    expected=self.expected,
                ) as link:  # fmt: skip
                    self.expected = link.relay_key
                    await self._use(link)
                    self.error = None if link.error is None else str(link.error)
            except* P2psyncError as group:
                failure = first_failure(group)
                if failure is None:
                    raise
                self.error = str(failure)
                self._failures += 1
                self._tell()
            if trio.current_time() - started >= STEADY_SECONDS:
                backoff.reset()
            await self._pause(backoff)

    async def _use(self, link: RelayLink) -> None:
        self.error = None
        async with trio.open_nursery() as nursery:
            self._link, self._nursery = link, nursery
            self._tell()
            try:
                for attachment in self._attachments:
                    nursery.start_soon(self._run_attachment, attachment, link)
                await link.closed()
            finally:
                self._link = self._nursery = None
            nursery.cancel_scope.cancel()

    async def _run_attachment(self, attachment: Attachment, link: RelayLink) -> None:
        attachment.ended = trio.Event()
        try:
            with trio.CancelScope() as attachment.running:
                await self._serve_again(attachment, link)
        finally:
            attachment.running = None
            attachment.ended.set()

    async def _serve_again(self, attachment: Attachment, link: RelayLink) -> None:
        """Serve again after every refusal, as long as this link lives: what was refused may be granted meanwhile."""
        backoff = Backoff(self._randomness)
        while attachment in self._attachments:
            started = trio.current_time()
            attachment.active, attachment.error = True, None
            try:
                await attachment.serve(link)
            except LinkLost:
                return
            except P2psyncError as error:
                attachment.error = str(error)
            finally:
                attachment.active = False
            if trio.current_time() - started >= STEADY_SECONDS:
                backoff.reset()
            await trio.sleep(backoff.next())

    def hurry(self) -> None:
        """Try again now: somebody asks, and the next try may be a minute away."""
        self._hurried = True
        self._tell()

    def probe(self) -> None:
        """The network may have become another: see whether the link still carries."""
        if self._link is not None:
            self._link.probe()

    async def _pause(self, backoff: Backoff) -> None:
        """Wait out the back-off; `hurry`, or somebody who asks for a link, cuts it short."""
        waiting = self._waiting
        with trio.move_on_after(backoff.next()):
            while self._waiting <= waiting and not self._hurried:
                await self._news.wait()
        if self._hurried:
            backoff.reset()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
