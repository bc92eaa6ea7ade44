"""A link between two devices: mutual TLS, hello, and folder channels that both sides open by proof.

Both ends ask and both answer; each asks on channels it opened itself, so nothing needs to be agreed when both open the
same folder at once. The folder is never named: the asker proves that it has the folder's secret, bound to this link's
nonces, both certificates and its role, and the other side proves the same back. Who is a member, and what a folder
answers, is the replica's business; which links to open is the node's. It reconnects nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from p2psync.crypto.hashing import equal
from p2psync.errors import LinkLost, NotFound, P2psyncError, PeerError
from p2psync.ids import IdentityKey
from p2psync.limits import LINK_CREDIT, UNAUTHENTICATED_SECONDS
from p2psync.net.mutual import accept_device, certificate_pin, dial_device
from p2psync.seams import Randomness
from p2psync.session.asking import Asker
from p2psync.session.lanes import Ahead
from p2psync.session.link import Link
from p2psync.session.peer_channel import FolderService, PeerChannel, Prover, Transcript
from p2psync.session.peer_serving import AnswerPunch, Offered, PeerServing
from p2psync.session.retiring import drain
from p2psync.session.serving import Server
from p2psync.wire.conversation import Speaker
from p2psync.wire.faults import error_of
from p2psync.wire.login import NONCE_BYTES
from p2psync.wire.messages import Bulk, Cancel, Failure, Urgent
from p2psync.wire.peer_conversation import FIRST_REQUEST, REQUEST_STEP, PeerConversation, own_request
from p2psync.wire.peer_messages import (
    PEER_VERSION,
    PUNCH,
    AnyMessage,
    ChannelOpened,
    CloseChannel,
    OpenChannel,
    PeerHello,
    PeerRequest,
    Punch,
    Punching,
)

CONNECT_SECONDS = 30
DIALLER, LISTENER = b"dialler", b"listener"
_ROLES = {Speaker.CLIENT: DIALLER, Speaker.SERVER: LISTENER}


class OwnDevice(Protocol):
    """What a link needs of this device's keys."""

    @property
    def identity_key(self) -> IdentityKey: ...
    @property
    def tls_seed(self) -> bytes: ...
    @property
    def certificate(self) -> bytes: ...
    @property
    def pin(self) -> bytes: ...


