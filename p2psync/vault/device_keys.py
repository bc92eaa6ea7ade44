"""A device's own keys: identity (Ed25519), box (X25519), TLS (Ed25519 with its certificate), device seed.

Four separate secrets, made on first use and never leaving the device. Everything else a device shows is derived: its
id, its pin, and one unlinkable access key per relay and folder. Source: formats, "Identity, folder, membership".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import content_hash, derive_key, labelled_hash
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import PeerError, UserError
from p2psync.ids import DeviceId, FolderId, IdentityKey, RelayKey, format_device_id
from p2psync.limits import CERTIFICATE_MAX
from p2psync.vault.boxes import BoxKey

VERSION = 1
SEED_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceKeys:
    """Secrets of one installation. `certificate` is DER, self-signed by the TLS key, CN = device id."""

    identity: SigningKey
    box: BoxKey
    tls_seed: bytes
    certificate: bytes
    device_seed: bytes

    @property
    def identity_key(self) -> IdentityKey:
        return IdentityKey(self.identity.public)

    @property
    def device_id(self) -> DeviceId:
        return device_id(self.identity_key)

    @property
    def pin(self) -> bytes:
        """BLAKE3 of the certificate: what peers compare before any application byte."""
        return content_hash(self.certificate)

    def access_key(self, relay: RelayKey, folder: FolderId) -> SigningKey:
        """The key this device shows to one folder's namespace at one relay; unlinkable to any other."""
        return SigningKey(derive_key(self.device_seed, domains.KEY_ACCESS, relay, folder))

    def encode(self) -> bytes:
        return encode([VERSION, self.identity.seed, self.box.seed, self.tls_seed, self.certificate, self.device_seed])

    def __repr__(self) -> str:
        return f"DeviceKeys({self.device_id[:7]})"


def device_id(identity: IdentityKey) -> DeviceId:
    return format_device_id(labelled_hash(domains.DEVICE_ID, identity))


def decode_device_keys(data: bytes) -> DeviceKeys:
    """Read what `encode` wrote. UserError when the file is damaged: its keys cannot be guessed back."""
    try:
        fields = Fields(decode(data, 4096), "device keys")
        if fields.integer("version") != VERSION:
            raise UserError("the device key file was written by a newer p2psync; update this one")
        keys = DeviceKeys(
            identity=SigningKey(fields.data("identity", size=SEED_BYTES)),
            box=BoxKey(fields.data("box", size=SEED_BYTES)),
            tls_seed=fields.data("tls", size=SEED_BYTES),
            certificate=fields.data("certificate", most=CERTIFICATE_MAX),
            device_seed=fields.data("seed", size=SEED_BYTES),
        )
        fields.end()
    except PeerError as error:
        raise UserError(f"the device key file is damaged ({error}); restore it from a backup") from None
    return keys
