"""Pairing, sans-I/O: one class per step, whose methods are its only legal moves and return the next step.

    admin:   ShowsCode ─hear→ ProvenJoiner ─offer→ Offered ─hear→ Asked ─admit→ Admitted ─hear→ (done)
    joiner:  KnowsCode ─hear→ Claims ─hear→ Invited ─ask→ Asking ─hear→ Welcomed ─finish→ (done)

Each step has `said`: every message of its side so far, in mailbox order, so that a restart (of a side or of the relay)
says the same bytes again. `Offered`, `Admitted` and `Asking` are what a side must have on disk before it says them;
`encode` and `decode_…` are for that. The key confirmation goes joiner first: an attacker who guesses a code as joiner
learns one bit and burns it, one who guesses as admin learns nothing. A refusal may stand in any message's place: it is
not authenticated (there may be no common key) and can only end things. Source: formats, "Pairing".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.catalog.keystore import credentials_of
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import AccessRefused, P2psyncError, PeerError, StorageError, UserError, WrongCode
from p2psync.ids import AccessKey
from p2psync.index.body import FeedHead
from p2psync.index.membership import Credentials, Newcomer, sign_newcomer
from p2psync.limits import MAILBOX_BYTES
from p2psync.pairing.admission import open_secrets
from p2psync.pairing.offers import (
    Admission,
    OfferedFolder,
    Request,
    decode_admissions,
    decode_done,
    decode_offer,
    decode_request,
    encode_admissions,
    encode_done,
    encode_offer,
    encode_request,
)
from p2psync.pairing.session import CONFIRM_BYTES, KEY_BYTES, PAKE_BYTES, Exchange, PairingSession, Proof, Step
from p2psync.pairing.words import Code
from p2psync.seams import Randomness
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.secrets import FolderSecrets
from p2psync.wire.messages import NAMEPLATE_MAX, Side

VERSION = 1
_SAID_MAX = 8
WRONG_CODE = "the pairing code did not match, and each code allows one try; make a new code and try again"
REFUSED_CODE = encode(["refused", "code"])
REFUSED_BY_USER = encode(["refused", "user"])
REFUSED_HINDERED = encode(["refused", "hindered"])
REFUSED_DAMAGED = encode(["refused", "damaged"])
_REFUSALS: dict[bytes, P2psyncError] = {
    REFUSED_CODE: WrongCode(WRONG_CODE),
    REFUSED_BY_USER: AccessRefused("the other side's user declined this device; ask for a new code and try again"),
    REFUSED_HINDERED: UserError(
        "the other device had to stop the pairing; its screen says why; mend that and pair again"
    ),
    REFUSED_DAMAGED: PeerError("the other side could not read what this one said, so both stopped; pair again"),
}


def refusal_for(error: P2psyncError) -> bytes:
    """What to tell the other side when this side stops because of `error`."""
    if isinstance(error, WrongCode):
        return REFUSED_CODE
    if isinstance(error, AccessRefused):
        return REFUSED_BY_USER
    return REFUSED_HINDERED if isinstance(error, (UserError, StorageError)) else REFUSED_DAMAGED


def _heed_refusal(message: bytes) -> None:
    if message in _REFUSALS:
        error = _REFUSALS[message]
        raise type(error)(str(error))


def _two_parts(message: bytes, what: str, first: int) -> tuple[bytes, bytes]:
    """A message of two byte strings, the first of exactly `first` bytes."""
    fields = Fields(decode(message, MAILBOX_BYTES), what)
    parts = fields.data("first", size=first), fields.data("second", most=MAILBOX_BYTES)
    fields.end()
    return parts


# --- admin ----------------------------------------------------------------------


class ShowsCode:
    """Admin: the code is on the screen, nobody has used it."""

    def __init__(self, code: Code, randomness: Randomness) -> None:
        self._code = code
        self._exchange = Exchange(code, Side.ADMIN, randomness)
        self.said: tuple[bytes, ...] = (self._exchange.said,)

    def hear(self, message: bytes) -> ProvenJoiner:
        """The joiner's one guess. WrongCode: the code is burned; PeerError: it was no guess at all, and burned too."""
        _heed_refusal(message)
        heard, shown = _two_parts(message, "pairing guess", PAKE_BYTES)
        if len(shown) != CONFIRM_BYTES:
            raise PeerError("the pairing confirmation has a wrong length")
        proof = self._exchange.finish(heard)
        session = proof.confirmed_by(Side.JOINER, shown)
        if session is None:
            raise WrongCode(WRONG_CODE)
        return ProvenJoiner(session, self.said, proof.confirmation(Side.ADMIN))


