"""Opening a direct link from both sides, while two devices are connected through a relay.

Over that link they tell each other how their NATs show a local port to the relay, and then dial each other from it (TCP
simultaneous open, `net/punch`). The device with the lower identity key asks, again and again with growing pauses; the
answer is the moment: the other one dials when it gives it, the asker when it gets it. Owns when that is tried and what
is told; who is really there, the direct link proves. NATs that show another port to everybody cannot be passed so.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from p2psync.errors import LinkLost, NotFound, P2psyncError
from p2psync.net.addresses import Address, parse_address, remote_host
from p2psync.net.counting import CountedStream
from p2psync.net.network import place
from p2psync.net.punch import OpenPort, OutsidePort
from p2psync.net.urls import RelayUrl
from p2psync.node.devices import SPLICED, DeviceKeeper
from p2psync.node.failures import first_failure
from p2psync.seams import Randomness
from p2psync.session.greeting import observed_address
from p2psync.session.meeting import meet_peer_link, plays_dialler
from p2psync.session.peer_link import PeerLink
from p2psync.vault.device_keys import DeviceKeys

FIRST_SECONDS = 0.5
"""After the meeting: a link that can be dialled comes about by itself in that time."""
PAUSE_FIRST, PAUSE_MOST = 8.0, 900.0
"""Between two tries: NATs that did not let it happen once hardly do so later, unless a device moves."""
OUTSIDE_SECONDS = 5.0
"""What the relay gets to say how a port looks from outside, for each family of addresses."""
DIAL_SECONDS = 6.0
"""For one family of addresses: several attempts on a bad line, and half a round trip of difference."""
LEAST_SECONDS = 4.0
"""Between two punches another device may ask for: a member must not make this one dial strangers all the time."""
FAMILIES = (socket.AF_INET6, socket.AF_INET)
"""IPv6 first: there is rarely more than a firewall to pass. Both devices go through them in this order."""

Ports = Mapping[Address, OutsidePort]


class Puncher:
    def __init__(
        self, keeper: DeviceKeeper, *, device: DeviceKeys, randomness: Randomness, tasks: trio.Nursery,
        ports: Callable[[RelayUrl], OpenPort | None], certificate: Callable[[], bytes | None],
        way: Callable[[str], str],
    ) -> None:  # fmt: skip
        """`ports`: how a port is opened that the relay can observe; None where that is not wanted (a proxy). Links that
        come about live in `tasks`."""
        self._keeper, self._device, self._randomness, self._tasks = keeper, device, randomness, tasks
        self._ports, self._certificate, self._way = ports, certificate, way
        self._running = False
        self._rested_at = -float("inf")

    async def improve(self, link: PeerLink, url: RelayUrl) -> None:
        """Try for as long as `link`, which goes through the relay of `url`, is all there is."""
        link.answer_punches(lambda theirs: self._answer(url, theirs))
        if not plays_dialler(self._device.identity_key, self._keeper.identity):
            await link.closed()
            return
        pause, news = PAUSE_FIRST, self._keeper.news
        await trio.sleep(FIRST_SECONDS)
        while link.error is None and self._wanted():
            seen = news.count
            try:
                await self._ask(link, url)
            except P2psyncError as error:
                self._keeper.error = str(error)
            with trio.move_on_after(pause) as waiting:
                await news.wait(seen)
            pause = min(pause * 2, PAUSE_MOST)
            if not waiting.cancelled_caught:
                await trio.sleep(LEAST_SECONDS)
                pause = PAUSE_FIRST

    def _wanted(self) -> bool:
        session = self._keeper.session
        return session is None or session.way == SPLICED

    async def _ask(self, link: PeerLink, url: RelayUrl) -> None:
        async with self._outside(url) as ports:
            theirs = _addresses(await link.punch([str(address) for address in ports]))
            self._tasks.start_soon(self._use, await _dial(ports, theirs))

    async def _answer(self, url: RelayUrl, outside: Sequence[str]) -> Sequence[str]:
        """Our outside addresses; dialling theirs begins when they are told. NotFound when it is not the time for it."""
        theirs = _addresses(outside)
        if self._running or not self._wanted() or trio.current_time() - self._rested_at < LEAST_SECONDS:
            await trio.lowlevel.checkpoint()
            raise NotFound("this device does not dial now")
        self._running = True
        try:
            told: Sequence[Address] = await self._tasks.start(self._punch, url, theirs)
        except P2psyncError as error:
            raise NotFound(f"the other device cannot be dialled midway: {error}") from None
        return [str(address) for address in told]

    async def _punch(
        self, url: RelayUrl, theirs: Sequence[Address],
        task_status: trio.TaskStatus[Sequence[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        started = False
        try:
            async with self._outside(url) as ports:
                task_status.started(list(ports))
                started = True
                self._tasks.start_soon(self._use, await _dial(ports, theirs))
        except P2psyncError as error:
            if not started:
                raise
            self._keeper.error = str(error)
        finally:
            self._running = False
            self._rested_at = trio.current_time()

    async def _use(self, stream: trio.abc.Stream) -> None:
        """Be the session over a connection that both dialled, until it ends or another one stays."""
        certificate = self._certificate()
        if certificate is None:
            await trio.aclose_forcefully(stream)
            return
        transport, keeper = CountedStream(stream), self._keeper
        way = self._way(remote_host(stream) or "")
        try:
            async with meet_peer_link(
                transport, device=self._device, expected=keeper.identity, certificate=certificate,
                randomness=self._randomness, kind="direct",
            ) as link:  # fmt: skip
                await keeper.use(link, transport, way)
        except* P2psyncError as group:
            failure = first_failure(group)
            if failure is None:
                raise
            keeper.error = str(failure)

    @asynccontextmanager
    async def _outside(self, url: RelayUrl) -> AsyncIterator[Ports]:
        """Ports of this device by the addresses at which the relay sees them. LinkLost when it says none."""
        open_port = self._ports(url)
        if open_port is None:
            await trio.lowlevel.checkpoint()
            raise LinkLost("the relay is reached through a proxy, so that nobody can tell where this device is")
        found: dict[Address, OutsidePort] = {}
        async with AsyncExitStack() as stack:
            for family in FAMILIES:
                try:
                    with trio.move_on_after(OUTSIDE_SECONDS):
                        port = stack.enter_context(open_port(family))
                        observed = await stack.enter_async_context(
                            observed_address(url, connector=port, randomness=self._randomness)
                        )
                        for address in _addresses([place(*observed)] if observed else []):
                            found[address] = port
                except P2psyncError:
                    continue  # no addresses of this family here, or none at the relay
            if not found:
                raise LinkLost("the relay does not tell how this device looks from outside")
            yield found


def _addresses(told: Sequence[str]) -> list[Address]:
    """Those that mean something on another machine."""
    parsed = [address for address in map(parse_address, told) if address is not None]
    return [address for address in parsed if not ipaddress.ip_address(address.host).is_loopback]


async def _dial(ports: Ports, theirs: Sequence[Address]) -> trio.abc.Stream:
    """A connection from one of our ports to the other device's address of the same family. LinkLost: none came about."""
    failure = LinkLost("the devices have no kind of address in common")
    for ours, port in ports.items():
        for address in theirs:
            if (":" in address.host) != (":" in ours.host):
                continue
            try:
                return await port.punch((address.host, address.port), DIAL_SECONDS)
            except LinkLost as error:
                failure = error
    raise failure
