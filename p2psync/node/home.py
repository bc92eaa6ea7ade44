"""The home of one installation: a private directory, one lock, and where everything in it stands.

    home/lock          who runs this device now
    home/control.sock  commands to the running peer
    home/node.db       folders, stores, pairings (registry)
    home/keys/         secrets (keystore)
    home/folders/      one catalog per folder

Directories are 0700 and files 0600 whatever the umask. Does not know what any of them contain.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from p2psync.errors import StorageError, UserError

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


_STAYS, _PASSES = "stays", "passes"


class HomeBusy(UserError):
    """Another process runs this device. Reaction: hand the command to it, wait for one that does not stay, or tell the
    user who it is."""

    def __init__(self, message: str, *, stays: bool) -> None:
        super().__init__(message)
        self.stays = stays


def default_home() -> Path:
    """`$XDG_STATE_HOME/p2psync` on Linux, the platform's equivalent elsewhere."""
    return Path(platformdirs.user_state_dir("p2psync", appauthor=False))


class Home:
    def __init__(self, directory: Path) -> None:
        """Make the directory if need be. StorageError says why it cannot be."""
        self.directory = Path(os.path.abspath(directory))
        try:
            for part in (self.directory, self.directory / "folders"):
                part.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
                part.chmod(PRIVATE_DIRECTORY)
        except OSError as error:
            raise StorageError(f"the state directory {self.directory} cannot be used: {error.strerror}") from error

    @property
    def control_socket(self) -> Path:
        return self.directory / "control.sock"

    @property
    def registry(self) -> Path:
        return self.directory / "node.db"

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    def catalog(self, name: str) -> Path:
        """The catalog called `name` in the registry."""
        return self.directory / "folders" / f"{name}.db"

    @contextmanager
    def lock(self, purpose: str, *, stays: bool) -> Iterator[None]:
        """Be the one process of this device; `stays` unless it ends by itself soon. HomeBusy names the one that is."""
        path = self.directory / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise StorageError(f"the lock {path} cannot be opened: {error.strerror}") from error
        try:
            os.fchmod(descriptor, PRIVATE_FILE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._busy(descriptor) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {_STAYS if stays else _PASSES} {purpose}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _busy(self, descriptor: int) -> HomeBusy:
        words = os.pread(descriptor, 200, 0).decode(errors="replace").split(maxsplit=2)
        known = len(words) == 3 and words[0].isdigit()
        holder = f"process {words[0]} (p2psync {words[2].strip()})" if known else "another process"
        told = f"{holder} already runs this device from {self.directory}; stop it first, or choose another --home"
        return HomeBusy(told, stays=known and words[1] == _STAYS)
