"""One other device: keeps a session with it open, whoever dials, for as long as both share a folder.

Owns dialling: a race over the device's addresses, back-off with jitter, and trying again at once when there is news
of the device, at most so often that false news costs little. Links that came in are handed to it too; of several the
one stays that `session.peer_sessions` says. What runs over a session is its caller's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import NoReturn

import trio

from p2psync.errors import LinkLost, P2psyncError
from p2psync.ids import IdentityKey
from p2psync.net.addresses import Address, remote_host
from p2psync.net.counting import CountedStream
from p2psync.net.network import Network
from p2psync.node.failures import first_failure
from p2psync.node.relays import STEADY_SECONDS, Backoff
from p2psync.replica.context import Signal
from p2psync.seams import Randomness
from p2psync.session.peer_link import PeerLink, open_peer_link
from p2psync.session.peer_sessions import PeerSessions
from p2psync.vault.device_keys import DeviceKeys

STAGGER_SECONDS = 0.25
"""The next address is tried when the one before has failed or has had this long (RFC 8305)."""
CONNECT_SECONDS = 10.0
GREETING_SECONDS = 5.0
"""One address at a time says hello, so that the other side sees one link; one that dawdles holds up the others so long."""
NEWS_SECONDS = 2.0
"""Between two rounds of dialling, whatever news comes."""

LAN, DIRECT, SPLICED = "lan", "direct", "spliced"


@dataclass(frozen=True, slots=True)
class Session:
    """An open link, how it was reached, since when (Unix time), and what passes over it."""

    link: PeerLink
    transport: CountedStream
    way: str
    since: float


@dataclass(slots=True)
class Race:
    """Attempts at several addresses, of which one wins."""

    greeting: trio.Lock = field(default_factory=trio.Lock)
    scopes: list[trio.CancelScope] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    won: bool = False

    def win(self, scope: trio.CancelScope) -> bool:
        """Whether this attempt is the one; all others end."""
        if self.won:
            return False
        self.won = True
        for other in self.scopes:
            if other is not scope:
                other.cancel()
        return True


class DeviceKeeper:
    def __init__(
        self, identity: IdentityKey, *, device: DeviceKeys, network: Network, randomness: Randomness,
        sessions: PeerSessions, addresses: Callable[[], Sequence[Address]], certificate: Callable[[], bytes | None],
        way: Callable[[str], str], now: Callable[[], float], begun: Callable[[PeerLink], None],
    ) -> None:  # fmt: skip
        """`addresses` and `certificate` are asked at every try; `way` says how a host is reached; `begun` is called
        with every link that becomes the session."""
        self.identity = identity
        self.error: str | None = None
        """Why the last try, or the last session, ended."""
        self.session: Session | None = None
        self.news = Signal()
        """There is reason to look again: addresses, or the session, have changed."""
        self._device, self._network, self._randomness, self._sessions = device, network, randomness, sessions
        self._addresses, self._certificate, self._way, self._now, self._begun = addresses, certificate, way, now, begun

    async def run(self) -> NoReturn:
        """Dial whenever there is no session, or one through a relay, and somewhere to dial."""
        backoff = Backoff(self._randomness)
        while True:
            seen, addresses = self.news.count, self._addresses()
            if (self.session is not None and self.session.way != SPLICED) or not addresses:
                await self.news.wait(seen)
                backoff.reset()
                continue
            started = trio.current_time()
            try:
                await self._dial(addresses)
            except* P2psyncError as group:
                failure = first_failure(group)
                if failure is None:
                    raise
                self.error = str(failure)
            if trio.current_time() - started >= STEADY_SECONDS:
                backoff.reset()
            await self._pause(seen, started, backoff)

    async def _pause(self, seen: int, started: float, backoff: Backoff) -> None:
        """Wait out the back-off. News since the try began cuts it short, but rounds keep their distance."""
        with trio.move_on_after(backoff.next()) as waiting:
            await self.news.wait(seen)
        if not waiting.cancelled_caught:
            backoff.reset()
            await trio.sleep_until(max(started + NEWS_SECONDS, trio.current_time()))

    async def use(self, link: PeerLink, transport: CountedStream, way: str) -> None:
        """Be the session until the link ends. LinkLost at once when another one stays."""
        with self._sessions.hold(link):
            session = self.session = Session(link, transport, way, self._now())
            self.error = None
            self.news.notify()
            self._begun(link)
            try:
                await link.closed()
            finally:
                if self.session is session:
                    self.session = None
                    self.error = str(link.error) if link.error is not None else None
                    self.news.notify()

    async def _dial(self, addresses: Sequence[Address]) -> None:
        """Try the addresses, each a moment after the one before, and use the first link. LinkLost: none answers."""
        race = Race()
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed, scope = trio.Event(), trio.CancelScope()
                race.scopes.append(scope)
                nursery.start_soon(self._attempt, address, race, scope, failed)
                with trio.move_on_after(STAGGER_SECONDS):
                    await failed.wait()
                if race.won:
                    break
        if not race.won:
            raise LinkLost(race.reasons[0] if race.reasons else "no address of it answers")

    async def _attempt(self, address: Address, race: Race, scope: trio.CancelScope, failed: trio.Event) -> None:
        try:
            with scope:
                await self._reach(address, race, scope)
        except* P2psyncError as group:
            failure = first_failure(group)
            if failure is None:
                raise
            race.reasons.append(str(failure))
        finally:
            failed.set()

    async def _reach(self, address: Address, race: Race, scope: trio.CancelScope) -> None:
        certificate = self._certificate()
        if certificate is None:
            await trio.lowlevel.checkpoint()
            raise LinkLost("it is no member of a folder of this device")
        transport: CountedStream | None = None
        host: str | None = None
        with trio.move_on_after(CONNECT_SECONDS):
            stream = await self._network.connect(address.host, address.port)
            transport, host = CountedStream(stream), remote_host(stream)
        if transport is None:
            raise LinkLost(f"{address} does not answer")
        async with AsyncExitStack() as stack:
            await _turn(race.greeting, transport)
            try:
                # No deadline may stand around this: what it opens stays open behind it. It has its own.
                link = await stack.enter_async_context(
                    open_peer_link(
                        transport, device=self._device, expected=self.identity, certificate=certificate,
                        randomness=self._randomness,
                    )
                )  # fmt: skip
            finally:
                if _holds(race.greeting):
                    race.greeting.release()
            if race.win(scope):
                await self.use(link, transport, self._way(host or address.host))


async def _turn(lock: trio.Lock, transport: trio.abc.Stream) -> None:
    """Wait for the lock, but not for long; the transport is closed when the wait is cancelled."""
    try:
        with trio.move_on_after(GREETING_SECONDS):
            await lock.acquire()
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


def _holds(lock: trio.Lock) -> bool:
    return lock.statistics().owner is trio.lowlevel.current_task()
