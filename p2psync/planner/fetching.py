"""Which bytes of which packs to ask for: a pure plan from the chunks that are needed and where they lie.

Frames of one pack are sorted and neighbours merged into one request when the gap between them is small, so that an
initial sync reads whole packs in a few requests and an edit reads one frame. Requests are bounded so that memory is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2psync.limits import KIB, MIB

GAP = 64 * KIB
"""Unneeded bytes worth reading to save a request."""
SEGMENT_MAX = 4 * MIB
"""Largest request (a single larger frame goes alone): four in flight are 16 MiB."""


@dataclass(frozen=True, slots=True)
class WantedFrame:
    """One chunk at one place. `chunk` is its id."""

    chunk: bytes
    pack: int
    index: int
    position: int
    sealed_size: int
    plain_size: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes [position, position + size) of a pack, and the frames in them that are needed."""

    pack: int
    position: int
    size: int
    frames: tuple[WantedFrame, ...]


def plan_segments(frames: Iterable[WantedFrame]) -> list[Segment]:
    """Merge frames into requests, pack by pack, in the order they lie."""
    segments: list[Segment] = []
    group: list[WantedFrame] = []
    for frame in sorted(frames, key=lambda f: (f.pack, f.position)):
        if group and not _joins(group, frame):
            segments.append(_segment(group))
            group = []
        group.append(frame)
    if group:
        segments.append(_segment(group))
    return segments


def _joins(group: list[WantedFrame], frame: WantedFrame) -> bool:
    last = group[-1]
    end = last.position + last.sealed_size
    size = frame.position + frame.sealed_size - group[0].position
    return frame.pack == last.pack and frame.position - end <= GAP and size <= SEGMENT_MAX


def _segment(group: list[WantedFrame]) -> Segment:
    start, last = group[0].position, group[-1]
    return Segment(last.pack, start, last.position + last.sealed_size - start, tuple(group))
