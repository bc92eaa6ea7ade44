"""A link over a stream that neither device dialled: a splice, or a connection opened from both sides.

TLS and the greeting need a client and a server; the device with the lower identity key plays the dialler.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

from p2psync.ids import IdentityKey
from p2psync.seams import Randomness
from p2psync.session.peer_link import OwnDevice, PeerLink, accept_peer_link, open_peer_link


def plays_dialler(own: IdentityKey, other: IdentityKey) -> bool:
    return own < other


def meet_peer_link(
    transport: trio.abc.Stream,
    *,
    device: OwnDevice,
    expected: IdentityKey,
    certificate: bytes,
    randomness: Randomness,
    kind: str,
) -> AbstractAsyncContextManager[PeerLink]:
    """TLS and hello with the device `expected`; errors are those of `open_peer_link` and `accept_peer_link`."""
    if plays_dialler(device.identity_key, expected):
        return open_peer_link(
            transport, device=device, expected=expected, certificate=certificate, randomness=randomness, kind=kind
        )
    return accept_peer_link(transport, device=device, members={expected: certificate}, randomness=randomness, kind=kind)
