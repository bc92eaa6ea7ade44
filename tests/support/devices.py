"""Devices and folders for tests: real catalogs, real trees, any blind store between them."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import Keystore, credentials_of
from p2psync.ids import FolderId
from p2psync.index.membership import Role, sign_newcomer
from p2psync.net.workers import ThreadWorkers
from p2psync.planner.shaping import FolderType
from p2psync.replica.folder_status import FolderStatus
from p2psync.replica.founding import adopt_folder, create_folder
from p2psync.replica.replica import Replica, open_replica
from p2psync.replica.shape import XATTRS
from p2psync.seams import Clock, SystemClock, Workers
from p2psync.store.interface import BlindStore


class SeededRandomness:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


@dataclass
class Device:
    """One device with one folder at `root`; `running()` runs its replica against a store."""

    home: Path
    seed: int
    clock: Clock = field(default_factory=SystemClock)
    workers: Workers = field(default_factory=ThreadWorkers)
    type: FolderType = FolderType.SENDRECEIVE
    xattrs: bool = False
    """Whether it syncs extended attributes from its first scan on."""

    def __post_init__(self) -> None:
        self.root = self.home / "tree"
        self.root.mkdir(parents=True, exist_ok=True)
        self.randomness = SeededRandomness(self.seed)
        self.keystore = Keystore(self.home / "keys")
        self.keys = self.keystore.device(self.randomness)
        self.catalog = self.home / "catalog.db"

    def found(self) -> FolderId:
        folder = create_folder(
            root=self.root, catalog_path=self.catalog, keystore=self.keystore, device=self.keys,
            randomness=self.randomness, clock=self.clock, folder_type=self.type,
        )  # fmt: skip
        self._begin_xattrs()
        return folder

    def _begin_xattrs(self) -> None:
        if self.xattrs:
            catalog = Catalog(self.catalog)
            catalog.set(XATTRS, b"on")
            catalog.close()

    async def admitted_by(self, admin: Replica, role: Role = Role.WRITER) -> None:
        newcomer = sign_newcomer(self.keys.identity, admin.folder, credentials_of(self.keys), role, ())
        head = await admin.admit(newcomer)
        adopt_folder(
            root=self.root, catalog_path=self.catalog, keystore=self.keystore, device=self.keys,
            genesis=admin.genesis, secrets=admin.secrets, required=head, randomness=self.randomness, clock=self.clock,
            folder_type=self.type,
        )  # fmt: skip
        self._begin_xattrs()

    @asynccontextmanager
    async def running(
        self, store: BlindStore | None, **seams: Callable[..., AbstractAsyncContextManager[object]] | frozenset[str]
    ) -> AsyncIterator[Replica]:
        async with open_replica(
            root=self.root, catalog_path=self.catalog, keystore=self.keystore, device=self.keys, clock=self.clock,
            randomness=self.randomness, workers=self.workers, **seams,  # type: ignore[arg-type]
        ) as replica, trio.open_nursery() as nursery:  # fmt: skip
            nursery.start_soon(replica.run)
            if store is not None:
                nursery.start_soon(replica.serve_store, "store", store)
            yield replica
            nursery.cancel_scope.cancel()

    # The tree.

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def tree(self) -> dict[str, tuple[str, bytes, int]]:
        """name → (kind, content or target, permission bits), without our own directory."""
        return tree_of(self.root)


def tree_of(root: Path) -> dict[str, tuple[str, bytes, int]]:
    found: dict[str, tuple[str, bytes, int]] = {}
    top = os.fsencode(root)
    for directory, names, files in os.walk(top):
        if directory == top:
            names[:] = [name for name in names if name != b".p2psync"]
        for name in names + files:
            path = os.path.join(directory, name)
            shown = os.fsdecode(os.path.relpath(path, top))
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found[shown] = ("symlink", os.readlink(path), 0)
            elif stat.S_ISDIR(status.st_mode):
                found[shown] = ("directory", b"", status.st_mode & 0o777)
            elif stat.S_ISREG(status.st_mode):
                found[shown] = ("file", Path(os.fsdecode(path)).read_bytes(), status.st_mode & 0o777)
            else:
                found[shown] = ("special", b"", 0)
    return found


def xattrs_of(path: Path) -> dict[str, bytes]:
    """The extended attributes of the user's namespace."""
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")}


def tagged_of(root: Path) -> dict[str, dict[str, bytes]]:
    """name → extended attributes, of what has any."""
    return {
        name: found for name in tree_of(root) if not (root / name).is_symlink() and (found := xattrs_of(root / name))
    }


async def converge(*replicas: Replica, seconds: float = 30) -> None:
    """Wait until every replica is in sync with its store, twice over, since one's push is another's news."""
    with trio.fail_after(seconds):
        for _ in range(2):
            for replica in replicas:
                await replica.rescan()
                await replica.in_sync()


def idle(status: FolderStatus) -> bool:
    """What a device that is in sync comes back to, each time it has looked at what it wrote itself."""
    return status.state == "idle"


async def until(replica: Replica, holds: Callable[[FolderStatus], bool], seconds: float = 30) -> FolderStatus:
    """Wait for a status that satisfies `holds`, asked whenever something changed."""
    with trio.fail_after(seconds):
        while True:
            seen = replica.changed.count
            if holds(status := await replica.status()):
                return status
            await replica.changed.wait(seen)