class ProvenJoiner:
    """Admin: the joiner has proven the code; he has not seen our proof yet."""

    def __init__(self, session: PairingSession, said: tuple[bytes, ...], confirmation: bytes) -> None:
        self._session, self._said, self._confirmation = session, said, confirmation

    def offer(self, folders: tuple[OfferedFolder, ...], salt: bytes) -> Offered:
        sealed = self._session.seal(Step.OFFER, encode_offer(folders), salt)
        return Offered(self._session, (*self._said, encode([self._confirmation, sealed])), folders)


@dataclass(frozen=True, slots=True)
class Offered:
    """Admin, on disk: the offer is made."""

    session: PairingSession
    said: tuple[bytes, ...]
    folders: tuple[OfferedFolder, ...]

    def hear(self, message: bytes) -> Asked:
        """Who asks to be admitted. IntegrityError or PeerError when anything in it does not hold."""
        _heed_refusal(message)
        return Asked(self, decode_request(self.session.open(Step.REQUEST, message), self.folders))

    def encode(self) -> bytes:
        return _encode_step(self.session, self.said, [encode_offer(self.folders)])


@dataclass(frozen=True, slots=True)
class Asked:
    """Admin: a proven joiner asks; the user may look at `request` before `admit`."""

    offered: Offered
    request: Request

    def admit(self, admissions: tuple[Admission, ...], admin: Credentials, salt: bytes) -> Admitted:
        """`admin`: this device, so that the newcomer can meet it where no store brings them together."""
        if len(admissions) != len(self.offered.folders):
            raise PeerError("an admission for every offered folder is needed")
        session = self.offered.session
        sealed = session.seal(Step.ADMISSION, encode_admissions(admin, admissions), salt)
        return Admitted(session, (*self.offered.said, sealed))


@dataclass(frozen=True, slots=True)
class Admitted:
    """Admin, on disk: the newcomer is a member; its message waits in the mailbox until acknowledged."""

    session: PairingSession
    said: tuple[bytes, ...]

    def hear(self, message: bytes) -> None:
        """The newcomer's last word: the pairing is complete."""
        _heed_refusal(message)
        decode_done(self.session.open(Step.DONE, message))

    def encode(self) -> bytes:
        return _encode_step(self.session, self.said, [])


# --- joiner ---------------------------------------------------------------------


class KnowsCode:
    """Joiner: a code was typed in, nothing is said yet."""

    def __init__(self, code: Code, randomness: Randomness) -> None:
        self._exchange = Exchange(code, Side.JOINER, randomness)
        self.said: tuple[bytes, ...] = ()

    def hear(self, message: bytes) -> Claims:
        """The admin's half of the exchange. PeerError when it cannot be one."""
        _heed_refusal(message)
        proof = self._exchange.finish(message)
        return Claims(proof, (encode([self._exchange.said, proof.confirmation(Side.JOINER)]),))


class Claims:
    """Joiner: the one guess is made."""

    def __init__(self, proof: Proof, said: tuple[bytes, ...]) -> None:
        self._proof, self.said = proof, said

    def hear(self, message: bytes) -> Invited:
        """The admin's proof and offer. WrongCode when the admin refused the guess, or does not know the code himself."""
        _heed_refusal(message)
        shown, sealed = _two_parts(message, "pairing offer", CONFIRM_BYTES)
        session = self._proof.confirmed_by(Side.ADMIN, shown)
        if session is None:
            raise WrongCode(WRONG_CODE)
        return Invited(session, self.said, decode_offer(session.open(Step.OFFER, sealed)))


