"""Membership: who belongs to a folder, by which signed records, with which role.

A folder id is the hash of its genesis, so it *says* who the first admin is. `add` records carry `parents` and form a
small DAG rooted in the genesis; they count only from an identity that is admin in it. `bind` ties a random feed key to an
identity. One table says who may write what. Source: formats, "Identity, folder, membership" and "Entry".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.crypto.signing import SIGNATURE_BYTES, SigningKey, verify
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import P2psyncError, PeerError
from p2psync.ids import AccessKey, EpochId, FeedId, FolderId, IdentityKey, RecordHash, RelayKey
from p2psync.index.body import FeedHead, read_head
from p2psync.index.records import RecordType, record_hash
from p2psync.limits import CERTIFICATE_MAX

VERSION = 1
_RECORD_MAX = 16 * 1024
_ACCESS_MAX = 64
_PARENTS_MAX = 256


class Role(IntEnum):
    READER = 0
    WRITER = 1
    ADMIN = 2


_READER = {
    RecordType.BIND, RecordType.BAD, RecordType.SNAPSHOT, RecordType.CLOSE, RecordType.FORK, RecordType.KEYS,
}  # fmt: skip
_WRITER = _READER | {RecordType.FILE, RecordType.TOMBSTONE, RecordType.CHUNK, RecordType.PACK}
_ADMIN = _WRITER | {
    RecordType.GENESIS, RecordType.ADD, RecordType.ROLE, RecordType.REMOVE, RecordType.ROTATE, RecordType.GRANT,
    RecordType.RETIRE, RecordType.STORE,
}  # fmt: skip
MAY_WRITE = {Role.READER: _READER, Role.WRITER: _WRITER, Role.ADMIN: _ADMIN}
"""Who may write what: the one table."""


class NotYetKnown(P2psyncError):
    """A record refers to membership this device has not seen yet. Reaction: hold the feed, try again later."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A device as a folder knows it: identity, X25519 key, TLS certificate (DER)."""

    identity: IdentityKey
    box: bytes
    certificate: bytes

    def encode_list(self) -> list[bytes]:
        return [self.identity, self.box, self.certificate]


@dataclass(frozen=True, slots=True)
class Member:
    credentials: Credentials
    role: Role
    access: tuple[tuple[RelayKey, AccessKey], ...]
    record: RecordHash


@dataclass(frozen=True, slots=True)
class Bind:
    identity: IdentityKey
    predecessor: FeedHead | None


@dataclass(frozen=True, slots=True)
class Rotate:
    epoch: EpochId
    parents: tuple[EpochId, ...]
    envelope: bytes


# --- genesis -----------------------------------------------------------------


def make_genesis(identity: SigningKey, founder: Credentials, nonce: bytes) -> bytes:
    """The folder's first statement, signed by its founder. `nonce` is 32 random bytes."""
    unsigned = [VERSION, founder.encode_list(), None, nonce]
    return encode([*unsigned, identity.sign(domains.SIGN_GENESIS, encode(unsigned))])


def folder_id(genesis: bytes) -> FolderId:
    return FolderId(labelled_hash(domains.FOLDER_ID, genesis)[:16])


def read_genesis(genesis: bytes) -> Credentials:
    """The founder; PeerError or IntegrityError when the genesis does not hold."""
    values = decode(genesis, _RECORD_MAX)
    fields = Fields(values, "genesis", at_least=5)
    if (version := fields.integer("version")) != VERSION:
        raise PeerError(f"genesis version {version} is not known here; update p2psync")
    founder = read_credentials(Fields(fields.array("founder", 3), "founder"))
    recovery = fields.optional_array("recovery", 2)
    fields.data("nonce", size=32)
    signature = fields.data("signature", size=SIGNATURE_BYTES)
    fields.end()
    if recovery is not None:
        raise PeerError("genesis: a recovery identity is not known here; update p2psync")
    verify(founder.identity, signature, domains.SIGN_GENESIS, encode(values[:4]))
    return founder


def read_credentials(fields: Fields) -> Credentials:
    """What `Credentials.encode_list` gives, from the fields of an array."""
    return Credentials(
        IdentityKey(fields.data("identity", size=32)),
        fields.data("box", size=32),
        fields.data("certificate", most=CERTIFICATE_MAX),
    )


def encode_genesis_record(genesis: bytes) -> bytes:
    return encode([RecordType.GENESIS, genesis])


def decode_genesis_record(data: bytes) -> bytes:
    fields = Fields(decode(data, _RECORD_MAX), "genesis record")
    fields.integer("type")
    genesis = fields.data("genesis", most=_RECORD_MAX)
    fields.end()
    return genesis


# --- bind and rotate ----------------------------------------------------------


def _head_bytes(head: FeedHead | None) -> bytes:
    return b"" if head is None else encode([head.feed, head.seq, head.hash])


def encode_bind(identity: SigningKey, folder: FolderId, feed: FeedId, predecessor: FeedHead | None) -> bytes:
    signature = identity.sign(domains.SIGN_BIND, folder, feed, _head_bytes(predecessor))
    head = predecessor and [predecessor.feed, predecessor.seq, predecessor.hash]
    return encode([RecordType.BIND, identity.public, head, signature])


