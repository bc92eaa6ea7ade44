"""One connection to the relay: TLS, carrier, greeting, and the requests that are not a store's verbs.

Owns what a client may do before it has logged in, and how long it may stay: seconds, unless it uses a mailbox. Nothing
here writes to a disk before a login or a creation has been proved by signature.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused, LinkLost, P2psyncError, PeerError
from p2psync.ids import RelayKey
from p2psync.limits import KIB, MAILBOX_BYTES, MAILBOX_SECONDS, UNAUTHENTICATED_SECONDS
from p2psync.net.tls import TlsContext, open_server
from p2psync.net.websocket import accept_websocket
from p2psync.seams import Clock, Randomness
from p2psync.session.lanes import Ahead
from p2psync.session.link import Link
from p2psync.session.serving import RequestBody, Response, Server, joined
from p2psync.wire.conversation import Speaker, State
from p2psync.wire.login import Right, sign_hello
from p2psync.wire.messages import (
    PRESENCE,
    SPLICE,
    VERSION,
    Answer,
    Claimed,
    ClaimMailbox,
    ClientHello,
    CloseMailbox,
    Created,
    CreateNamespace,
    Done,
    GetChallenge,
    Grant,
    LoggedIn,
    Login,
    NextMail,
    OpenSplice,
    PutMail,
    Request,
    ServerHello,
)
from relay.access import AccessList
from relay.addresses import Caller
from relay.login import Challenges
from relay.mailboxes import Mailboxes
from relay.namespaces import Channel, Namespaces
from relay.presence import Presence, SlotRequest
from relay.splices import Splices
from relay.splicing import SpliceDialogue
from relay.verbs import Memory, Verbs

BEFORE_LOGIN = Ahead(urgent=MAILBOX_BYTES, bulk=0)
"""What a stranger may send unasked: one mailbox full."""
AFTER_LOGIN = Ahead(urgent=64 * KIB, bulk=0)
"""And a device: a small entry goes without a round trip. Packs wait for their share of memory."""
CHANNELS_MAX = 1024
FEATURES = (PRESENCE, SPLICE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What all connections of a relay share."""

    key: SigningKey
    tls: TlsContext
    access: AccessList
    namespaces: Namespaces
    mailboxes: Mailboxes
    presence: Presence
    splices: Splices
    memory: Memory
    clock: Clock
    randomness: Randomness
    open_to_all: bool
    origin: str | None
    """The one origin devices behind a WebSocket may name; None lets any pass."""


