"""The catalog: all one device knows in clear about one folder, in one SQLite file.

It owns the tables and their consistency; it neither touches the user's files nor talks to anyone. Its parts are
`feeds`, `forks`, `attendance`, `versions`, `first_versions`, `wanted_tree`, `needs`, `placed`, `totals`, `locations`, `intents`,
`history`, `kept`, `bases`, `brake`, `local_changes`, `rotten`, `snapshots` and `needed_chunks`; `transaction()` spans
them all.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path as FilePath

from p2psync.catalog.attendance import Attendance
from p2psync.catalog.bases import Bases
from p2psync.catalog.brake import Brake
from p2psync.catalog.conflicts import Conflicts
from p2psync.catalog.feeds import Feeds
from p2psync.catalog.first_versions import FirstVersions
from p2psync.catalog.forks import Forks
from p2psync.catalog.history import History
from p2psync.catalog.intents import Intents
from p2psync.catalog.kept import KeptVersions
from p2psync.catalog.local_changes import LocalChanges
from p2psync.catalog.locations import Locations
from p2psync.catalog.needed_chunks import NeededChunks
from p2psync.catalog.needs import Needs
from p2psync.catalog.placed import PlacedFiles
from p2psync.catalog.rotten import RottenFiles
from p2psync.catalog.snapshots import Snapshots
from p2psync.catalog.totals import Totals
from p2psync.catalog.versions import Versions
from p2psync.catalog.wanted_tree import WantedTree
from p2psync.errors import UserError
from p2psync.ids import FeedId, FolderId, IdentityKey, short_device_id
from p2psync.index.membership import Membership
from p2psync.store.sqlite import Database
from p2psync.vault.device_keys import device_id


class Catalog:
    """Open it with the path of its file (None keeps it in memory, for simulations)."""

    def __init__(self, path: FilePath | None) -> None:
        self._db = Database(path, "p2psync.catalog.sql")
        self.feeds = Feeds(self._db)
        self.totals = Totals(self._db)
        self.forks = Forks(self._db, self.totals)
        self.attendance = Attendance(self._db)
        self.placed = PlacedFiles(self._db, self.totals)
        self.versions = Versions(self._db, self.placed, self.totals, self._short_device)
        self.first_versions = FirstVersions(self.versions, self.placed)
        self.wanted_tree = WantedTree(self._db)
        self.needs = Needs(self._db)
        self.snapshots = Snapshots(self._db)
        self.needed_chunks = NeededChunks(self._db)
        self.versions.is_undecided = self.snapshots.is_undecided
        self.conflicts = Conflicts(self._db, self.versions)
        self.locations = Locations(self._db)
        self.intents = Intents(self._db)
        self.history = History(self._db)
        self.kept = KeptVersions(self._db)
        self.bases = Bases(self._db)
        self.brake = Brake(self._db)
        self.local_changes = LocalChanges(self._db)
        self.rotten = RottenFiles(self._db)

    def close(self) -> None:
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside is durable together or not at all. Blocks on the disk; never await inside."""
        return self._db.transaction()

    def reading(self) -> AbstractContextManager[None]:
        """Everything inside sees one state of the catalog; keep it short, and never await inside."""
        return self._db.reading()

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file; nothing when it is sound. Reads all of it."""
        return self._db.damage()

    def _short_device(self, feed: FeedId) -> str:
        identity = self.feeds.state(feed).identity
        return "UNKNOWN" if identity is None else short_device_id(device_id(IdentityKey(identity)))

    # Single values.

    def set(self, key: str, value: bytes) -> None:
        self._db.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = ?2", (key, value)
        )

    def unset(self, key: str) -> None:
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._db.scalar("SELECT value FROM meta WHERE key = ?", (key,))
        return value

    def require(self, key: str) -> bytes:
        value = self.get(key)
        if value is None:
            raise UserError(f"the folder's catalog lacks its {key}; it was never set up completely: join again")
        return value

    @property
    def folder(self) -> FolderId:
        return FolderId(self.require("folder"))

    def membership(self) -> Membership:
        membership = Membership(self.folder)
        self.feeds.load_membership(membership)
        return membership
