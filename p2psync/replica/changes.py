"""Local changes: what the scanner found and the publisher may say, one path at a time."""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.catalog.rows import NOTHING, Fingerprint, Placed
from p2psync.ids import Plaintext
from p2psync.index.paths import Path
from p2psync.index.versions import Kind
from p2psync.planner.xattrs import NOTHING_HELD, HeldXattrs


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalChange:
    """One path as the disk now shows it, against `base`, the placed row it was compared with.

    For a file `rows` is its full chunk list and `inline` its bytes when they are few. `origin` names the path it was
    renamed from; that path's own change stands in the same unit.
    """

    path: Path
    kind: Kind
    base: Placed | None
    fingerprint: Fingerprint = NOTHING
    mode: int = 0
    target: bytes | None = None
    parameters: tuple[int, int, int] = (0, 0, 0)
    rows: bytes = b""
    inline: Plaintext | None = None
    origin: Placed | None = None
    xattrs: HeldXattrs = NOTHING_HELD
    """What is known of its extended attributes once this is published."""


Unit = tuple[LocalChange, ...]
"""Changes that must stand in the same entry: one, or the two sides of a rename."""
