"""Meeting another device at a relay: a connection of its own that logs in, meets, and then is the other device's.

Owns the short dialogue before the bytes. It needs no request ids in flight, no credit and no keepalive: one message, one
answer, until `Spliced`. Who the other device is, it cannot say; the devices prove that to each other inside the stream.
"""

from __future__ import annotations

from typing import TypeVar

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost, PeerError
from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.limits import SPLICE_WAIT_SECONDS
from p2psync.net.network import Network
from p2psync.net.splice import SpliceStream
from p2psync.net.urls import RelayUrl
from p2psync.seams import Randomness
from p2psync.session.greeting import CONNECT_SECONDS, Greeting, greet_relay
from p2psync.session.link import Link
from p2psync.wire.faults import error_of
from p2psync.wire.login import Right, sign_login
from p2psync.wire.messages import (
    SPLICE,
    Challenge,
    Failure,
    GetChallenge,
    LoggedIn,
    Login,
    Message,
    OpenSplice,
    Spliced,
    SpliceSide,
)

DIALOGUE_SECONDS = CONNECT_SECONDS + SPLICE_WAIT_SECONDS

M = TypeVar("M", bound=Message)


async def open_splice(
    url: RelayUrl,
    *,
    namespace: NamespaceId,
    key: SigningKey,
    rendezvous: bytes,
    side: SpliceSide,
    network: Network,
    randomness: Randomness,
    expected: RelayKey | None = None,
) -> SpliceStream:
    """Meet the device that names the same 16-byte `rendezvous` with the other `side`; at most 30 s apart.

    LinkLost: the relay or the other device was not there. AccessRefused: `key` may not enter the namespace, or too
    many meet there. PeerError: as for any link.
    """
    greeting = await greet_relay(url, network=network, randomness=randomness, expected=expected, features=(SPLICE,))
    try:
        with trio.move_on_after(DIALOGUE_SECONDS):
            return await _meet(greeting, namespace, key, rendezvous, side)
        raise LinkLost(f"{url.place} did not bring the two devices together in time")
    except BaseException:
        await trio.aclose_forcefully(greeting.stream)
        raise


async def _meet(
    greeting: Greeting, namespace: NamespaceId, key: SigningKey, rendezvous: bytes, side: SpliceSide
) -> SpliceStream:
    if SPLICE not in greeting.features:
        raise PeerError("this relay does not bring devices together; its program is too old")
    link = greeting.link
    challenge = await _ask(link, GetChallenge(request=1), Challenge)
    signature = sign_login(
        key, greeting.relay_key, namespace, Right.GET, challenge.nonce, challenge.expiry, greeting.origin
    )
    login = Login(
        request=2, namespace=namespace, access_key=AccessKey(key.public), right=Right.GET, nonce=challenge.nonce,
        expiry=challenge.expiry, signature=signature,
    )  # fmt: skip
    channel = (await _ask(link, login, LoggedIn)).channel
    await _ask(link, OpenSplice(request=3, channel=channel, rendezvous=rendezvous, side=side), Spliced)
    return SpliceStream(greeting.stream, link.conversation.frames.rest())


async def _ask(link: Link, message: Message, expected: type[M]) -> M:
    link.outbox.say(message)
    try:
        await link.outbox.flush()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise LinkLost("the relay closed the link before the devices met") from None
    match await link.next_message():
        case Failure(code=code, sentence=sentence):
            raise error_of(code, sentence)
        case answer if isinstance(answer, expected):
            return answer
    raise PeerError(f"the relay did not answer with {expected.__name__}")