class PeerLink:
    """An open link to the device `identity`. Made by `open_peer_link` and `accept_peer_link`."""

    def __init__(
        self, link: Link, me: Speaker, own: IdentityKey, identity: IdentityKey, kind: str, greeting: Transcript,
        features: tuple[str, ...],
    ) -> None:  # fmt: skip
        """`greeting`: dialler's nonce, listener's nonce, dialler's pin, listener's pin. `features`: the other side's."""
        self.identity, self.kind = identity, kind
        self.dialler = own if me is Speaker.CLIENT else identity
        """Which of the two devices dialled."""
        self._link, self._me = link, me
        self.ours, self.theirs = (*greeting, _ROLES[me]), (*greeting, _ROLES[me.other])
        """Transcripts of this side's proofs and of the other side's."""
        self.asker = Asker(link, FIRST_REQUEST[me], REQUEST_STEP)
        self._serving = PeerServing(link, identity, self.theirs, self.ours)
        self._features = features
        self._server: Server | None = None
        self._retiring = trio.Event()
        self._carrying = trio.CancelScope()
        self._reason: P2psyncError | None = None
        self._channels = 0

    @property
    def error(self) -> P2psyncError | None:
        """Why the link was lost; None while it lives."""
        return self._link.error

    def lost(self) -> LinkLost:
        """What to raise once the link has ended."""
        return LinkLost(str(self.error))

    async def closed(self) -> None:
        """Wait until the link is lost."""
        await self._link.ended()

    def probe(self) -> None:
        """There is reason to doubt the link: it ends unless the other device shows within seconds that it is there."""
        self._link.probe()

    @property
    def retiring(self) -> bool:
        """Whether another link has taken this one's place."""
        return self._retiring.is_set()

    def retire(self, reason: str) -> None:
        """Another link takes this one's place: close it as soon as what is under way on it has arrived."""
        self._reason = self._reason or LinkLost(reason)
        self._retiring.set()

    async def punch(self, outside: Sequence[str]) -> Sequence[str]:
        """Have the other device dial our `outside` addresses from now on; its own outside addresses.

        NotFound when it does not want to, or has none.
        """
        if PUNCH not in self._features:
            await trio.lowlevel.checkpoint()
            raise NotFound("the other device cannot open a link from both sides; its program is too old")
        reply, _ = await self.asker.ask(lambda request: Punch(request=request, outside=tuple(outside)), Punching)
        return reply.outside

    def answer_punches(self, answer: AnswerPunch) -> None:
        """What to do when the other device asks for that."""
        self._serving.answer_punch = answer

    def end(self, reason: str) -> None:
        """Close the link soon; the other end is told why, everybody who uses it here gets LinkLost."""
        self._reason = self._reason or LinkLost(reason)
        self._carrying.cancel()

    @asynccontextmanager
    async def offer(self, prover: Prover, service: FolderService) -> AsyncIterator[FolderOffer]:
        """Serve a folder to the other device for the length of the block; it may open it whenever it likes."""
        offered = Offered(prover, service)
        self._serving.add(offered)
        offer = FolderOffer(self, offered)
        try:
            yield offer
        finally:
            self._serving.remove(offered)
            offer.close()

    def next_channel(self) -> int:
        self._channels += 1
        return self._channels

    def close_channel(self, channel: int) -> None:
        self._link.say(CloseChannel(channel=channel))

    async def carry(self) -> None:
        """Run the link until it ends and close it; whoever waits on it gets its error, and the other end a reason."""
        try:
            with self._carrying:
                async with trio.open_nursery() as nursery:
                    self._server = Server(self._link, nursery, self._serving.answer)
                    self._link.open_windows(Ahead(urgent=LINK_CREDIT, bulk=LINK_CREDIT))
                    nursery.start_soon(self._retire, self._server)
                    await self._link.run(self._receive)
                    nursery.cancel_scope.cancel()
        finally:
            error = self._link.error
            self.asker.end()
            await self._link.aclose(self._reason or (error if isinstance(error, PeerError) else None))

    async def _retire(self, server: Server) -> None:
        await self._retiring.wait()
        await drain(self._link, self.asker, server)
        self._carrying.cancel()

    def _receive(self, message: AnyMessage, body: bytes | bytearray) -> None:
        assert self._server is not None, "carry makes it before it listens"
        match message:
            case Urgent(request=number) | Bulk(request=number) if own_request(number, self._me):
                self.asker.receive(message, body)
            case Urgent() | Bulk() | Cancel():
                self._server.receive(message, body)
            case CloseChannel(channel=channel):
                self._serving.close(channel)
            case _ if isinstance(message, PeerRequest):
                self._server.receive(message, body)
            case _:
                self.asker.receive(message, body)


class FolderOffer:
    """A folder served on a link, and the way to the same folder at the other end."""

    def __init__(self, link: PeerLink, offered: Offered) -> None:
        self._link, self._offered = link, offered
        self._channel: int | None = None

    async def open(self) -> PeerChannel:
        """The folder at the other device, as soon as that serves it too. LinkLost when the link ends first.

        A channel opened before is closed: call it again when a verb raised NotFound.
        """
        self.close()
        while True:
            seen = self._offered.opened
            channel = await self._try_open()
            if channel is not None:
                return channel
            await self._wait(seen)

    def close(self) -> None:
        """Tell the other device that nothing more is asked about the folder."""
        if self._channel is not None:
            self._link.close_channel(self._channel)
            self._channel = None

    async def _try_open(self) -> PeerChannel | None:
        link, prover = self._link, self._offered.prover
        await trio.lowlevel.checkpoint()
        answers = prover.prove(link.theirs)
        for proof, awaited in zip(prover.prove(link.ours), answers, strict=True):
            number = link.next_channel()
            try:
                reply, _ = await link.asker.ask(
                    lambda request, channel=number, proof=proof: OpenChannel(  # type: ignore[misc]
                        request=request, channel=channel, proof=proof
                    ),
                    ChannelOpened,
                )
            except NotFound:
                continue
            if not equal(reply.proof, awaited):
                raise PeerError("a device claims a folder whose secret it does not have")
            self._channel = number
            return PeerChannel(link.asker, number)
        return None

    async def _wait(self, seen: int) -> None:
        """Until the other side opens the folder, which says that it serves it now; LinkLost when the link ends."""
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await self._link.closed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            await self._offered.wait_opened(seen)
            nursery.cancel_scope.cancel()
        if self._link.error is not None:
            raise self._link.lost()


