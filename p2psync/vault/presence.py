"""Where a member is, sealed for the other members: what stands in a presence slot at a relay.

A slot's id and its key come from an epoch's secret, so a relay sees neither who is there nor where, and all contents
have one size. Inside, the member's own signature says that it wrote this: another member may know the key, but cannot
speak in its place. `counter` grows with every statement, so an old one played again is known as such. Which addresses
are worth dialling, and what "now" is, is the reader's business. Source: formats, "Links and relays".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import derive_key, lp
from p2psync.crypto.signing import SIGNATURE_BYTES, SigningKey, verify
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import BugError, IntegrityError, PeerError
from p2psync.ids import Ciphertext, FolderId, IdentityKey
from p2psync.vault.aead import open_message, seal_message
from p2psync.vault.secrets import EpochSecret

VERSION = 1
SLOT_ID_BYTES = 16
ADDRESSES_MAX = 8
ADDRESS_BYTES_MAX = 64
"""An IPv6 address in brackets with its port has at most 47."""
NAME_BYTES_MAX = 128
PLAIN_BYTES = 1024
"""All statements are padded to this: their number of addresses says nothing."""
_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A member's statement: it is `name` to people, reached at `addresses` (host:port), until `expiry` (Unix time)."""

    identity: IdentityKey
    name: str
    addresses: tuple[str, ...]
    counter: int
    expiry: int


def slot_id(secret: EpochSecret, identity: IdentityKey) -> bytes:
    """16 bytes: where the statement of `identity` stands."""
    return derive_key(secret.secret, domains.KEY_SLOT, identity)[:SLOT_ID_BYTES]


def rendezvous(secret: EpochSecret, one: IdentityKey, other: IdentityKey) -> bytes:
    """16 bytes: the name under which these two members meet at a relay."""
    return derive_key(secret.secret, domains.KEY_SPLICE, *sorted((one, other)))[:SLOT_ID_BYTES]


def seal_presence(
    folder: FolderId, secret: EpochSecret, presence: Presence, key: SigningKey, salt: bytes
) -> Ciphertext:
    """Sign with the identity's `key` and seal; `salt` is 32 random bytes, new every time."""
    unsigned = _fields(presence)
    signature = key.sign(domains.SIGN_PRESENCE, folder, secret.epoch, encode(unsigned))
    body = encode([*unsigned, signature])
    if len(body) + _LENGTH_BYTES > PLAIN_BYTES:
        raise BugError(f"a presence statement of {len(body)} bytes")
    plain = (len(body).to_bytes(_LENGTH_BYTES, "big") + body).ljust(PLAIN_BYTES, b"\0")
    aad = _aad(folder, secret, presence.identity)
    return Ciphertext(seal_message(secret.secret, domains.KEY_PRESENCE, aad, plain, salt))


def open_presence(folder: FolderId, secret: EpochSecret, identity: IdentityKey, sealed: Ciphertext) -> Presence:
    """The statement of `identity`; IntegrityError or PeerError unless that member made it for this folder and epoch."""
    plain = open_message(secret.secret, domains.KEY_PRESENCE, _aad(folder, secret, identity), sealed)
    size = int.from_bytes(plain[:_LENGTH_BYTES], "big")
    body, padding = plain[_LENGTH_BYTES : _LENGTH_BYTES + size], plain[_LENGTH_BYTES + size :]
    if len(plain) != PLAIN_BYTES or len(body) != size or any(padding):
        raise PeerError("a presence statement of a wrong form")
    values = decode(body, PLAIN_BYTES)
    fields = Fields(values, "presence")
    if fields.integer("version") != VERSION:
        raise PeerError("a presence statement of another version")
    presence = _read(fields)
    signature = fields.data("signature", size=SIGNATURE_BYTES)
    fields.end()
    if presence.identity != identity:
        raise IntegrityError("a presence statement stands in another member's slot")
    verify(identity, signature, domains.SIGN_PRESENCE, folder, secret.epoch, encode(values[:-1]))
    return presence


def _fields(presence: Presence) -> list[object]:
    return [
        VERSION, presence.identity, presence.name, list(presence.addresses), presence.counter, presence.expiry,
    ]  # fmt: skip


def _read(fields: Fields) -> Presence:
    identity = IdentityKey(fields.data("identity", size=32))
    name = fields.text("name", NAME_BYTES_MAX)
    addresses = [_address(each) for each in fields.array("addresses", ADDRESSES_MAX)]
    return Presence(
        identity=identity, name=name, addresses=tuple(addresses), counter=fields.integer("counter"),
        expiry=fields.integer("expiry"),
    )  # fmt: skip


def _address(value: object) -> str:
    return Fields((value,), "address").text("address", ADDRESS_BYTES_MAX)


def _aad(folder: FolderId, secret: EpochSecret, identity: IdentityKey) -> bytes:
    return lp(domains.AAD_PRESENCE, folder, secret.epoch, identity)