class Connection:
    def __init__(self, services: Services, transport: trio.abc.Stream, caller: Caller) -> None:
        self._services, self._transport, self._caller = services, transport, caller
        self._verbs = Verbs(services.memory)
        self._channels: dict[int, Channel] = {}
        self._logged_in = False
        self.life = trio.CancelScope(deadline=trio.current_time() + UNAUTHENTICATED_SECONDS)
        """Cancelled when the time of a stranger is over."""

    @property
    def logged_in(self) -> bool:
        return self._logged_in

    async def run(self) -> None:
        """Serve until the link ends. Raises nothing but cancellation and our own bugs."""
        try:
            with self.life:
                await self._serve()
        except P2psyncError as error:
            log.debug("%s: %s", self._caller.group, error)
        finally:
            for channel in self._channels.values():
                self._services.namespaces.leave(channel)
            self._channels.clear()
            await trio.aclose_forcefully(self._transport)

    async def _serve(self) -> None:
        tls, http = await open_server(self._transport, self._services.tls)
        stream: trio.abc.Stream = tls
        if http:
            accepted = await accept_websocket(tls)
            if accepted is None:
                return  # it read the page
            stream, proxy = accepted
            self._caller = self._caller.through(proxy)
        link = Link(stream, Speaker.SERVER, self._caller.group)
        link.conversation.frames.body_max = MAILBOX_BYTES
        reason: P2psyncError | None = None
        try:
            if SPLICE in await self._greet(link, http):
                await self._splice(link, stream)
                return
            async with trio.open_nursery() as nursery:
                server = Server(link, nursery, self._handle)
                self._link = link
                link.open_windows(BEFORE_LOGIN)
                await link.run(server.receive)
                nursery.cancel_scope.cancel()
            reason = link.error if isinstance(link.error, PeerError) else None
        except (PeerError, AccessRefused, LinkLost) as error:
            reason = None if link.conversation.state is State.SPLICED else error
        finally:
            if isinstance(reason, PeerError):
                log.info("%s broke the protocol: %s", self._caller.group, reason)
            await link.aclose(reason)

    async def _greet(self, link: Link, websocket: bool) -> tuple[str, ...]:
        """Say hello, and return the features the client asked for."""
        hello = await link.next_message()
        if not isinstance(hello, ClientHello):
            raise PeerError("the client did not greet")
        if VERSION not in hello.versions:
            raise PeerError(f"this relay speaks protocol version {VERSION} only; update one of the two programs")
        self._check_origin(hello.origin, websocket)
        key = self._services.key
        self._challenges = Challenges(
            RelayKey(key.public), self._services.clock, self._services.randomness, hello.origin
        )  # fmt: skip
        link.outbox.say(
            ServerHello(
                version=VERSION, features=FEATURES, relay_key=RelayKey(key.public),
                signature=sign_hello(key, hello.nonce, hello.origin), observed=self._caller.observed,
            )
        )  # fmt: skip
        try:
            await link.outbox.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost("the client left during the greeting") from None
        return hello.features

    async def _splice(self, link: Link, stream: trio.abc.Stream) -> None:
        """The other kind of connection: it becomes the stream of two devices."""
        services = self._services

        def welcome() -> None:
            self._logged_in = True
            self.life.deadline = float("inf")

        dialogue = SpliceDialogue(link, stream, self._transport, self._challenges)
        await dialogue.run(services.access, services.splices, welcome)

    def _check_origin(self, origin: str | None, websocket: bool) -> None:
        """A hello is signed for one place only, so that a web server elsewhere cannot pass this relay off as its own."""
        if websocket != (origin is not None):
            raise PeerError("an origin belongs to a WebSocket, and to nothing else")
        wanted = self._services.origin
        if origin is not None and wanted is not None and origin != wanted:
            raise PeerError(f"this relay is reached as {wanted}, not as {origin}; use the URL its operator gives")

    async def _handle(self, request: Request, body: RequestBody) -> Response:
        match request:
            case GetChallenge(request=number):
                await trio.lowlevel.checkpoint()
                return self._challenges.make(number)
            case CreateNamespace():
                return await self._create(request)
            case Login():
                return await self._login(request)
            case Grant():
                return await self._grant(request)
            case OpenSplice():
                raise PeerError("a splice needs a connection of its own")
            case ClaimMailbox() | PutMail() | NextMail() | CloseMailbox():
                return await self._mail(request, body)
            case _:
                channel = self._channels.get(request.channel)
                if channel is None:
                    raise AccessRefused("log in to a folder's store first")
                if isinstance(request, SlotRequest):
                    return await self._services.presence.serve(request, body, channel, self._services.memory.urgent_in)
                return await self._verbs.serve(request, body, channel)

    async def _create(self, request: CreateNamespace) -> Response:
        self._challenges.check_creation(request)
        services = self._services
        namespace = await services.access.create(request.owner, request.token, services.open_to_all)
        log.info("namespace %s is there, asked for from %s", namespace.hex()[:8], self._caller.group)
        return Created(request=request.request, namespace=namespace)

    async def _login(self, request: Login) -> Response:
        self._challenges.check_login(request)
        services = self._services
        right = await services.access.right_of(request.namespace, request.access_key)
        if right is None:
            raise AccessRefused("this device has no access to the folder's store at this relay")
        if not right.covers(request.right):
            raise AccessRefused(f"this device may only {right.value} here, which needs {request.right.value}")
        if len(self._channels) >= CHANNELS_MAX:
            raise AccessRefused(f"one link serves at most {CHANNELS_MAX} logins")
        channel = await services.namespaces.enter(request.namespace, request.access_key, request.right)
        number = len(self._channels) + 1
        self._channels[number] = channel
        # The list may have changed while the store was opened, when this channel could not be told yet.
        channel.change(await services.access.right_of(request.namespace, request.access_key))
        self._welcome()
        return LoggedIn(request=request.request, channel=number)

    def _welcome(self) -> None:
        if not self._logged_in:
            self._logged_in = True
            self.life.deadline = float("inf")
            self._link.conversation.frames.body_max = 256 * KIB
            self._link.open_windows(AFTER_LOGIN)

    async def _grant(self, request: Grant) -> Response:
        channel = self._channels.get(request.channel)
        if channel is None:
            raise AccessRefused("log in to a folder's store first")
        with channel.use(Right.OWN):
            await self._services.access.grant(channel.namespace, request.access_key, request.right)
            self._services.namespaces.change(channel.namespace, request.access_key, request.right)
            if request.right is None:
                self._services.presence.forget(channel.namespace, request.access_key)
                self._services.splices.revoke(channel.namespace, request.access_key)
        log.info("namespace %s: access list changed", channel.namespace.hex()[:8])
        return Done(request=request.request)

    async def _mail(self, request: ClaimMailbox | PutMail | NextMail | CloseMailbox, body: RequestBody) -> Response:
        mailboxes, number = self._services.mailboxes, request.request
        await trio.lowlevel.checkpoint()
        match request:
            case ClaimMailbox(wanted=wanted):
                nameplate = mailboxes.claim(self._caller.group, wanted)
                self._stay()
                return Claimed(request=number, nameplate=nameplate)
            case PutMail(nameplate=nameplate, side=side, index=index):
                mailboxes.put(nameplate, side, index, await self._letter(body))
                self._stay()
            case NextMail(nameplate=nameplate, side=side, index=index):
                mailboxes.check(nameplate)
                self._stay()
                letter = await mailboxes.wait(nameplate, side, index)
                return Answer(request=number, size=len(letter), bulk=False), letter
            case CloseMailbox(nameplate=nameplate):
                mailboxes.close(nameplate)
        return Done(request=number)

    async def _letter(self, body: RequestBody) -> bytes:
        if body.size > MAILBOX_BYTES:
            raise AccessRefused(f"a pairing mailbox holds at most {MAILBOX_BYTES} bytes")
        async with body.received(self._services.memory.urgent_in) as parts:
            return joined(parts)

    def _stay(self) -> None:
        """Whoever uses a mailbox may wait for the other device to answer."""
        if not self._logged_in:
            self.life.deadline = max(self.life.deadline, trio.current_time() + MAILBOX_SECONDS)
