"""A folder's secrets: epochs and generations, and the keys that follow from them.

An *epoch secret* S seals packs and entries of one epoch; a *generation secret* gives the keyed chunk ids and the
chunker's seed and outlives epochs, so that content keeps its address when a member leaves. Both are 32 random bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2psync.crypto import domains
from p2psync.crypto.hashing import derive_key, equal, keyed_hash, labelled_hash
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import ChunkId, EpochId, FolderId
from p2psync.sealed.envelope import epoch_id

SECRET_BYTES = 32
GENERATIONS_MAX = 64
EPOCHS_MAX = 4096


class EpochSecret:
    """S of one epoch."""

    __slots__ = ("epoch", "secret")

    def __init__(self, epoch: EpochId, secret: bytes) -> None:
        self.epoch, self.secret = epoch, secret

    def __repr__(self) -> str:
        return f"EpochSecret({self.epoch.hex()[:8]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpochSecret) and self.epoch == other.epoch and equal(self.secret, other.secret)

    def __hash__(self) -> int:
        return hash(self.epoch)


def commitment(secret: bytes) -> bytes:
    """What an epoch id and an envelope say of S without telling it."""
    return labelled_hash(domains.EPOCH_COMMITMENT, secret)


def first_epoch(folder: FolderId, secret: bytes) -> EpochSecret:
    return EpochSecret(epoch_id(folder, (), commitment(secret)), secret)


class Generation:
    """One generation of the folder constant: number (u16) and secret; gives chunk ids and the chunker's seed."""

    __slots__ = ("_chunk_key", "number", "secret", "seed")

    def __init__(self, number: int, secret: bytes) -> None:
        self.number, self.secret = number, secret
        self._chunk_key = derive_key(secret, domains.KEY_CHUNK_ID)
        self.seed = int.from_bytes(derive_key(secret, domains.KEY_CHUNKER_SEED)[:8], "big")

    @property
    def chunk_key(self) -> bytes:
        return self._chunk_key

    def chunk_id(self, plain: bytes | bytearray | memoryview) -> ChunkId:
        """BLAKE3 keyed(generation key, plaintext)."""
        return ChunkId(keyed_hash(self._chunk_key, plain))

    def __repr__(self) -> str:
        return f"Generation({self.number})"


@dataclass(slots=True, repr=False)
class FolderSecrets:
    """All a member knows of one folder. `current` is the epoch it writes under."""

    folder: FolderId
    epochs: dict[EpochId, EpochSecret] = field(default_factory=dict)
    generations: dict[int, Generation] = field(default_factory=dict)
    current: EpochId | None = None

    def epoch(self, epoch: EpochId) -> EpochSecret:
        """The secret of `epoch`; IntegrityError when this device was never given it."""
        try:
            return self.epochs[epoch]
        except KeyError:
            raise IntegrityError(f"sealed under epoch {epoch.hex()[:8]}, which this device has no key for") from None

    @property
    def writing(self) -> EpochSecret:
        if self.current is None:
            raise IntegrityError("this device holds no epoch of the folder yet")
        return self.epochs[self.current]

    @property
    def generation(self) -> Generation:
        """The newest generation: what new chunks are named under."""
        return self.generations[max(self.generations)]

    def encode(self) -> bytes:
        """For the keystore (0600) and, sealed, for a newcomer."""
        return encode(
            [
                [[epoch, held.secret] for epoch, held in sorted(self.epochs.items())],
                [[number, held.secret] for number, held in sorted(self.generations.items())],
                self.current,
            ]
        )

    def __repr__(self) -> str:
        return f"FolderSecrets({self.folder.hex()[:8]}, {len(self.epochs)} epochs)"


def decode_folder_secrets(folder: FolderId, data: bytes) -> FolderSecrets:
    """Read what `encode` wrote; PeerError on a wrong form."""
    fields = Fields(decode(data, EPOCHS_MAX * 64), "folder secrets")
    secrets = FolderSecrets(folder)
    for item in fields.array("epochs", EPOCHS_MAX):
        pair = Fields(item, "epoch")
        epoch = EpochId(pair.data("id", size=16))
        secrets.epochs[epoch] = EpochSecret(epoch, pair.data("secret", size=SECRET_BYTES))
    for item in fields.array("generations", GENERATIONS_MAX):
        pair = Fields(item, "generation")
        number = pair.integer("number", 0, 65535)
        secrets.generations[number] = Generation(number, pair.data("secret", size=SECRET_BYTES))
    current = fields.optional_data("current", size=16)
    fields.end()
    if current is None or current not in secrets.epochs or not secrets.generations:
        raise PeerError("folder secrets: no usable epoch or generation")
    secrets.current = EpochId(current)
    return secrets
