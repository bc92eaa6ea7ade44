"""Sealing chunks into packs and opening them again; the same frames make a live stream.

Each chunk is one frame: AEAD(key = KDF(S, KEY_PACK_FRAMES, salt), nonce = index, aad = lp(AAD_FRAME, folder, epoch,
chunk id), kind ‖ payload). Behind the frames stand one sealed pad up to the Padmé set, a table sealed under a second
key and a fixed footer under a third, so that a pack alone says where its chunks are. A chunk opens only to the bytes its
id names. Source: formats, "Chunk, pack, stream".
"""

from __future__ import annotations

from dataclasses import dataclass

from p2psync.crypto import domains
from p2psync.crypto.hashing import content_hash, lp
from p2psync.errors import IntegrityError
from p2psync.ids import ChunkId, Ciphertext, EpochId, FolderId, PackName, Plaintext
from p2psync.limits import CHUNK_MAX, PACK_FRAMES_MAX, PACK_MAX, PACK_TABLE_STEP
from p2psync.sealed.pack import HEADER_BYTES, PackHeader, padme, parse_header
from p2psync.vault.aead import TAG_BYTES, Sealer
from p2psync.vault.compression import NONE, compress, decompress
from p2psync.vault.secrets import EpochSecret, Generation

ROW_BYTES = 40
"""One table row: chunk id (32) ‖ sealed length (4) ‖ plain length (4)."""
FOOTER_BYTES = 16 + TAG_BYTES
"""Frame count (4) ‖ sealed table length (4) ‖ end of the frames (8), sealed."""
FRAME_OVERHEAD = 1 + TAG_BYTES
_TABLE_SLACK = 4 * 1024
"""Room left for the table's own rounding when a pack is closed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one chunk lies: frame number, offset and sealed length in the pack, length of the plaintext."""

    chunk: ChunkId
    index: int
    offset: int
    sealed_size: int
    plain_size: int


@dataclass(frozen=True, slots=True)
class SealedPack:
    name: PackName
    epoch: EpochId
    salt: bytes
    data: Ciphertext
    table: bytes
    """Rows of ROW_BYTES, in frame order: what a `pack` record carries."""


class FrameSealer:
    """Seals and opens the chunk frames of one pack or one live stream."""

    def __init__(self, folder: FolderId, secret: EpochSecret, salt: bytes) -> None:
        self._folder, self._epoch = folder, secret.epoch
        self._sealer = Sealer(secret.secret, domains.KEY_PACK_FRAMES, salt)
        self._aad_start = lp(domains.AAD_FRAME, folder, secret.epoch)
        """What all frames have in common."""

    def _aad(self, chunk: ChunkId) -> bytes:
        """lp(AAD_FRAME, folder, epoch, chunk)"""
        return self._aad_start + len(chunk).to_bytes(4, "big") + chunk

    def seal(self, index: int, chunk: ChunkId, plain: Plaintext | memoryview) -> bytes:
        kind, payload = compress(plain)
        return self._sealer.seal(index, self._aad(chunk), b"".join((bytes((kind,)), payload)))

    def open(
        self, index: int, chunk: ChunkId, sealed: bytes | memoryview, plain_size: int, generation: Generation
    ) -> Plaintext:
        """The chunk; IntegrityError unless the frame opens, has the declared size and hashes to its id."""
        if not 0 <= plain_size <= CHUNK_MAX:
            raise IntegrityError("a chunk of impossible size")
        inner = memoryview(self._sealer.open(index, self._aad(chunk), sealed))
        plain = decompress(inner[0] if inner else -1, inner[1:], plain_size)
        if len(plain) != plain_size or generation.chunk_id(plain) != chunk:
            raise IntegrityError(f"chunk {chunk.hex()[:12]} holds other bytes than its id names")
        return Plaintext(plain)

    def seal_pad(self, index: int, size: int) -> bytes:
        aad = lp(domains.AAD_PAD, self._folder, self._epoch)
        return self._sealer.seal(index, aad, bytes((NONE,)) + bytes(size))