def decode_bind(data: bytes, folder: FolderId, feed: FeedId) -> Bind:
    """Who owns `feed`; IntegrityError when the identity did not sign that."""
    fields = Fields(decode(data, _RECORD_MAX), "bind")
    fields.integer("type")
    identity = IdentityKey(fields.data("identity", size=32))
    head = fields.optional_array("predecessor", 3)
    predecessor = None if head is None else read_head(head)
    signature = fields.data("signature", size=SIGNATURE_BYTES)
    fields.end()
    verify(identity, signature, domains.SIGN_BIND, folder, feed, _head_bytes(predecessor))
    return Bind(identity, predecessor)


def encode_rotate(rotate: Rotate) -> bytes:
    return encode([RecordType.ROTATE, rotate.epoch, rotate.parents, rotate.envelope])


def decode_rotate(data: bytes) -> Rotate:
    fields = Fields(decode(data, _RECORD_MAX), "rotate")
    fields.integer("type")
    epoch = EpochId(fields.data("epoch", size=16))
    parents = fields.array("parents", _PARENTS_MAX)
    envelope = fields.data("envelope", size=32)
    fields.end()
    if not all(isinstance(parent, bytes) and len(parent) == 16 for parent in parents):
        raise PeerError("rotate: parents are not epoch ids")
    return Rotate(epoch, parents, envelope)


# --- add ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a device says of itself when it asks to be admitted; `signature` is its own over all of it."""

    credentials: Credentials
    role: Role
    access: tuple[tuple[RelayKey, AccessKey], ...]
    signature: bytes

    def encode_list(self) -> list[object]:
        access = [list(pair) for pair in self.access]
        return [*self.credentials.encode_list(), self.role, access, self.signature]


def sign_newcomer(
    identity: SigningKey,
    folder: FolderId,
    credentials: Credentials,
    role: Role,
    access: tuple[tuple[RelayKey, AccessKey], ...],
) -> Newcomer:
    unsigned = Newcomer(credentials, role, access, b"").encode_list()[:-1]
    return Newcomer(credentials, role, access, identity.sign(domains.SIGN_NEWCOMER, folder, encode(unsigned)))


def read_newcomer(fields: Fields, folder: FolderId) -> Newcomer:
    """Read and verify the six fields of a newcomer; IntegrityError when the self-signature does not hold."""
    credentials = read_credentials(fields)
    role = Role(fields.integer("role", 0, 2))
    access = []
    for item in fields.array("access", _ACCESS_MAX):
        pair = Fields(item, "access key")
        access.append((RelayKey(pair.data("relay", size=32)), AccessKey(pair.data("key", size=32))))
        pair.end()
    newcomer = Newcomer(credentials, role, tuple(access), fields.data("signature", size=SIGNATURE_BYTES))
    unsigned = encode(newcomer.encode_list()[:-1])
    verify(credentials.identity, newcomer.signature, domains.SIGN_NEWCOMER, folder, unsigned)
    return newcomer


def encode_add(parents: tuple[RecordHash, ...], newcomer: Newcomer) -> bytes:
    return encode([RecordType.ADD, parents, *newcomer.encode_list()])


@dataclass(slots=True)
class Membership:
    """The membership DAG as far as this device knows it."""

    folder: FolderId
    members: dict[IdentityKey, Member] = field(default_factory=dict)
    known: set[RecordHash] = field(default_factory=set)
    tips: set[RecordHash] = field(default_factory=set)

    @property
    def heads(self) -> tuple[RecordHash, ...]:
        return tuple(sorted(self.tips))

    def role_of(self, identity: IdentityKey) -> Role | None:
        member = self.members.get(identity)
        return None if member is None else member.role

    def apply_genesis(self, data: bytes) -> None:
        """Apply a genesis record; IntegrityError/PeerError unless it is this folder's."""
        genesis = decode_genesis_record(data)
        if folder_id(genesis) != self.folder:
            raise PeerError("a genesis of another folder")
        founder = read_genesis(genesis)
        self._join(data, (), Member(founder, Role.ADMIN, (), record_hash(data)))

    def apply_add(self, data: bytes, author: IdentityKey) -> Member:
        """Apply an `add` by `author`. NotYetKnown when a parent is missing; PeerError when it does not count."""
        fields = Fields(decode(data, _RECORD_MAX), "add")
        fields.integer("type")
        parents = fields.array("parents", _PARENTS_MAX)
        newcomer = read_newcomer(fields, self.folder)
        fields.end()
        if not all(isinstance(parent, bytes) and len(parent) == 32 for parent in parents):
            raise PeerError("an admission whose parents are not hashes")
        if not self.known.issuperset(parents):
            raise NotYetKnown("an admission refers to membership records not seen yet")
        if not parents or self.role_of(author) is not Role.ADMIN:
            raise PeerError("an admission by somebody who is not admin")
        member = Member(newcomer.credentials, newcomer.role, newcomer.access, record_hash(data))
        self._join(data, parents, member)
        return member

    def _join(self, data: bytes, parents: tuple[RecordHash, ...], member: Member) -> None:
        name = record_hash(data)
        if name in self.known:
            return
        self.known.add(name)
        self.tips -= set(parents)
        self.tips.add(name)
        # The same device admitted twice at once keeps its highest role: nothing was taken from it. The record hash
        # decides between equal roles, so that the order of arrival does not.
        held = self.members.get(member.credentials.identity)
        if held is None or (held.role, held.record) < (member.role, member.record):
            self.members[member.credentials.identity] = member
