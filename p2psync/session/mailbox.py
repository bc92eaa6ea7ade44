"""One pairing mailbox: a few small messages left by two sides under a number, in memory only.

Whoever keeps it, a relay or the admin's own device, decides how long it stands and who may use it. A message, once
left, cannot be changed: whoever speaks first as a side is that side, and another one is refused; that is how a second
joiner learns that the code is used. What the messages say is sealed or single-use (pairing); nothing here reads them.
"""

from __future__ import annotations

import trio

from p2psync.errors import AccessRefused, NotFound, PeerError
from p2psync.limits import MAILBOX_BYTES
from p2psync.wire.messages import Side

WAITERS = 8


class Mailbox:
    """Methods that do not wait are plain functions; time is trio's."""

    def __init__(self, number: int, expires_at: float) -> None:
        self.number, self.expires_at = number, expires_at
        self.open = True
        self._mail: dict[tuple[Side, int], bytes] = {}
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def size(self) -> int:
        return sum(len(body) for body in self._mail.values())

    def put(self, side: Side, index: int, body: bytes) -> None:
        """Leave a message. The same again is no error; another in its place is refused."""
        if not self.open:
            raise gone(self.number)
        held = self._mail.get((side, index))
        if held is not None:
            if held == body:
                return
            raise AccessRefused("this pairing code is already used; ask for a fresh one")
        if index and (side, index - 1) not in self._mail:
            raise PeerError("mail must be left in order")
        if self.size + len(body) > MAILBOX_BYTES:
            raise AccessRefused(f"a pairing mailbox holds at most {MAILBOX_BYTES} bytes")
        self._mail[side, index] = body
        self._changed.unpark_all()

    async def wait(self, side: Side, index: int) -> bytes:
        """Wait for message `index` of the side other than `side`. NotFound when the mailbox goes first."""
        wanted = (Side.JOINER if side is Side.ADMIN else Side.ADMIN, index)
        if len(self._changed) >= WAITERS:
            raise AccessRefused("too many devices wait for this pairing number; ask for a fresh code")
        await trio.lowlevel.checkpoint()
        with trio.move_on_at(self.expires_at):
            while self.open and wanted not in self._mail:
                await self._changed.park()
        if not self.open or wanted not in self._mail:
            raise gone(self.number)
        return self._mail[wanted]

    def close(self) -> None:
        """Throw it away; whoever waits is told."""
        self.open = False
        self._mail.clear()
        self._changed.unpark_all()


def gone(number: int) -> NotFound:
    """What is said of a mailbox that does not stand (any more)."""
    return NotFound(f"there is no pairing under number {number}: the code is mistyped, used, or older than ten minutes")
