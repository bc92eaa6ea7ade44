"""What a user sees of a running folder: values only, put together by the replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2psync.catalog.brake import Held
from p2psync.ids import IdentityKey
from p2psync.replica.attendance import Silence
from p2psync.replica.context import Fetched
from p2psync.replica.reshaping import ShapeFigures

HELD = (
    "another device deletes or rewrites so much that its changes are held: look at p2psync status, then either let them"
    " through with p2psync folder accept or take them back with p2psync undo"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStatus:
    """What a user sees of a folder. Sizes in bytes; `stores` and `peers` say of each connected one whether it has our
    heads, `fetched` how much content each source has given since the replica was opened."""

    state: str
    local_bytes: int
    global_bytes: int
    need_bytes: int
    need_files: int
    upload_bytes: int
    conflicts: int
    error: str | None
    stores: dict[str, bool]
    problems: list[tuple[str, str]] = field(default_factory=list)
    peers: dict[str, bool] = field(default_factory=dict)
    fetched: dict[str, Fetched] = field(default_factory=dict)
    held: list[tuple[IdentityKey | None, Held]] = field(default_factory=list)
    """Changes that the brake holds, with the device they are from."""
    silences: dict[IdentityKey, Silence] = field(default_factory=dict)
    """How long each other member has been silent."""
    shape: ShapeFigures = field(default_factory=ShapeFigures)
