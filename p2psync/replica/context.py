"""What the parts of one replica share: the folder's catalog, keys and seams, and the signals between its tasks.

Holds no decisions. `tree` is the lock between whoever looks at the tree (scanner) and whoever changes it (materialiser):
under it, what the disk shows and what the catalog says of it agree. It is taken in worker threads for short steps only.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import trio

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import FolderKeys, Keystore
from p2psync.errors import FolderStopped
from p2psync.ids import FeedId, FolderId, IdentityKey
from p2psync.index.membership import Membership, Role
from p2psync.index.paths import Path, show
from p2psync.limits import KIB
from p2psync.planner.sources import ALL_LINKS
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.shape import Shape
from p2psync.seams import Clock, Randomness, Workers
from p2psync.session.peer_channel import PeerChannel
from p2psync.store.interface import BlindStore
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.secrets import FolderSecrets

_SMALL = 64 * KIB
"""Pieces below this on average are small: what is done for each outweighs hashing and sealing it."""


def pack_subject(pack: int) -> str:
    """The subject of a trouble with a pack, by its number in the catalog."""
    return f"pack {pack}"


@dataclass(slots=True)
class Fetched:
    """What a source has given: plain bytes and chunks."""

    bytes: int = 0
    chunks: int = 0


class Signal:
    """A level-triggered wake-up: `seen = signal.count` before looking, `await signal.wait(seen)` when done."""

    def __init__(self) -> None:
        self.count = 0
        self._event = trio.Event()

    def notify(self) -> None:
        self.count += 1
        self._event.set()
        self._event = trio.Event()

    async def wait(self, seen: int) -> None:
        while self.count == seen:
            await self._event.wait()
        await trio.lowlevel.checkpoint()


@dataclass(slots=True, kw_only=True)
class Context:
    catalog: Catalog
    keys: FolderKeys
    device: DeviceKeys
    membership: Membership
    clock: Clock
    randomness: Randomness
    workers: Workers
    keystore: Keystore | None = None
    """Where a new feed key is written down; None where feeds are never changed."""
    shape: Shape = field(init=False)
    """What this device keeps of the folder: its type and what is ignored."""
    opened: Filesystem | None = None
    """The tree, while it may be touched."""
    tree: threading.RLock = field(default_factory=threading.RLock)
    feeds_grew: Signal = field(default_factory=Signal)
    """Entries were appended, own or others': stores may lack them."""
    work_arrived: Signal = field(default_factory=Signal)
    """Needs, or places to fetch them from, have come."""
    uploads_grew: Signal = field(default_factory=Signal)
    """Chunks were queued for upload."""
    look_again: Signal = field(default_factory=Signal)
    """Directories in `dirty` must be scanned."""
    changed: Signal = field(default_factory=Signal)
    """Anything a status would show has changed."""
    stores: dict[str, BlindStore] = field(default_factory=dict)
    """Connected stores by name: where chunks can be fetched from right now."""
    peers: dict[str, PeerChannel] = field(default_factory=dict)
    """Other devices that serve this folder right now, by name."""
    peers_moved: Signal = field(default_factory=Signal)
    """Peers came or went."""
    content_grew: Signal = field(default_factory=Signal)
    """Files were placed: other devices may find here what they lack."""
    links: frozenset[str] = ALL_LINKS
    """Kinds of link used for content and changes."""
    fetched: dict[str, Fetched] = field(default_factory=dict)
    """What each source has given since the replica was opened."""
    uploader: trio.Lock = field(default_factory=trio.Lock)
    """Held by the one exchange that uploads new content."""
    unsure: bool = False
    """This device begins a new incarnation: nothing is published before its past is here and the disk was compared."""
    rebuilds: int = 0
    """How often everything was worked out anew since the replica was opened."""
    snapshots: int = 0
    """How many snapshots have come in whole since the replica was opened."""
    renewed: Signal = field(default_factory=Signal)
    """A new incarnation began: whatever runs on the old one's knowledge of the disk begins again."""
    dirty: set[Path] = field(default_factory=set)
    temps: set[Path] = field(default_factory=set)
    """Paths that have or may have a temp file: those nobody needs any more are removed between rounds."""
    spoiled: set[Path] = field(default_factory=set)
    """Paths whose temp was part of a sync that failed. The kernel takes pages it could not write for clean, so a later
    sync would succeed and prove nothing: such a temp is written anew."""
    refused: dict[Path, str] = field(default_factory=dict)
    """Queued paths that could not be brought to the disk in the latest round, with the reason."""
    _refused_before: set[Path] = field(default_factory=set)
    """Refused in the round before and not again so far: still shown, until this round is through."""
    trouble: dict[str, str] = field(default_factory=dict)
    """Standing troubles by subject (a disk, a pack at a store), one sentence each, until they pass."""

    def __post_init__(self) -> None:
        self.shape = Shape(self.catalog)

    @property
    def filesystem(self) -> Filesystem:
        """The tree; FolderStopped while the folder is stopped."""
        if self.opened is None:
            raise FolderStopped("the folder is not open now")
        return self.opened

    def turn_over(self, pieces: int, size: int) -> AbstractContextManager[object]:
        """The turn (while it is quick) for a job over so many pieces of `size` bytes in all, where they are small. Large ones
        are hashed and sealed beside each other."""
        return self.workers.turn.while_quick() if size < pieces * _SMALL else nullcontext()

    @property
    def secrets(self) -> FolderSecrets:
        return self.keys.secrets

    @property
    def folder(self) -> FolderId:
        return self.keys.secrets.folder

    @property
    def own_feed(self) -> FeedId:
        return FeedId(self.keys.feed.public)

    @property
    def publishes(self) -> bool:
        """Whether what changes on this disk becomes versions. A reader's would be refused by everybody."""
        role = self.membership.role_of(IdentityKey(self.device.identity_key))
        return self.shape.type.publishes and role is not Role.READER

    def rescan(self, directories: set[Path]) -> None:
        """Ask the scanner to look at these directories again."""
        if directories:
            self.dirty |= directories
            self.look_again.notify()

    def refuse_now(self, path: Path, reason: str) -> None:
        """Say why a queued path cannot be brought to the disk now; forgotten when the next round ends without that."""
        self.refused[path] = f"{show(path)} {reason}"
        self._refused_before.discard(path)

    def wake_for_entries(self) -> None:
        """Entries were taken in or written: others may lack them, and there may be something to apply."""
        for signal in (self.feeds_grew, self.work_arrived, self.changed):
            signal.notify()

    def wake_for_uploads(self) -> None:
        """The same, where chunks may have been queued for upload too."""
        self.uploads_grew.notify()
        self.wake_for_entries()

    def begin_round(self) -> None:
        self._refused_before = set(self.refused)

    def end_round(self) -> None:
        for path in self._refused_before:
            self.refused.pop(path, None)

    def set_trouble_quietly(self, subject: str, sentence: str) -> None:
        """`set_trouble` for worker threads, which may not wake tasks."""
        self.trouble[subject] = sentence

    def set_trouble(self, subject: str, sentence: str | None) -> None:
        if sentence is None:
            self.trouble.pop(subject, None)
        else:
            self.trouble[subject] = sentence
        self.changed.notify()
