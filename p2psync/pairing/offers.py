"""What the two sides of a pairing tell each other, as values with one canonical form.

Owns the bodies of the four sealed messages: the offer (folders, role, stores), the request (a self-signed newcomer per
folder, a device name), the admission (sealed secrets and the head to look for) and done. Knows neither keys of the
session nor links. Source: formats, "Pairing".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.encoding import Fields, decode, encode
from p2psync.errors import PeerError
from p2psync.ids import FolderId, NamespaceId, RelayKey
from p2psync.index.body import FeedHead, read_head
from p2psync.index.membership import (
    Credentials,
    Newcomer,
    Role,
    folder_id,
    read_credentials,
    read_genesis,
    read_newcomer,
)
from p2psync.limits import MAILBOX_BYTES

FOLDERS_MAX = 16
STORES_MAX = 16
LABEL_BYTES_MAX = 255
URL_BYTES_MAX = 512
NAME_BYTES_MAX = 64
_GENESIS_MAX = 4096
_DONE = "done"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A folder's blind store: the relay's URL and key, and the namespace that is the folder's there."""

    url: str
    relay_key: RelayKey
    namespace: NamespaceId

    def encode_list(self) -> list[object]:
        return [self.url, self.relay_key, self.namespace]


@dataclass(frozen=True, slots=True)
class OfferedFolder:
    """One folder an admin offers: its genesis (which says its id), label, the role to be given, and its stores."""

    genesis: bytes
    label: str
    role: Role
    stores: tuple[StoreLocation, ...]

    @property
    def folder(self) -> FolderId:
        return folder_id(self.genesis)


@dataclass(frozen=True, slots=True)
class Request:
    """What the newcomer says: how its user calls it, and a self-signed newcomer per offered folder, in that order."""

    device_name: str
    newcomers: tuple[Newcomer, ...]


@dataclass(frozen=True, slots=True)
class Admission:
    """One folder's admission: secrets sealed to the newcomer, and the entry its first sync must find."""

    sealed_secrets: bytes
    head: FeedHead


def read_store(item: object) -> StoreLocation:
    fields = Fields(item, "store")
    location = StoreLocation(
        fields.text("url", URL_BYTES_MAX),
        RelayKey(fields.data("relay key", size=32)),
        NamespaceId(fields.data("namespace", size=16)),
    )
    fields.end()
    return location


def encode_offer(folders: tuple[OfferedFolder, ...]) -> bytes:
    return encode([[f.genesis, f.label, f.role, [store.encode_list() for store in f.stores]] for f in folders])


def decode_offer(data: bytes) -> tuple[OfferedFolder, ...]:
    """PeerError or IntegrityError when the form is wrong or a genesis does not hold."""
    items = decode(data, MAILBOX_BYTES)
    if not isinstance(items, tuple) or not 1 <= len(items) <= FOLDERS_MAX:
        raise PeerError("pairing offer: not a list of folders")
    folders = []
    for item in items:
        fields = Fields(item, "offered folder")
        genesis = fields.data("genesis", most=_GENESIS_MAX)
        label = fields.text("label", LABEL_BYTES_MAX)
        role = Role(fields.integer("role", 0, 2))
        stores = tuple(read_store(store) for store in fields.array("stores", STORES_MAX))
        fields.end()
        read_genesis(genesis)
        folders.append(OfferedFolder(genesis, label, role, stores))
    if len({folder.folder for folder in folders}) != len(folders):
        raise PeerError("pairing offer: a folder is named twice")
    return tuple(folders)


def encode_request(request: Request) -> bytes:
    return encode([request.device_name, [newcomer.encode_list() for newcomer in request.newcomers]])


def decode_request(data: bytes, offered: tuple[OfferedFolder, ...]) -> Request:
    """Read and check the answer to an offer: one identity, exactly the offered folders and roles."""
    fields = Fields(decode(data, MAILBOX_BYTES), "pairing request")
    name = fields.text("device name", NAME_BYTES_MAX)
    items = fields.array("newcomers", FOLDERS_MAX)
    fields.end()
    if len(items) != len(offered):
        raise PeerError("pairing request: not an answer for every offered folder")
    newcomers = []
    for item, folder in zip(items, offered, strict=True):
        inner = Fields(item, "newcomer")
        newcomer = read_newcomer(inner, folder.folder)
        inner.end()
        if newcomer.role != folder.role:
            raise PeerError("pairing request: another role than the one offered")
        if {relay for relay, _ in newcomer.access} != {store.relay_key for store in folder.stores}:
            raise PeerError("pairing request: access keys for other stores than those offered")
        newcomers.append(newcomer)
    if len({newcomer.credentials for newcomer in newcomers}) != 1:
        raise PeerError("pairing request: more than one device in one request")
    return Request(name, tuple(newcomers))


def encode_admissions(admin: Credentials, admissions: tuple[Admission, ...]) -> bytes:
    return encode(
        [admin.encode_list(), [[a.sealed_secrets, [a.head.feed, a.head.seq, a.head.hash]] for a in admissions]]
    )


def decode_admissions(data: bytes, count: int) -> tuple[Credentials, tuple[Admission, ...]]:
    """Who admits, and one admission for each of the `count` offered folders."""
    outer = Fields(decode(data, MAILBOX_BYTES), "admission")
    admin = Fields(outer.array("admin", 3), "admin")
    credentials = read_credentials(admin)
    admin.end()
    items = outer.array("admissions", FOLDERS_MAX)
    outer.end()
    if len(items) != count:
        raise PeerError("admission: not one for every offered folder")
    admissions = []
    for item in items:
        fields = Fields(item, "admission")
        sealed = fields.data("secrets", most=MAILBOX_BYTES)
        head = read_head(fields.array("head", 3))
        fields.end()
        admissions.append(Admission(sealed, head))
    return credentials, tuple(admissions)


def encode_done() -> bytes:
    return encode([_DONE])


def decode_done(data: bytes) -> None:
    fields = Fields(decode(data, MAILBOX_BYTES), "done")
    word = fields.text("done", len(_DONE))
    fields.end()
    if word != _DONE:
        raise PeerError("pairing: the last message does not say that it is done")
