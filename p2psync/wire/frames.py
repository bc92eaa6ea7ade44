"""Frames: how messages and bodies lie in a byte stream.

frame = N as 4 bytes big endian, then N bytes: H as 2 bytes big endian, H bytes of header (one msgpack array), and the
rest as raw body. This module owns lengths and buffering. It deliberately does not know what a header says, and it
reads no socket: `receive_data` takes whatever arrived, `next_event` gives whole frames. Lengths are checked before
anything of that length is allocated, and a body is copied once, into a buffer of its final size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from p2psync.errors import PeerError
from p2psync.limits import FRAME_BODY_MAX, FRAME_HEADER_MAX

LENGTHS_BYTES = 6
"""The two length fields together."""

ROOM_LEAST = 4 * 1024
"""Less than this is read together with what follows it."""

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame. `body` is empty for a message that carries none."""

    header: bytes
    body: bytes | bytearray


def frame_start(header: bytes, body_size: int) -> bytes:
    """The bytes of a frame up to its body: sender writes this and then `body_size` bytes."""
    if len(header) > FRAME_HEADER_MAX or body_size > FRAME_BODY_MAX:
        raise ValueError(f"a frame with {len(header)} bytes of header and {body_size} of body is too large")
    return (2 + len(header) + body_size).to_bytes(4, "big") + len(header).to_bytes(2, "big") + header


class FrameReader:
    """Cuts a byte stream into frames. After a PeerError it stays broken."""

    def __init__(self, body_max: int = FRAME_BODY_MAX) -> None:
        self.body_max = body_max
        """Largest body accepted now. A server keeps it small until it knows whom it talks to."""
        self._incoming: deque[memoryview] = deque()
        self._target = bytearray(LENGTHS_BYTES)
        self._view = memoryview(self._target)
        """Written through: assigning to a bytearray's slice would first copy what is assigned."""
        self._filled = 0
        self._step = self._lengths_complete
        self._body_size = 0
        self._header = b""
        self._broken: PeerError | None = None

    def receive_data(self, data: Buffer) -> None:
        """Take bytes as they arrived; they are not copied until they are cut up."""
        if len(data):
            self._incoming.append(memoryview(data))

    def room(self) -> memoryview | None:
        """Where the rest of a body may be read to directly; None when so little is missing that it does not pay.

        Whoever writes there says so with `filled` before anything else.
        """
        missing = len(self._target) - self._filled
        return self._view[self._filled :] if missing >= ROOM_LEAST and not self._incoming else None

    def filled(self, count: int) -> None:
        """`count` bytes were written to the start of `room`."""
        self._filled += count

    def next_event(self) -> Frame | None:
        """The next whole frame, or None when more data is needed. PeerError on lengths out of bounds."""
        if self._broken is not None:
            raise self._broken
        while self._fill():
            frame = self._step()
            if frame is not None:
                return frame
        return None

    def rest(self) -> bytes:
        """What came behind the last whole frame, when frames end here and raw bytes begin."""
        raw = b"".join((self._target[: self._filled], *self._incoming)) if self._step == self._lengths_complete else b""
        self._filled = 0
        self._incoming.clear()
        return raw

    def torn(self) -> Frame | None:
        """What there is of a frame whose body was cut off, when no more comes; None when not even its header came."""
        if self._step != self._body_complete:
            return None
        return Frame(self._header, bytes(self._view[: self._filled]))

    @property
    def within_frame(self) -> bool:
        """Whether the stream would be cut in the middle of a frame if it ended here."""
        return bool(self._filled or self._incoming or self._step != self._lengths_complete)

    def _fill(self) -> bool:
        wanted = len(self._target) - self._filled
        while wanted and self._incoming:
            piece = self._incoming[0]
            if len(piece) <= wanted:
                self._incoming.popleft()
            else:
                self._incoming[0] = piece[wanted:]
                piece = piece[:wanted]
            self._view[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            wanted -= len(piece)
        return not wanted

    def _expect(self, size: int) -> bytearray:
        complete, self._target, self._filled = self._target, bytearray(size), 0
        self._view = memoryview(self._target)
        return complete

    def _lengths_complete(self) -> Frame | None:
        total, header = int.from_bytes(self._target[:4], "big"), int.from_bytes(self._target[4:], "big")
        self._body_size = total - 2 - header
        if not 0 < header <= FRAME_HEADER_MAX or not 0 <= self._body_size <= self.body_max:
            self._broken = PeerError(f"a frame of {total} bytes with a header of {header} is out of bounds")
            raise self._broken
        self._expect(header)
        self._step = self._header_complete
        return None

    def _header_complete(self) -> Frame | None:
        self._header = bytes(self._expect(self._body_size))
        self._step = self._body_complete
        return None

    def _body_complete(self) -> Frame | None:
        self._step = self._lengths_complete
        return Frame(self._header, self._expect(LENGTHS_BYTES))
