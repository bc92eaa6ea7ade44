"""The outside of a pack: fixed header, allowed sizes, name.

pack = magic (8) ‖ version (1) ‖ epoch id (16) ‖ salt (32) ‖ sealed frames ‖ sealed pad ‖ sealed table ‖ sealed footer.
Name = BLAKE3 of all bytes. Sizes are in the Padmé set, so that a pack's length says little of what is in it (overhead
at most 12 % for tiny packs and under 7 % from 64 KiB). Source: formats, "Chunk, pack, stream";
Padmé: Nikitin et al., PETS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto.hashing import content_hash
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import EpochId, PackName
from p2psync.limits import PACK_MAX, PACK_SIZE_MIN

MAGIC = b"p2psPACK"
VERSION = 1
SALT_BYTES = 32
HEADER_BYTES = len(MAGIC) + 1 + 16 + SALT_BYTES


@dataclass(frozen=True, slots=True)
class PackHeader:
    epoch: EpochId
    salt: bytes

    def encode(self) -> bytes:
        return MAGIC + bytes([VERSION]) + self.epoch + self.salt


def padme(length: int) -> int:
    """The smallest size of the Padmé set that is at least `length` (and at least PACK_SIZE_MIN)."""
    if length <= PACK_SIZE_MIN:
        return PACK_SIZE_MIN
    exponent = length.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (length + mask) & ~mask


def parse_header(data: bytes | memoryview) -> PackHeader:
    """Read the header at the start of a pack; PeerError when it is none of ours."""
    head = bytes(data[:HEADER_BYTES])
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise PeerError("not a pack")
    if head[len(MAGIC)] != VERSION:
        raise PeerError(f"pack version {head[len(MAGIC)]} is not known here; update p2psync")
    start = len(MAGIC) + 1
    return PackHeader(EpochId(head[start : start + 16]), head[start + 16 :])


def check(name: PackName, data: bytes | bytearray | memoryview) -> PackHeader:
    """Check a whole pack as anyone can: form, size, name."""
    header = parse_header(memoryview(data))
    if len(data) > PACK_MAX or padme(len(data)) != len(data):
        raise PeerError(f"a pack of {len(data)} bytes is not of an allowed size")
    if content_hash(data) != name:
        raise IntegrityError(f"pack {name.hex()[:16]} does not match its name")
    return header
