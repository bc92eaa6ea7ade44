"""The registry: which folders this device has and where, their stores, what the user said about other devices, and
pairings in progress (`home/node.db`).

Owns the tables of `node/sql`. Calls block for one commit; callers that must not wait hand them to a worker. Knows
neither links nor what is inside a folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from p2psync.errors import UserError
from p2psync.ids import FolderId, IdentityKey, NamespaceId, RelayKey
from p2psync.index.membership import Role
from p2psync.pairing.offers import StoreLocation
from p2psync.planner.shaping import DEFAULT_TYPE
from p2psync.store.sqlite import Database
from p2psync.wire.messages import Side

DEVICE_NAME = "device-name"
RELAY = "relay"


@dataclass(frozen=True, slots=True)
class RegisteredFolder:
    folder: FolderId
    label: str
    path: Path
    role: Role
    catalog: str


@dataclass(frozen=True, slots=True)
class SavedPairing:
    """A pairing step on disk. `place`: where its mailbox stands, a relay's URL or `lan_place`'s; `step` names its class,
    `state` is its encoding, `target` the joiner's directory."""

    place: str
    nameplate: int
    side: Side
    step: str
    state: bytes
    target: Path
    expires_at: float
    agreed: bool
    type: str = DEFAULT_TYPE
    """A joiner's: the type its folders get."""

    def __repr__(self) -> str:
        return f"SavedPairing({self.side.value} {self.nameplate}, {self.step})"


class Registry:
    def __init__(self, path: Path | None) -> None:
        """`path` None keeps everything in memory (simulations)."""
        self._database = Database(path, "p2psync.node.sql")

    def close(self) -> None:
        self._database.close()

    def setting(self, name: str) -> str | None:
        value = self._database.scalar("SELECT value FROM setting WHERE name = ?", (name,))
        return None if value is None else str(value)

    def set_setting(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    # --- other devices

    def device_names(self) -> dict[IdentityKey, str]:
        """What other devices last called themselves."""
        return {IdentityKey(row[0]): row[1] for row in self._database.query("SELECT identity, name FROM device_name")}

    def set_device_names(self, names: dict[IdentityKey, str]) -> None:
        with self._database.transaction():
            for identity, name in names.items():
                self._database.execute("INSERT OR REPLACE INTO device_name VALUES (?, ?)", (identity, name))

    def device_addresses(self) -> dict[IdentityKey, tuple[str, ...]]:
        """Addresses given by hand, host:port each."""
        found: dict[IdentityKey, tuple[str, ...]] = {}
        for row in self._database.query("SELECT identity, address FROM device_address ORDER BY identity, place"):
            found[IdentityKey(row[0])] = (*found.get(IdentityKey(row[0]), ()), row[1])
        return found

    def set_device_addresses(self, identity: IdentityKey, addresses: tuple[str, ...]) -> None:
        """These instead of former ones."""
        with self._database.transaction():
            self._database.execute("DELETE FROM device_address WHERE identity = ?", (identity,))
            for place, address in enumerate(addresses):
                self._database.execute("INSERT INTO device_address VALUES (?, ?, ?)", (identity, place, address))

    # --- folders and stores

    def folders(self) -> list[RegisteredFolder]:
        rows = self._database.query("SELECT id, label, path, role, catalog FROM folder ORDER BY label, id")
        return [
            RegisteredFolder(FolderId(row[0]), row[1], Path(os.fsdecode(row[2])), Role(row[3]), row[4]) for row in rows
        ]

    def add_folder(self, folder: RegisteredFolder, stores: tuple[StoreLocation, ...] = ()) -> None:
        """Remember a folder with its stores; the same folder again changes nothing. UserError if its path is taken."""
        with self._database.transaction():
            held = self._database.query_one("SELECT id FROM folder WHERE path = ?", (os.fsencode(folder.path),))
            if held is not None and held[0] != folder.folder:
                raise UserError(f"{folder.path} already is another folder of this device; choose another directory")
            self._database.execute(
                "INSERT OR IGNORE INTO folder VALUES (?, ?, ?, ?, ?)",
                (folder.folder, folder.label, os.fsencode(folder.path), int(folder.role), folder.catalog),
            )
            for store in stores:
                self.add_store(folder.folder, store)

    def stores(self, folder: FolderId) -> tuple[StoreLocation, ...]:
        rows = self._database.query(
            "SELECT url, relay_key, namespace FROM store WHERE folder = ? ORDER BY url", (folder,)
        )
        return tuple(StoreLocation(row[0], RelayKey(row[1]), NamespaceId(row[2])) for row in rows)

    def add_store(self, folder: FolderId, store: StoreLocation) -> None:
        """A relay that moved keeps its key: its new URL replaces the old one."""
        self._database.execute(
            "INSERT OR REPLACE INTO store VALUES (?, ?, ?, ?)", (folder, store.url, store.relay_key, store.namespace)
        )

    # --- pairings in progress

    def save_pairing(self, saved: SavedPairing) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO pairing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (saved.place, saved.nameplate, saved.side.value, saved.step, saved.state, os.fsencode(saved.target),
             saved.expires_at, saved.agreed, saved.type),
        )  # fmt: skip

    def forget_pairing(self, place: str, nameplate: int, side: Side) -> None:
        self._database.execute(
            "DELETE FROM pairing WHERE place = ? AND nameplate = ? AND side = ?", (place, nameplate, side.value)
        )

    def pairings(self, now: float) -> list[SavedPairing]:
        """Pairings that can still be resumed; expired ones are forgotten here."""
        self._database.execute("DELETE FROM pairing WHERE expires_at <= ?", (now,))
        rows = self._database.query(
            "SELECT place, nameplate, side, step, state, target, expires_at, agreed, folder_type FROM pairing"
        )
        return [
            SavedPairing(
                row[0], row[1], Side(row[2]), row[3], row[4], Path(os.fsdecode(row[5])), row[6], bool(row[7]), row[8]
            )
            for row in rows
        ]
