"""The keystore: this device's secrets on this disk, one file each, mode 0600 in a directory of mode 0700.

Files are written whole: temp, fsync, rename, fsync of the directory; a crash leaves the old or the new one. Feed keys
are random and must never be copied to another device or brought back from a backup while the folder goes on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath

from p2psync.crypto.signing import SigningKey
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import PeerError, StorageError, UserError
from p2psync.ids import FolderId, IdentityKey
from p2psync.index.membership import Credentials
from p2psync.net.tls import make_certificate
from p2psync.seams import Randomness
from p2psync.store.sqlite import sync_directory
from p2psync.vault.boxes import BoxKey
from p2psync.vault.device_keys import SEED_BYTES, DeviceKeys, decode_device_keys, device_id
from p2psync.vault.secrets import FolderSecrets, decode_folder_secrets

VERSION = 1
_FILE_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class FolderKeys:
    """A folder's secrets and the key of this device's own feed in it."""

    secrets: FolderSecrets
    feed: SigningKey


def credentials_of(device: DeviceKeys) -> Credentials:
    """How a folder knows this device: the public side of its keys."""
    return Credentials(device.identity_key, device.box.public, device.certificate)


class Keystore:
    def __init__(self, directory: FilePath) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        except OSError as error:
            raise StorageError(f"the key directory {directory} cannot be made: {error.strerror}") from error

    def device(self, randomness: Randomness) -> DeviceKeys:
        """This device's keys, made on first use: by one process alone, whoever else begins at that moment."""
        data = self._read("device")
        if data is not None:
            return decode_device_keys(data)
        with self._alone():
            data = self._read("device")
            return self._make_device(randomness) if data is None else decode_device_keys(data)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While this holds, no other process makes keys here; two at once would leave one of them with keys on no disk."""
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"the key directory {self._directory} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make_device(self, randomness: Randomness) -> DeviceKeys:
        identity, tls_seed = SigningKey(randomness.bytes(SEED_BYTES)), randomness.bytes(SEED_BYTES)
        keys = DeviceKeys(
            identity=identity,
            box=BoxKey(randomness.bytes(SEED_BYTES)),
            tls_seed=tls_seed,
            certificate=make_certificate(tls_seed, device_id(IdentityKey(identity.public)), randomness),
            device_seed=randomness.bytes(SEED_BYTES),
        )
        self._write("device", keys.encode())
        return keys

    def save_folder(self, keys: FolderKeys) -> None:
        name = f"folder-{keys.secrets.folder.hex()}"
        self._write(name, encode([VERSION, keys.feed.seed, keys.secrets.encode()]))

    def load_folder(self, folder: FolderId) -> FolderKeys:
        """UserError when the keys are missing or damaged: nothing can be read without them."""
        data = self._read(f"folder-{folder.hex()}")
        if data is None:
            raise UserError(f"the keys of folder {folder.hex()[:8]} are missing from {self._directory}; join it again")
        try:
            fields = Fields(decode(data, _FILE_MAX), "folder keys")
            if fields.integer("version") != VERSION:
                raise UserError("the folder's key file was written by a newer p2psync; update this one")
            feed = SigningKey(fields.data("feed", size=SEED_BYTES))
            secrets = decode_folder_secrets(folder, fields.data("secrets", most=_FILE_MAX))
            fields.end()
        except PeerError as error:
            raise UserError(f"the folder's key file is damaged ({error}); join the folder again") from None
        return FolderKeys(secrets, feed)

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"the key file {self._directory / name} cannot be read: {error.strerror}") from error

    def _write(self, name: str, data: bytes) -> None:
        target, temp = self._directory / name, self._directory / f"{name}.new"
        try:
            temp.unlink(missing_ok=True)
            descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # whatever the umask took away or left
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temp.replace(target)
            sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"the key file {target} cannot be written: {error.strerror}") from error
