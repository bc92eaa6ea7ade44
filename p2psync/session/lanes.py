"""The two lanes of a link, and how much the other end may send in each.

`Lane.URGENT` carries entries, envelopes, lists and mail, `Lane.BULK` packs. Within a lane bodies go one after another in
the order of their messages; that is what makes the window below safe: credit given for one body cannot be eaten by a
later one. This module only counts; it sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from p2psync.errors import PeerError
from p2psync.limits import LINK_CREDIT


class Lane(Enum):
    URGENT = "urgent"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Ahead:
    """Bytes per lane the other end may send before anything was asked of it."""

    urgent: int
    bulk: int

    def of(self, lane: Lane) -> int:
        return self.urgent if lane is Lane.URGENT else self.bulk


class Window:
    """The receiver's account of one lane.

    granted in all = ahead + every byte permitted, but never more than LINK_CREDIT outstanding at once. Bytes are
    permitted when there is a place for them: at once by a client, which asked for them; by a relay when the body's
    turn and its share of the memory budget have come.
    """

    __slots__ = ("_excess", "_permitted", "outstanding")

    def __init__(self) -> None:
        self.outstanding = 0
        """Granted and not yet arrived."""
        self._permitted = 0
        self._excess = 0

    def permit(self, count: int) -> int:
        """There is room for `count` more bytes; returns the credit to send now."""
        used = min(self._excess, count)
        self._excess -= used
        self._permitted += count - used
        return self._grant()

    def withdraw(self, count: int) -> None:
        """A permitted body ended `count` bytes early; what was already granted serves the next one."""
        taken = min(self._permitted, count)
        self._permitted -= taken
        self._excess += count - taken

    def arrived(self, count: int) -> int:
        """`count` bytes came; returns the credit to send now. PeerError when they were not granted."""
        if count > self.outstanding:
            raise PeerError(f"{count} body bytes came where credit for {self.outstanding} was left")
        self.outstanding -= count
        return self._grant()

    def _grant(self) -> int:
        # In lumps of a quarter of the window while the other end has half of it left: a credit message per frame would be
        # waste.
        count = min(self._permitted, LINK_CREDIT - self.outstanding)
        if count <= 0 or (count < LINK_CREDIT // 4 and self.outstanding >= LINK_CREDIT // 2):
            return 0
        self._permitted -= count
        self.outstanding += count
        return count