@dataclass(frozen=True, slots=True)
class Invited:
    """Joiner: the admin has proven the code; `folders` are offered."""

    session: PairingSession
    said: tuple[bytes, ...]
    folders: tuple[OfferedFolder, ...]

    def ask(self, device: DeviceKeys, device_name: str, salt: bytes) -> Asking:
        newcomers = tuple(_newcomer(device, folder) for folder in self.folders)
        sealed = self.session.seal(Step.REQUEST, encode_request(Request(device_name, newcomers)), salt)
        return Asking(self.session, (*self.said, sealed), self.folders)


@dataclass(frozen=True, slots=True)
class Asking:
    """Joiner, on disk: asked to be admitted."""

    session: PairingSession
    said: tuple[bytes, ...]
    folders: tuple[OfferedFolder, ...]

    def hear(self, message: bytes, device: DeviceKeys) -> Welcomed:
        """The admission. IntegrityError or PeerError when anything in it does not hold."""
        _heed_refusal(message)
        admin, admissions = decode_admissions(self.session.open(Step.ADMISSION, message), len(self.folders))
        secrets = tuple(
            open_secrets(folder.folder, device, admission.sealed_secrets)
            for folder, admission in zip(self.folders, admissions, strict=True)
        )
        return Welcomed(self, secrets, tuple(admission.head for admission in admissions), admin)

    def encode(self) -> bytes:
        return _encode_step(self.session, self.said, [encode_offer(self.folders)])


@dataclass(frozen=True, slots=True)
class Welcomed:
    """Joiner: holds each folder's secrets, the entry its first sync must find, and whom it may ask for it."""

    asking: Asking
    secrets: tuple[FolderSecrets, ...]
    heads: tuple[FeedHead, ...]
    admin: Credentials

    def finish(self, salt: bytes) -> tuple[bytes, ...]:
        """All this side ever says, the acknowledgement last; say it once everything is adopted durably."""
        return (*self.asking.said, self.asking.session.seal(Step.DONE, encode_done(), salt))


def _newcomer(device: DeviceKeys, folder: OfferedFolder) -> Newcomer:
    relays = sorted({store.relay_key for store in folder.stores})
    access = tuple((relay, AccessKey(device.access_key(relay, folder.folder).public)) for relay in relays)
    return sign_newcomer(device.identity, folder.folder, credentials_of(device), folder.role, access)


# --- steps on disk ----------------------------------------------------------------


def _encode_step(session: PairingSession, said: tuple[bytes, ...], more: list[bytes]) -> bytes:
    return encode([VERSION, session.nameplate, session.key, said, *more])


def _decode_step(data: bytes, more: bool) -> tuple[PairingSession, tuple[bytes, ...], tuple[OfferedFolder, ...]]:
    fields = Fields(decode(data, 4 * MAILBOX_BYTES), "pairing in progress")
    fields.integer("version", VERSION, VERSION)
    nameplate = fields.integer("nameplate", 1, NAMEPLATE_MAX)
    session = PairingSession(nameplate, fields.data("key", size=KEY_BYTES))
    said = fields.array("said", _SAID_MAX)
    folders = decode_offer(fields.data("folders", most=MAILBOX_BYTES)) if more else ()
    fields.end()
    return session, said, folders


def decode_offered(data: bytes) -> Offered:
    return Offered(*_decode_step(data, more=True))


def decode_admitted(data: bytes) -> Admitted:
    session, said, _ = _decode_step(data, more=False)
    return Admitted(session, said)


def decode_asking(data: bytes) -> Asking:
    return Asking(*_decode_step(data, more=True))
