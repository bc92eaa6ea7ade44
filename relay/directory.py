"""The relay's data directory: what lies where, private under any umask, used by one relay at a time.

DIR/relay.key (the Ed25519 seed that is the relay's identity) · DIR/relay.db (access lists, invites) · DIR/namespaces/
<hex> (one disk store each) · DIR/url · DIR/invite (the first token of an invite-only relay) · DIR/lock. Everything here
blocks on the disk: call it before the event loop runs, or in a worker.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2psync.crypto.signing import SigningKey
from p2psync.errors import StorageError, UserError
from p2psync.ids import NamespaceId
from p2psync.seams import Randomness

SEED_BYTES = 32
PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


class RelayDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "relay.db"
        self.url = path / "url"
        self.invite = path / "invite"

    def make(self) -> None:
        """Make the directory and its parts where they are missing. StorageError when the disk refuses."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "namespaces").mkdir(exist_ok=True)
            os.chmod(self.path, PRIVATE_DIRECTORY)
            os.chmod(self.path / "namespaces", PRIVATE_DIRECTORY)
        except OSError as error:
            raise StorageError(f"cannot use {self.path} as data directory: {error.strerror}") from error

    def namespace(self, namespace: NamespaceId) -> Path:
        return self.path / "namespaces" / namespace.hex()

    def key(self, randomness: Randomness) -> SigningKey:
        """The relay's key, made at first start."""
        path = self.path / "relay.key"
        try:
            seed = path.read_bytes()
        except FileNotFoundError:
            seed = randomness.bytes(SEED_BYTES)
            write_private(path, seed)
        except OSError as error:
            raise StorageError(f"cannot read the relay's key {path}: {error.strerror}") from error
        if len(seed) != SEED_BYTES:
            raise UserError(f"{path} is damaged; restore it from a backup, or clients must learn a new URL")
        return SigningKey(seed)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. UserError names the process that holds it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
                raise UserError(
                    f"{self.path} is in use by another p2psync-relay (process {holder}); stop it or choose another --data"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file by a durable 0600 one; a kill leaves the old or the new."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, PRIVATE_FILE)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