class PackWriter:
    """Collects frames and closes them into one pack. `salt` is 32 fresh random bytes: never reuse a writer."""

    def __init__(self, folder: FolderId, secret: EpochSecret, salt: bytes) -> None:
        self._folder, self._secret = folder, secret
        self._header = PackHeader(secret.epoch, salt)
        self._frames = FrameSealer(folder, secret, salt)
        self._parts: list[bytes] = [self._header.encode()]
        """Joined once at the end: a buffer that grows leaves holes of megabytes behind in the heap."""
        self._length = HEADER_BYTES
        self._rows = bytearray()
        self.count = 0

    @property
    def size(self) -> int:
        """Bytes of frames so far."""
        return self._length - HEADER_BYTES

    def fits(self, plain_size: int) -> bool:
        """Whether a chunk of this size fits for certain, compressed or not."""
        tail = (self.count + 2) * ROW_BYTES + FRAME_OVERHEAD + FOOTER_BYTES + _TABLE_SLACK
        total = self._length + plain_size + FRAME_OVERHEAD + tail
        return self.count < PACK_FRAMES_MAX and padme(total) <= PACK_MAX

    def add(self, chunk: ChunkId, plain: Plaintext | memoryview) -> None:
        sealed = self._frames.seal(self.count, chunk, plain)
        self._parts.append(sealed)
        self._length += len(sealed)
        self._rows += chunk + len(sealed).to_bytes(4, "big") + len(plain).to_bytes(4, "big")
        self.count += 1

    def finish(self) -> SealedPack:
        """Close the pack: pad, table, footer, name."""
        frames_end = self._length
        table_room = -(-(len(self._rows) + TAG_BYTES) // PACK_TABLE_STEP) * PACK_TABLE_STEP
        base = frames_end + FRAME_OVERHEAD + table_room + FOOTER_BYTES
        self._parts.append(self._frames.seal_pad(self.count, padme(base) - base))
        self._parts.append(
            _seal_tail(self._folder, self._secret, self._header, bytes(self._rows), table_room - TAG_BYTES, frames_end)
        )
        data = Ciphertext(b"".join(self._parts))
        self._parts.clear()
        return SealedPack(PackName(content_hash(data)), self._secret.epoch, self._header.salt, data, bytes(self._rows))


def _seal_tail(
    folder: FolderId, secret: EpochSecret, header: PackHeader, rows: bytes, room: int, frames_end: int
) -> bytes:
    table = Sealer(secret.secret, domains.KEY_PACK_TABLE, header.salt).seal(
        0, lp(domains.AAD_PACK_TABLE, folder, header.epoch), rows.ljust(room, b"\0")
    )
    count = len(rows) // ROW_BYTES
    fields = count.to_bytes(4, "big") + len(table).to_bytes(4, "big") + frames_end.to_bytes(8, "big")
    footer = Sealer(secret.secret, domains.KEY_PACK_FOOTER, header.salt).seal(
        0, lp(domains.AAD_PACK_FOOTER, folder, header.epoch), fields
    )
    return table + footer


def locate(table: bytes) -> list[Frame]:
    """Read a table (of a `pack` record or from a pack itself) into frame positions; IntegrityError on nonsense."""
    if len(table) % ROW_BYTES or len(table) // ROW_BYTES > PACK_FRAMES_MAX:
        raise IntegrityError("a pack's table has the wrong size")
    frames, offset = [], HEADER_BYTES
    for index in range(len(table) // ROW_BYTES):
        row = table[index * ROW_BYTES : (index + 1) * ROW_BYTES]
        sealed_size, plain_size = int.from_bytes(row[32:36], "big"), int.from_bytes(row[36:], "big")
        if plain_size > CHUNK_MAX or not FRAME_OVERHEAD <= sealed_size <= FRAME_OVERHEAD + plain_size:
            raise IntegrityError("a pack's table declares an impossible frame")
        frames.append(Frame(ChunkId(row[:32]), index, offset, sealed_size, plain_size))
        offset += sealed_size
    if offset > PACK_MAX:
        raise IntegrityError("a pack's table reaches beyond any pack")
    return frames


def read_table(folder: FolderId, secret: EpochSecret, data: bytes) -> bytes:
    """The table out of a whole pack, without any record about it; IntegrityError when it does not open."""
    header = parse_header(data)
    if header.epoch != secret.epoch or len(data) < HEADER_BYTES + FOOTER_BYTES:
        raise IntegrityError("the pack belongs to another epoch")
    footer = Sealer(secret.secret, domains.KEY_PACK_FOOTER, header.salt).open(
        0, lp(domains.AAD_PACK_FOOTER, folder, header.epoch), data[-FOOTER_BYTES:]
    )
    count, size = int.from_bytes(footer[:4], "big"), int.from_bytes(footer[4:8], "big")
    table = Sealer(secret.secret, domains.KEY_PACK_TABLE, header.salt).open(
        0, lp(domains.AAD_PACK_TABLE, folder, header.epoch), data[-FOOTER_BYTES - size : -FOOTER_BYTES]
    )
    if count * ROW_BYTES > len(table):
        raise IntegrityError("the pack's footer and table do not agree")
    return table[: count * ROW_BYTES]
