"""The pairing mailboxes of a relay: which numbers are given out, to whom, and for how long (ten minutes).

No login is needed, so everything is bounded: the pool of nameplates, mailboxes and claims per address; bytes, messages
and waiters of one mailbox are bounded where it is defined (`session.mailbox`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain

import trio

from p2psync.errors import AccessRefused
from p2psync.limits import MAILBOX_SECONDS
from p2psync.seams import Randomness
from p2psync.session.mailbox import Mailbox, gone
from p2psync.wire.messages import Side

POOL = 9_999
"""Nameplates 1…9999: codes stay short to type."""
PER_ADDRESS = 32
"""Open mailboxes of one address: an office behind one address pairs more than a few devices at once."""
CLAIMS_PER_ADDRESS = 60
CLAIM_WINDOW_SECONDS = 60
REMEMBERED_ADDRESSES = 10_000


def first_after_restart(randomness: Randomness) -> int:
    """Where a relay that ran before begins: its numbers of then are forgotten, but for ten minutes not free."""
    return 100 + int.from_bytes(randomness.bytes(4), "big") % 9_000


@dataclass(frozen=True, slots=True)
class _Claimed:
    mailbox: Mailbox
    address: str


class Mailboxes:
    """All mailboxes of a relay. Methods that do not wait are plain functions; time is trio's."""

    def __init__(self, first: int = 1) -> None:
        """`first`: where to begin looking for free numbers as long as codes of an earlier life may be on screens, whose
        owners will claim their numbers again."""
        self._first, self._forgotten_at = first, trio.current_time() + MAILBOX_SECONDS
        self._boxes: dict[int, _Claimed] = {}
        self._claims: dict[str, deque[float]] = {}

    def claim(self, address: str, wanted: int | None) -> int:
        """Open a mailbox and return its number: the first free one, or `wanted`. AccessRefused if that is taken."""
        self._expire()
        self._charge(address)
        if wanted is not None and (wanted in self._boxes or wanted > POOL):
            raise AccessRefused(f"the pairing number {wanted} is in use; start again for a fresh code")
        number = wanted or self._free()
        if not number:
            raise AccessRefused("this relay has no pairing numbers left; try again in ten minutes")
        self._boxes[number] = _Claimed(Mailbox(number, trio.current_time() + MAILBOX_SECONDS), address)
        return number

    def put(self, number: int, side: Side, index: int, body: bytes) -> None:
        """Leave a message. The same again is no error; another in its place is refused."""
        self._box(number).put(side, index, body)

    def check(self, number: int) -> None:
        """NotFound unless there is such a mailbox."""
        self._box(number)

    async def wait(self, number: int, side: Side, index: int) -> bytes:
        """Wait for message `index` of the side other than `side`. NotFound when the mailbox goes first."""
        return await self._box(number).wait(side, index)

    def close(self, number: int) -> None:
        """Throw a mailbox away; whoever waits there is told."""
        claimed = self._boxes.pop(number, None)
        if claimed is not None:
            claimed.mailbox.close()

    def __len__(self) -> int:
        self._expire()
        return len(self._boxes)

    def _free(self) -> int:
        first = 1 if trio.current_time() >= self._forgotten_at else self._first
        numbers = chain(range(first, POOL + 1), range(1, first))
        return next((number for number in numbers if number not in self._boxes), 0)

    def _box(self, number: int) -> Mailbox:
        self._expire()
        claimed = self._boxes.get(number)
        if claimed is None:
            raise gone(number)
        return claimed.mailbox

    def _expire(self) -> None:
        # In order of claiming, which is the order of expiry.
        now = trio.current_time()
        while self._boxes:
            number, claimed = next(iter(self._boxes.items()))
            if claimed.mailbox.expires_at > now:
                return
            self.close(number)

    def _charge(self, address: str) -> None:
        """One address can neither take the pool nor keep the relay busy; others do not notice it trying."""
        now = trio.current_time()
        claims = self._claims.pop(address, None) or deque()
        while claims and claims[0] <= now - CLAIM_WINDOW_SECONDS:
            claims.popleft()
        self._claims[address] = claims  # moved to the end: the longest silent address is forgotten first
        if len(self._claims) > REMEMBERED_ADDRESSES:
            del self._claims[next(iter(self._claims))]
        if len(claims) >= CLAIMS_PER_ADDRESS:
            raise AccessRefused("too many pairings were begun from this address; try again in a minute")
        claims.append(now)
        if sum(claimed.address == address for claimed in self._boxes.values()) >= PER_ADDRESS:
            raise AccessRefused("too many pairings are open from this address; finish or wait ten minutes")
