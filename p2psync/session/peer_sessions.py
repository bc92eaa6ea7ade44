"""One session per pair of devices: which of two links stays.

Both devices decide alike without a word: of two simultaneous dials the one by the device with the lower identity key
stays; of two dials by the same device the newer one stays, since it would not have dialled again had the older worked.
A link that needs no relay takes the place of one that does, whoever dialled, and never the other way round; the other
one still delivers what is under way on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from p2psync.errors import LinkLost
from p2psync.ids import IdentityKey
from p2psync.session.peer_link import PeerLink

_RANKS = {"splice": 0, "direct": 1}
_REPLACED = "another session between the two devices takes its place"


def newer_stays(older_dialler: IdentityKey, newer_dialler: IdentityKey) -> bool:
    """Whether the newer of two links between the same devices takes the older's place."""
    return newer_dialler <= older_dialler


class PeerSessions:
    """The links this device has, at most one for each other device."""

    def __init__(self) -> None:
        self._links: dict[IdentityKey, PeerLink] = {}

    def get(self, identity: IdentityKey) -> PeerLink | None:
        return self._links.get(identity)

    def links(self) -> list[PeerLink]:
        return list(self._links.values())

    @contextmanager
    def hold(self, link: PeerLink) -> Iterator[None]:
        """Count `link` as the session with its device for the length of the block; another one is ended if this one
        stays, else LinkLost."""
        held = self._links.get(link.identity)
        if held is not None and held.error is None:
            better = _RANKS[link.kind] - _RANKS[held.kind]
            if better < 0 or (not better and not newer_stays(held.dialler, link.dialler)):
                held.probe()  # who dials may know better than we do that it is dead
                link.end(_REPLACED)
                raise LinkLost(_REPLACED)
            if better > 0:
                held.retire(_REPLACED)
            else:
                held.end(_REPLACED)  # its device would not have dialled again had it worked
        self._links[link.identity] = link
        try:
            yield
        finally:
            if self._links.get(link.identity) is link:
                del self._links[link.identity]
