"""A device's link to a relay: greeting, namespaces, logins, the access list and mailboxes.

Owns the order of things until a channel is open; the store's verbs on it are `remote`'s. It reconnects nothing: when
the link is lost every call raises LinkLost, and the caller opens another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused, P2psyncError, PeerError
from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.limits import CHALLENGE_SECONDS, LINK_CREDIT
from p2psync.net.network import Network
from p2psync.net.urls import RelayUrl
from p2psync.seams import Clock, Randomness
from p2psync.session.asking import Asker
from p2psync.session.greeting import Greeting, greet_relay
from p2psync.session.lanes import Ahead
from p2psync.session.link import Link
from p2psync.session.mailing import Mailing
from p2psync.session.presence import Presence
from p2psync.session.remote import RemoteStore
from p2psync.wire.login import Right, namespace_id, sign_creation, sign_login
from p2psync.wire.messages import (
    Challenge,
    Claimed,
    ClaimMailbox,
    CloseMailbox,
    Created,
    CreateNamespace,
    Done,
    GetChallenge,
    Grant,
    LoggedIn,
    Login,
)


class RelayLink(Mailing):
    """An open link. Made by `open_relay_link`; usable from any number of tasks at once."""

    def __init__(self, greeting: Greeting, asker: Asker) -> None:
        super().__init__(asker)
        self._link = greeting.link
        self.relay_key = greeting.relay_key
        self.features = greeting.features
        self.observed = greeting.observed
        """The address and port the relay sees us from (port 0 when it does not know), or None."""
        self._origin = greeting.origin
        self._owned: dict[NamespaceId, int] = {}

    async def create_namespace(self, owner: SigningKey, token: str | None = None) -> NamespaceId:
        """Make the namespace that `owner` owns, or find it made. AccessRefused when the relay wants an(other) invite."""
        challenge = await self._challenge()
        signature = sign_creation(owner, self.relay_key, challenge.nonce, challenge.expiry)
        created, _ = await self._asker.ask(
            lambda request: CreateNamespace(
                request=request, owner=AccessKey(owner.public), nonce=challenge.nonce, expiry=challenge.expiry,
                signature=signature, token=token,
            ),
            Created,
        )  # fmt: skip
        if created.namespace != namespace_id(owner.public, self.relay_key):
            raise PeerError("the relay made another namespace than was asked for")
        return created.namespace

    async def login(self, namespace: NamespaceId, key: SigningKey, right: Right = Right.PUT) -> RemoteStore:
        """Open a channel to `namespace` with at most `right`. AccessRefused when the access list says otherwise."""
        challenge = await self._challenge()
        nonce, expiry = challenge.nonce, challenge.expiry
        signature = sign_login(key, self.relay_key, namespace, right, nonce, expiry, self._origin)
        opened, _ = await self._asker.ask(
            lambda request: Login(
                request=request, namespace=namespace, access_key=AccessKey(key.public), right=right, nonce=nonce,
                expiry=expiry, signature=signature,
            ),
            LoggedIn,
        )  # fmt: skip
        if right is Right.OWN:
            self._owned[namespace] = opened.channel
        return RemoteStore(self._asker, opened.channel)

    def presence(self, store: RemoteStore) -> Presence:
        """The presence slots of the namespace that `store` was opened in."""
        return Presence(self._asker, store.channel)

    async def clock(self) -> float:
        """The relay's clock, in seconds since 1970, to the second; for people to compare with, nothing else."""
        return float((await self._challenge()).expiry - CHALLENGE_SECONDS)

    async def grant(self, namespace: NamespaceId, key: AccessKey, right: Right | None) -> None:
        """Let `key` do `right` in the namespace, or nothing any more when None. Needs a login with `own` before."""
        channel = self._owned.get(namespace)
        if channel is None:
            await trio.lowlevel.checkpoint()
            raise AccessRefused("only an owner of a namespace changes its access list: log in with `own` first")
        await self._asker.ask(
            lambda request: Grant(request=request, channel=channel, access_key=key, right=right), Done
        )

    async def claim_mailbox(self, wanted: int | None = None) -> int:
        """Open a mailbox and return its nameplate; `wanted` asks for that one. AccessRefused when it is taken."""
        claimed, _ = await self._asker.ask(lambda request: ClaimMailbox(request=request, wanted=wanted), Claimed)
        if wanted is not None and claimed.nameplate != wanted:
            raise PeerError("the relay opened another mailbox than was asked for")
        return claimed.nameplate

    async def close_mailbox(self, nameplate: int) -> None:
        """Throw the mailbox away with what is in it; one that is gone is no error."""
        await self._asker.ask(lambda request: CloseMailbox(request=request, nameplate=nameplate), Done)

    def probe(self) -> None:
        """There is reason to doubt the link: it ends unless the relay shows within seconds that it is there."""
        self._link.probe()

    async def closed(self) -> None:
        """Wait until the link is lost."""
        await self._link.ended()

    @property
    def error(self) -> P2psyncError | None:
        """Why the link was lost; None while it lives."""
        return self._link.error

    async def _challenge(self) -> Challenge:
        challenge, _ = await self._asker.ask(lambda request: GetChallenge(request=request), Challenge)
        return challenge


@asynccontextmanager
async def open_relay_link(
    url: RelayUrl, *, network: Network, clock: Clock, randomness: Randomness, expected: RelayKey | None = None
) -> AsyncIterator[RelayLink]:
    """Connect to the relay of `url` and prove who it is; the link is closed at the end of the block.

    `expected` is the key of an earlier contact: over `wss` nothing else tells one relay from another. LinkLost: nobody
    answers there. PeerError: it is another relay, or speaks another protocol. `clock` is not asked now: expiries of
    logins stand on the relay's clock.
    """
    greeting = await greet_relay(url, network=network, randomness=randomness, expected=expected)
    link = greeting.link
    asker = Asker(link)
    relay_link = RelayLink(greeting, asker)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_carry, link, asker)
            link.open_windows(Ahead(urgent=LINK_CREDIT, bulk=LINK_CREDIT))
            try:
                yield relay_link
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The carrying task raises nothing, so a group of one is the block's own error: callers expect it bare.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
    finally:
        await link.aclose()


async def _carry(link: Link, asker: Asker) -> None:
    try:
        await link.run(asker.receive)
    finally:
        asker.end()