@asynccontextmanager
async def open_peer_link(
    transport: trio.abc.Stream,
    *,
    device: OwnDevice,
    expected: IdentityKey,
    certificate: bytes,
    randomness: Randomness,
    kind: str = "direct",
) -> AsyncIterator[PeerLink]:
    """Dial: TLS and hello over `transport` with the device `expected`, whose certificate (DER) a folder told.

    PeerError: another device answers there, or it speaks another protocol. LinkLost: nothing usable answers.
    """
    peer = await _within(
        CONNECT_SECONDS, transport, "the device did not answer in time",
        lambda: _dial(transport, device, expected, certificate, randomness, kind),
    )  # fmt: skip
    async with _running(peer):
        yield peer


@asynccontextmanager
async def accept_peer_link(
    transport: trio.abc.Stream,
    *,
    device: OwnDevice,
    members: Mapping[IdentityKey, bytes],
    randomness: Randomness,
    kind: str = "direct",
) -> AsyncIterator[PeerLink]:
    """Listen: TLS and hello with whichever of `members` (identity → certificate, DER) has dialled.

    LinkLost when it is none of them, or goes away; PeerError when it speaks another protocol.
    """
    peer = await _within(
        UNAUTHENTICATED_SECONDS, transport, "a device that dialled did not greet in time",
        lambda: _accept(transport, device, members, randomness, kind),
    )  # fmt: skip
    async with _running(peer):
        yield peer


async def _dial(
    transport: trio.abc.Stream,
    device: OwnDevice,
    expected: IdentityKey,
    certificate: bytes,
    randomness: Randomness,
    kind: str,
) -> PeerLink:
    stream = await dial_device(
        transport, seed=device.tls_seed, certificate=device.certificate, expected=certificate, who="the device"
    )
    link = Link(stream, Speaker.CLIENT, "the device", PeerConversation(Speaker.CLIENT))
    nonce = randomness.bytes(NONCE_BYTES)
    await _greet(link, nonce)
    hello = await _hello(link)
    greeting = (nonce, hello.nonce, device.pin, certificate_pin(certificate))
    return PeerLink(link, Speaker.CLIENT, device.identity_key, expected, kind, greeting, hello.features)


async def _accept(
    transport: trio.abc.Stream,
    device: OwnDevice,
    members: Mapping[IdentityKey, bytes],
    randomness: Randomness,
    kind: str,
) -> PeerLink:
    identities = {certificate_pin(certificate): identity for identity, certificate in members.items()}
    stream, pin = await accept_device(
        transport, seed=device.tls_seed, certificate=device.certificate, known=list(members.values())
    )
    link = Link(stream, Speaker.SERVER, "the device that dialled", PeerConversation(Speaker.SERVER))
    hello = await _hello(link)
    nonce = randomness.bytes(NONCE_BYTES)
    await _greet(link, nonce)
    greeting = (hello.nonce, nonce, pin, device.pin)
    return PeerLink(link, Speaker.SERVER, device.identity_key, identities[pin], kind, greeting, hello.features)


async def _within(
    seconds: float, transport: trio.abc.Stream, sentence: str, work: Callable[[], Awaitable[PeerLink]]
) -> PeerLink:
    """What `work` makes of the transport in time; else the transport is closed."""
    try:
        with trio.move_on_after(seconds):
            return await work()
        raise LinkLost(sentence)
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


@asynccontextmanager
async def _running(peer: PeerLink) -> AsyncIterator[None]:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.carry)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # A group of one is the block's own error (or a bug while carrying): callers expect it bare.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise


async def _greet(link: Link, nonce: bytes) -> None:
    link.outbox.say(PeerHello(versions=(PEER_VERSION,), features=(PUNCH,), nonce=nonce))
    try:
        await link.outbox.flush()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise LinkLost("the device closed the link before the greeting") from None


async def _hello(link: Link) -> PeerHello:
    """The other side's hello; PeerError, told to it, when no version is common."""
    match await link.next_message():
        case PeerHello(versions=versions) as hello:
            if PEER_VERSION in versions:
                return hello
            error = PeerError(
                f"the device speaks versions {versions} and this one {PEER_VERSION}: update the older one"
            )
            await link.aclose(error)
            raise error
        case Failure(code=code, sentence=sentence):
            raise error_of(code, sentence)
    raise PeerError("the device did not greet")
