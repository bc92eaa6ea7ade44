"""A device's link to a relay: greeting, namespaces, logins, the access list and mailboxes.

Owns the order of things until a channel is open; the store's verbs on it are `remote`'s. It reconnects nothing: when
the link is lost every call raises LinkLost, and the caller opens another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused, LinkLost, P2psyncError, PeerError
from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.limits import LINK_CREDIT, MAILBOX_BYTES
from p2psync.net.network import Network
from p2psync.net.tls import open_client
from p2psync.net.urls import RelayUrl, pin_of
from p2psync.seams import Clock, Randomness
from p2psync.session.asking import Asker
from p2psync.session.lanes import Ahead
from p2psync.session.link import Link
from p2psync.session.remote import RemoteStore
from p2psync.wire.conversation import Speaker
from p2psync.wire.faults import error_of
from p2psync.wire.login import NONCE_BYTES, Right, check_hello, namespace_id, sign_creation, sign_login
from p2psync.wire.messages import (
    VERSION,
    Answer,
    Challenge,
    Claimed,
    ClaimMailbox,
    ClientHello,
    CloseMailbox,
    Created,
    CreateNamespace,
    Done,
    Failure,
    GetChallenge,
    Grant,
    LoggedIn,
    Login,
    NextMail,
    PutMail,
    ServerHello,
    Side,
)

CONNECT_SECONDS = 30
"""Connecting over a bad line takes seconds; a relay that does not finish TLS and hello in this time is not there."""

T = TypeVar("T")


class RelayLink:
    """An open link. Made by `open_relay_link`; usable from any number of tasks at once."""

    def __init__(self, link: Link, asker: Asker, relay_key: RelayKey, features: tuple[str, ...]) -> None:
        self._link, self._asker = link, asker
        self.relay_key = relay_key
        self.features = features
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
        signature = sign_login(key, self.relay_key, namespace, right, nonce, expiry, None)
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

    async def put_mail(self, nameplate: int, side: Side, index: int, body: bytes) -> None:
        """Leave message number `index` of our `side`. Leaving the same bytes again is no error, others are refused."""
        await self._asker.ask(
            lambda request: PutMail(request=request, nameplate=nameplate, side=side, index=index, size=len(body)),
            Done,
            body=[body] if body else [],
        )

    async def next_mail(self, nameplate: int, side: Side, index: int) -> bytes:
        """Wait for message number `index` of the other side; `side` is ours. NotFound when the mailbox is gone."""
        _, body = await self._asker.ask(
            lambda request: NextMail(request=request, nameplate=nameplate, side=side, index=index),
            Answer,
            most=MAILBOX_BYTES,
            waits=True,
        )
        return body

    async def close_mailbox(self, nameplate: int) -> None:
        """Throw the mailbox away with what is in it; one that is gone is no error."""
        await self._asker.ask(lambda request: CloseMailbox(request=request, nameplate=nameplate), Done)

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
    url: RelayUrl, *, network: Network, clock: Clock, randomness: Randomness
) -> AsyncIterator[RelayLink]:
    """Connect to the relay of `url` and prove who it is; the link is closed at the end of the block.

    LinkLost: nobody answers there. PeerError: it is another relay, or speaks another protocol. `clock` is not asked
    now: expiries of logins stand on the relay's clock.
    """
    link, relay_key, features = await _within(CONNECT_SECONDS, url, lambda: _connect(url, network, randomness))
    asker = Asker(link)
    relay_link = RelayLink(link, asker, relay_key, features)
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


async def _within(seconds: float, url: RelayUrl, work: Callable[[], Awaitable[T]]) -> T:
    with trio.move_on_after(seconds):
        return await work()
    raise LinkLost(f"{url.place} did not answer within {seconds:.0f} seconds")


async def _connect(url: RelayUrl, network: Network, randomness: Randomness) -> tuple[Link, RelayKey, tuple[str, ...]]:
    transport = await network.connect(url.host, url.port)
    try:
        stream, shown = await open_client(transport, url)
        link = Link(stream, Speaker.CLIENT, url.place)
        relay_key, features = await _greet(link, randomness.bytes(NONCE_BYTES))
        if relay_key != shown or pin_of(relay_key) != url.pin:
            raise PeerError(f"{url.place} is not the relay this address names: it shows two different keys")
        return link, relay_key, features
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def _greet(link: Link, nonce: bytes) -> tuple[RelayKey, tuple[str, ...]]:
    link.outbox.say(ClientHello(versions=(VERSION,), features=(), nonce=nonce, origin=None))
    try:
        await link.outbox.flush()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise LinkLost("the relay closed the link before the greeting") from None
    match await link.next_message():
        case ServerHello(version=version, features=features, relay_key=key, signature=signature):
            if version != VERSION:
                raise PeerError(f"the relay chose protocol version {version}, which was not offered")
            check_hello(key, signature, nonce, None)
            return key, features
        case Failure(code=code, sentence=sentence):
            raise error_of(code, sentence)
    raise PeerError("the relay did not greet")
