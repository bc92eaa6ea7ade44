"""Devices on the same LAN: calls out where this one listens, and recognises those of its folders.

Owns when to call and the table of what members may say today. What it hears only suggests an address to dial: who
really is there, the link proves. Without a LAN, or where nothing may be sent, the rest of the device is not disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import NoReturn

import trio

from p2psync.errors import IntegrityError, P2psyncError
from p2psync.ids import IdentityKey
from p2psync.net.addresses import parse_address
from p2psync.net.lan import Lan, OpenLan
from p2psync.net.network import place
from p2psync.node.failures import first_failure
from p2psync.node.links import DeviceLinks
from p2psync.node.relays import Backoff
from p2psync.replica.replica import Replica
from p2psync.seams import Clock, Randomness, Workers
from p2psync.vault.beacon import (
    ANNOUNCEMENT_BYTES,
    BEACON_TAG_BYTES,
    BEACONS_PER_ANNOUNCEMENT,
    beacon_tag,
    build_announcement,
    open_beacon,
    seal_beacon,
    split_announcement,
)
from p2psync.vault.secrets import EpochSecret

CALL_SECONDS = 30.0
HASTE_SECONDS = 1.0
"""Between two calls, whatever changes."""
BELIEVED_SECONDS = 100.0
"""An address counts this long after it was called: three calls."""
KNOWN_MAX = 65_536
"""Tags known at once: folders × members × 3 days."""
DAY_SECONDS = 86_400
FAR_DAYS = 400
"""How many days a neighbour's clock may be off; as far as KNOWN_MAX tags reach, the nearest days first."""
FAR_SECONDS = 60.0
"""Between two tables of far days, which take a fifth of a second each, whatever is heard."""

Who = tuple[EpochSecret, int, IdentityKey]
Missing = tuple[EpochSecret, IdentityKey]


class Neighbours:
    def __init__(
        self, links: DeviceLinks, folders: Callable[[], Iterable[Replica]], own: IdentityKey, *, open_lan: OpenLan,
        clock: Clock, randomness: Randomness, workers: Workers,
    ) -> None:  # fmt: skip
        self.error: str | None = None
        """Why the LAN is of no use now."""
        self._links, self._folders, self._own, self._open_lan = links, folders, own, open_lan
        self._clock, self._randomness, self._workers = clock, randomness, workers
        self._known: dict[bytes, Who] = {}
        self._known_for: tuple[int, int] | None = None
        self._far: dict[bytes, Who] = {}
        self._far_for: tuple[int, frozenset[Missing]] | None = None
        self._far_due = -math.inf

    async def run(self) -> NoReturn:
        backoff = Backoff(self._randomness)
        while True:
            try:
                async with self._open_lan() as lan, trio.open_nursery() as nursery:
                    self.error = None
                    nursery.start_soon(self._call, lan)
                    nursery.start_soon(self._hear, lan)
            except* P2psyncError as group:
                failure = first_failure(group)
                if failure is None:
                    raise
                self.error = str(failure)
            await trio.sleep(backoff.next())

    async def _call(self, lan: Lan) -> NoReturn:
        while True:
            seen = self._links.news.count
            for announcement in self._announcements():
                await lan.call(announcement)
            await trio.sleep(HASTE_SECONDS)
            with trio.move_on_after(CALL_SECONDS - HASTE_SECONDS):
                await self._links.news.wait(seen)

    def _announcements(self) -> list[bytes]:
        """Full datagrams, all alike from outside; none when nobody can dial this device."""
        port = self._links.port
        if port is None:
            return []
        day = self._day()
        beacons = [
            seal_beacon(replica.secrets.writing, day, self._own, port, self._randomness.bytes(32))
            for replica in self._folders()
        ]
        parts = [
            beacons[start : start + BEACONS_PER_ANNOUNCEMENT]
            for start in range(0, len(beacons), BEACONS_PER_ANNOUNCEMENT)
        ]
        return [build_announcement(part, self._randomness.bytes(ANNOUNCEMENT_BYTES)) for part in parts]

    async def _hear(self, lan: Lan) -> NoReturn:
        while True:
            data, host = await lan.hear()
            beacons = split_announcement(data)
            if beacons and not self._recognise(beacons, self._table(), host):
                self._recognise(beacons, await self._far_table(), host)

    def _recognise(self, beacons: Sequence[bytes], known: Mapping[bytes, Who], host: str) -> bool:
        """Whether some member of a folder called."""
        found = False
        for beacon in beacons:
            who = known.get(beacon[:BEACON_TAG_BYTES])
            if who is None:
                continue
            secret, day, identity = who
            try:
                port = open_beacon(secret, day, identity, beacon)
            except IntegrityError:
                continue  # somebody repeats a tag he heard
            found = True
            address = parse_address(place(host, port))
            if address is not None:  # a host that has no address yet calls from 0.0.0.0
                self._links.whereabouts.heard(identity, address, BELIEVED_SECONDS)
        return found

    def _table(self) -> dict[bytes, Who]:
        """Tags of all members for yesterday, today and tomorrow: clocks differ, and midnight is somewhere."""
        today, revision = self._day(), self._links.members
        if self._known_for != (today, revision):
            tags = (
                (beacon_tag(secret, day, identity), (secret, day, identity))
                for replica in self._folders()
                for secret in (replica.secrets.writing,)
                for identity in replica.other_devices()
                for day in (today - 1, today, today + 1)
            )
            self._known = dict(islice(tags, KNOWN_MAX))
            self._known_for = today, revision
        return self._known

    async def _far_table(self) -> Mapping[bytes, Who]:
        """Tags of members that are not linked, for days around: a stranger called, or one whose clock is far off."""
        today = self._day()
        missing = frozenset(
            (replica.secrets.writing, identity)
            for replica in self._folders()
            for identity in replica.other_devices()
            if self._links.sessions.get(identity) is None
        )
        now = trio.current_time()
        if self._far_for != (today, missing) and now >= self._far_due:
            self._far_due = now + FAR_SECONDS
            self._far = await self._workers.run(_far_tags, missing, today)
            self._far_for = today, missing
        return self._far

    def _day(self) -> int:
        return int(self._clock.now() // DAY_SECONDS)


def _far_tags(missing: Collection[Missing], today: int) -> dict[bytes, Who]:
    tags = (
        (beacon_tag(secret, day, identity), (secret, day, identity))
        for distance in range(2, FAR_DAYS + 1)
        for day in (today - distance, today + distance)
        if day >= 0
        for secret, identity in missing
    )
    return dict(islice(tags, KNOWN_MAX))
