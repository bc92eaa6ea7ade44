"""Both sides of a pairing without any I/O: devices, offers and the whole dialogue in a few calls."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from p2psync.catalog.keystore import credentials_of
from p2psync.crypto.signing import SigningKey
from p2psync.ids import EntryHash, FeedId, FolderId, IdentityKey, NamespaceId, RelayKey
from p2psync.index.body import FeedHead
from p2psync.index.membership import Newcomer, Role, make_genesis
from p2psync.net.tls import make_certificate
from p2psync.pairing.admission import seal_secrets
from p2psync.pairing.dialogue import Asking, Claims, Invited, KnowsCode, Offered, ShowsCode
from p2psync.pairing.offers import Admission, OfferedFolder, StoreLocation
from p2psync.pairing.words import Code
from p2psync.vault.boxes import BoxKey
from p2psync.vault.device_keys import DeviceKeys, device_id
from p2psync.vault.secrets import FolderSecrets, Generation, first_epoch

CODE = Code(7, ("crossover", "clockwork", "aztec"))


class SeededRandomness:
    """The `Randomness` seam from a seed: the same bytes every time."""

    def __init__(self, seed: object) -> None:
        self._random = Random(str(seed))

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def make_device(seed: object) -> DeviceKeys:
    randomness = SeededRandomness(f"device {seed}")
    identity, tls_seed = SigningKey(randomness.bytes(32)), randomness.bytes(32)
    return DeviceKeys(
        identity=identity,
        box=BoxKey(randomness.bytes(32)),
        tls_seed=tls_seed,
        certificate=make_certificate(tls_seed, device_id(IdentityKey(identity.public)), randomness),
        device_seed=randomness.bytes(32),
    )


def make_offered_folder(admin: DeviceKeys, number: int = 0, role: Role = Role.WRITER) -> OfferedFolder:
    random = Random(f"folder {number}")
    store = StoreLocation(
        "p2p://relay.example:22443/#pin", RelayKey(random.randbytes(32)), NamespaceId(random.randbytes(16))
    )
    genesis = make_genesis(admin.identity, credentials_of(admin), random.randbytes(32))
    return OfferedFolder(genesis, f"folder {number}", role, (store,))


def make_secrets(folder: FolderId) -> FolderSecrets:
    random = Random(folder)
    epoch = first_epoch(folder, random.randbytes(32))
    return FolderSecrets(folder, {epoch.epoch: epoch}, {1: Generation(1, random.randbytes(32))}, epoch.epoch)


def make_admission(folder: FolderId, newcomer: Newcomer) -> Admission:
    head = FeedHead(FeedId(b"f" * 32), 2, EntryHash(b"h" * 32))
    return Admission(seal_secrets(make_secrets(folder), newcomer.credentials, b"e" * 32), head)


@dataclass
class Table:
    """Both sides sit at one table: an honest dialogue that a test can walk to any step."""

    admin: DeviceKeys
    joiner: DeviceKeys
    folders: tuple[OfferedFolder, ...]

    def start(self, admin_code: Code = CODE, joiner_code: Code = CODE, seed: object = 0) -> tuple[ShowsCode, Claims]:
        shows = ShowsCode(admin_code, SeededRandomness(f"admin {seed}"))
        return shows, KnowsCode(joiner_code, SeededRandomness(f"joiner {seed}")).hear(shows.said[0])

    def offered(self) -> tuple[Offered, Invited]:
        shows, claims = self.start()
        offered = shows.hear(claims.said[0]).offer(self.folders, b"1" * 32)
        return offered, claims.hear(offered.said[1])

    def asking(self) -> tuple[Offered, Asking]:
        offered, invited = self.offered()
        return offered, invited.ask(self.joiner, "laptop", b"2" * 32)


def make_table(folders: int = 1) -> Table:
    admin, joiner = make_device("admin"), make_device("joiner")
    return Table(admin, joiner, tuple(make_offered_folder(admin, number) for number in range(folders)))
