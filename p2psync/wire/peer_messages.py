"""Messages that only two devices say to each other: the hello, folder channels, entries and chunks.

Frames, credit, keepalive, failures and answers are those of every link (`messages`); the classes here are the rest of
the peer protocol. Numbers and field forms stand in `peer_codec`, who may say what in `peer_conversation`;
`docs/peer-protocol.md` is the contract.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.ids import FeedId
from p2psync.wire.messages import Answer, Bulk, Cancel, Credit, Done, Failure, Message, Ping, Pong, Urgent

PEER_VERSION = 1
PROOF_BYTES = 32
PUNCH = "punch"
"""The feature of a device that answers Punch."""
OUTSIDE_MAX = 2
"""Outside addresses in one Punch: one of each family."""
OUTSIDE_BYTES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHello:
    """The dialler's first, then the listener's. `versions` are those the speaker knows: the highest common one is
    spoken."""

    versions: tuple[int, ...]
    features: tuple[str, ...]
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChannel:
    """Asks for a folder by proving knowledge of its secret; `channel` is the asker's number for it."""

    request: int
    channel: int
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOpened:
    """The answering side's own proof: it has the folder's secret too."""

    request: int
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseChannel:
    """The asker's folder is no longer open; no answer."""

    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchHeads:
    """Wait until the heads' revision differs from `seen` (-1: answer at once). Body of the answer: heads."""

    request: int
    channel: int
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetEntries:
    """Entries of `feed` behind `after`. Body of the answer: an entry list, empty when there are none."""

    request: int
    channel: int
    feed: FeedId
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutEntries:
    """Body: an entry list, consecutive entries of one feed, fresh from its author."""

    request: int
    channel: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetChunks:
    """Body: a chunk list. Body of the answer: a sealed stream of those that are here."""

    request: int
    channel: int
    generation: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Punch:
    """Let us dial each other at the same moment. `outside`: where the asker's NAT shows it, as host:port."""

    request: int
    outside: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Punching:
    """The answering side dials from now on, and where its own NAT shows it."""

    request: int
    outside: tuple[str, ...]


PeerRequest = OpenChannel | WatchHeads | GetEntries | PutEntries | GetChunks | Punch
PeerReply = Failure | Done | Answer | ChannelOpened | Punching
PeerMessage = (
    PeerHello | CloseChannel | PeerRequest | PeerReply | Credit | Urgent | Bulk | Cancel | Ping | Pong
)  # fmt: skip
AnyMessage = Message | PeerMessage
