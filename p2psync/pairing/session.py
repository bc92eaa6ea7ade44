"""The key of one pairing: SPAKE2 over the code, confirmation by both sides, and the sealing of what follows.

Owns the validation of what `spake2` would only assert (so it holds under `python -O` too): lengths, side, group
membership, canonical form, reflection. Whatever is wrong with the other side's bytes is one clean PeerError. The key
is KDF material only and never shows. Knows no mailbox, and not what the sealed messages mean.
"""

from __future__ import annotations

from enum import Enum

from spake2 import SPAKE2_A, SPAKE2_B
from spake2.ed25519_basic import NotOnCurve
from spake2.ed25519_group import Ed25519Group
from spake2.spake2 import SPAKEError

from p2psync.crypto import domains
from p2psync.crypto.hashing import derive_key, equal, labelled_hash, lp
from p2psync.errors import PeerError
from p2psync.pairing.words import Code
from p2psync.seams import Randomness
from p2psync.vault.aead import open_message, seal_message
from p2psync.wire.messages import Side

PAKE_BYTES = 33
"""A side byte and a group element."""
KEY_BYTES = 32
CONFIRM_BYTES = 32


class Step(Enum):
    """Names of the sealed messages, part of what each is sealed over: none can stand in another's place."""

    OFFER = "offer"
    REQUEST = "request"
    ADMISSION = "admission"
    DONE = "done"


_SIDE_BYTE = {Side.ADMIN: b"A", Side.JOINER: b"B"}


class PairingSession:
    """What both sides hold once the code has been proven: a session key, bound to one nameplate."""

    __slots__ = ("key", "nameplate")

    def __init__(self, nameplate: int, key: bytes) -> None:
        self.nameplate, self.key = nameplate, key

    def seal(self, step: Step, plain: bytes, salt: bytes) -> bytes:
        """`salt` is 32 fresh random bytes."""
        return seal_message(self.key, domains.KEY_PAIRING_MESSAGE, self._aad(step), plain, salt)

    def open(self, step: Step, sealed: bytes) -> bytes:
        """IntegrityError unless the other side sealed exactly this as `step`."""
        return open_message(self.key, domains.KEY_PAIRING_MESSAGE, self._aad(step), sealed)

    def _aad(self, step: Step) -> bytes:
        return lp(domains.AAD_PAIRING, step.value.encode(), str(self.nameplate).encode())

    def __repr__(self) -> str:
        return f"PairingSession({self.nameplate})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairingSession) and self.nameplate == other.nameplate and equal(self.key, other.key)

    def __hash__(self) -> int:
        return hash(self.nameplate)


class Proof:
    """Result of the exchange, not confirmed yet: both sides' confirmations follow from it."""

    __slots__ = ("_key", "_nameplate", "_transcript")

    def __init__(self, nameplate: int, key: bytes, admin_said: bytes, joiner_said: bytes) -> None:
        self._nameplate, self._key = nameplate, key
        self._transcript = labelled_hash(domains.KEY_PAIRING_CONFIRM, str(nameplate).encode(), admin_said, joiner_said)

    def confirmation(self, side: Side) -> bytes:
        """What `side` shows to prove that it holds the key."""
        return derive_key(self._key, domains.KEY_PAIRING_CONFIRM, side.value.encode(), self._transcript)

    def confirmed_by(self, side: Side, shown: bytes) -> PairingSession | None:
        """The session when `shown` is what `side` must show, else None: its code was another."""
        if not equal(self.confirmation(side), shown):
            return None
        return PairingSession(self._nameplate, self._key)

    def __repr__(self) -> str:
        return "Proof()"


class Exchange:
    """One side of the PAKE; `said` is what it sends. `finish` works once."""

    __slots__ = ("_code", "_pake", "_side", "said")

    def __init__(self, code: Code, side: Side, randomness: Randomness) -> None:
        kind = SPAKE2_A if side is Side.ADMIN else SPAKE2_B
        self._code, self._side = code, side
        self._pake = kind(
            code.password,
            idA=domains.PAKE_ADMIN.encode(),
            idB=domains.PAKE_JOINER.encode(),
            entropy_f=randomness.bytes,
        )
        self.said: bytes = self._pake.start()

    def finish(self, heard: bytes) -> Proof:
        """Take the other side's message; PeerError when it cannot be one."""
        other = Side.JOINER if self._side is Side.ADMIN else Side.ADMIN
        if len(heard) != PAKE_BYTES or heard[:1] != _SIDE_BYTE[other]:
            raise PeerError("the pairing message does not come from the other side of a pairing")
        try:
            if Ed25519Group.bytes_to_element(heard[1:]).to_bytes() != heard[1:]:
                raise PeerError("the pairing message is not in canonical form")
            key: bytes = self._pake.finish(heard)
        except (SPAKEError, NotOnCurve, ValueError, AssertionError, ArithmeticError) as error:
            raise PeerError(f"the pairing message is not a valid one ({type(error).__name__})") from None
        said = (self.said, heard) if self._side is Side.ADMIN else (heard, self.said)
        return Proof(self._code.nameplate, key, *said)

    def __repr__(self) -> str:
        return f"Exchange({self._side.value})"
