"""Every message of the protocol and its fields: the union of these classes is the protocol.

A message is the header of a frame. Only `Urgent` and `Bulk` frames have a body; a message with a `size` above zero
announces that many body bytes, which follow in such frames under its request id. Numbers and field forms stand in
`codec`; `docs/protocol.md` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.wire.login import Right

VERSION = 1
IGNORED_FROM = 128
"""Unknown message numbers from here on are skipped."""
SPLICE = "splice"
"""The feature of a connection that is to become a splice; also offered by a relay that has them."""
PRESENCE = "presence"
SLOT_ID_BYTES = 16
RENDEZVOUS_BYTES = 16
KEY_BYTES_MAX = 160
"""The longest object key, an entry's, has 149 bytes."""
ORIGIN_BYTES_MAX = 256
TOKEN_BYTES_MAX = 128
OBSERVED_BYTES_MAX = 64
BODY_MAX = 1 << 30
"""Bound on any announced size; what one request may carry is bounded where it is served."""
NAMEPLATE_MAX = 99_999
MAIL_INDEX_MAX = 7


class SpliceSide(Enum):
    """The two ends of a splice; devices agree between them who is which."""

    DIALS = "dials"
    ANSWERS = "answers"


class Side(Enum):
    """The two ends of a mailbox."""

    ADMIN = "admin"
    JOINER = "joiner"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    versions: tuple[int, ...]
    features: tuple[str, ...]
    nonce: bytes
    origin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello:
    """`observed` is where the relay sees the client, as host:port with port 0 when it does not know it."""

    version: int
    features: tuple[str, ...]
    relay_key: RelayKey
    signature: bytes
    observed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    urgent: int
    bulk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Urgent:
    """A part of a body that goes before bulk: entries, envelopes, lists, mail."""

    request: int
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """A part of a body that may wait: packs."""

    request: int
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """From the requester: no more of this body comes, and no answer is wanted. It is answered all the same."""

    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The typed error. Request 0 speaks of the whole link, which then closes."""

    request: int
    code: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was asked for is the body; the request says which form it has."""

    request: int
    size: int
    bulk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GetChallenge:
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """`expiry` is in seconds since 1970 on the relay's clock."""

    request: int
    nonce: bytes
    expiry: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNamespace:
    request: int
    owner: AccessKey
    nonce: bytes
    expiry: int
    signature: bytes
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    request: int
    namespace: NamespaceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    request: int
    namespace: NamespaceId
    access_key: AccessKey
    right: Right
    nonce: bytes
    expiry: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    request: int
    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    request: int
    channel: int
    access_key: AccessKey
    right: Right | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Body: `table` bytes of msgpack [[key, size]…], then the objects one after another."""

    request: int
    channel: int
    size: int
    table: int
    bulk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    request: int
    channel: int
    key: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    request: int
    channel: int
    prefix: str
    after: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    request: int
    channel: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    request: int
    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    request: int
    channel: int
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    request: int
    channel: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    request: int
    channel: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetUsage:
    request: int
    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSlot:
    """Body: the slot's content; none takes it away."""

    request: int
    channel: int
    slot: bytes
    seconds: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSlots:
    """Body: slot ids."""

    request: int
    channel: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSlots:
    request: int
    channel: int
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSplice:
    request: int
    channel: int
    rendezvous: bytes
    side: SpliceSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Spliced:
    """The last message of a connection: what follows are the other device's bytes."""

    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMailbox:
    request: int
    wanted: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    request: int
    nameplate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutMail:
    request: int
    nameplate: int
    side: Side
    index: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NextMail:
    request: int
    nameplate: int
    side: Side
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseMailbox:
    request: int
    nameplate: int


BodyMessage = Put | Missing | Delete | Restore | PutMail | PutSlot | GetSlots
WaitingMessage = Watch | NextMail | WatchSlots
"""Requests that only wait for something to happen."""
Request = (
    GetChallenge | CreateNamespace | Login | Grant | Put | Get | List | Missing | Heads | Watch | Delete | Restore
    | GetUsage | PutSlot | GetSlots | WatchSlots | OpenSplice | ClaimMailbox | PutMail | NextMail | CloseMailbox
)  # fmt: skip
Reply = Failure | Done | Answer | Challenge | Created | LoggedIn | Claimed
Message = ClientHello | ServerHello | Credit | Urgent | Bulk | Cancel | Ping | Pong | Spliced | Request | Reply
