"""What changes under a running device: its networks come and go, and the machine sleeps.

Owns noticing it: the operating system's word, addresses that are others at the next look, and time that has passed
unlived. Then back-offs begin anew, so that whoever can be reached is reached within seconds, and open links are asked
for a sign of life: one that belonged to the network before would otherwise stand for most of a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import trio

from p2psync.net.addresses import FindInterfaces, IpInterface
from p2psync.net.changes import WatchNetwork
from p2psync.replica.context import Signal

LOOK_SECONDS = 5.0
"""How often to look unasked."""
SETTLE_SECONDS = 0.5
"""One change of network is many small ones; what comes within this time counts as one."""
SLEPT_SECONDS = 10.0
"""This much more time than was waited for has passed: the machine, or this process, was stopped."""


def machine_seconds() -> float:
    """A clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Roaming:
    def __init__(
        self, find_interfaces: FindInterfaces, watch_network: WatchNetwork, *, look: Callable[[], object],
        retry: Callable[[], None], doubt: Callable[[], None], passed: Callable[[], float] = machine_seconds,
    ) -> None:  # fmt: skip
        """`look` is called at every look; `retry` when what failed may work now; `doubt` when what works may have
        stopped."""
        self._find, self._watch = find_interfaces, watch_network
        self._look, self._retry, self._doubt, self._passed = look, retry, doubt, passed
        self._told = Signal()

    async def run(self) -> NoReturn:
        async with self._watch(self._told.notify):
            await self._run()
        raise AssertionError("unreachable: the watch lasts as long as the device")

    async def _run(self) -> NoReturn:
        addresses, seen = self._addresses(), self._told.count
        while True:
            slept = await self._wait(seen)
            told, before = self._told.count != seen, addresses
            if told:
                await trio.sleep(SETTLE_SECONDS)
            addresses, seen = self._addresses(), self._told.count
            self._look()
            if slept or before != addresses:
                self._doubt()
            if slept or before != addresses or told:
                self._retry()

    async def _wait(self, seen: int) -> bool:
        """Until the network is said to have changed, or the next look is due; whether the machine slept meanwhile."""
        due, before = trio.current_time() + LOOK_SECONDS, self._passed() - trio.current_time()
        with trio.move_on_at(due):
            await self._told.wait(seen)
        late = trio.current_time() - due
        asleep = self._passed() - trio.current_time() - before
        return max(late, asleep) > SLEPT_SECONDS

    def _addresses(self) -> frozenset[IpInterface]:
        return frozenset(self._find())
