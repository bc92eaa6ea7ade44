"""Packs and frames: every chunk opens to itself and to nothing else; hostile tables and frames are refused cheaply."""

from __future__ import annotations

import itertools
import tracemalloc
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.crypto import domains
from p2psync.crypto.hashing import lp
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import ChunkId, EpochId, FolderId, Plaintext
from p2psync.limits import CHUNK_MAX, KIB, MIB, PACK_FRAMES_MAX, PACK_MAX
from p2psync.sealed.keys import pack_key
from p2psync.sealed.objects import check_object
from p2psync.sealed.pack import HEADER_BYTES, PackHeader, padme
from p2psync.vault.aead import Sealer
from p2psync.vault.compression import compress, decompress
from p2psync.vault.pack import FRAME_OVERHEAD, ROW_BYTES, FrameSealer, PackWriter, SealedPack, locate, read_table
from p2psync.vault.secrets import EpochSecret, Generation
from tests.support.vectors import EPOCH, FOLDER, GENERATION, material

SALT = material("a pack's salt")


def noise(size: int, seed: object = 0) -> Plaintext:
    return Plaintext(Random(f"noise {size} {seed}").randbytes(size))


def make(chunks: list[Plaintext]) -> SealedPack:
    writer = PackWriter(FOLDER, EPOCH, SALT)
    for plain in chunks:
        assert writer.fits(len(plain))
        writer.add(GENERATION.chunk_id(plain), plain)
    return writer.finish()


def open_all(pack: SealedPack) -> list[bytes]:
    frames = FrameSealer(FOLDER, EPOCH, pack.salt)
    return [
        frames.open(f.index, f.chunk, pack.data[f.offset : f.offset + f.sealed_size], f.plain_size, GENERATION)
        for f in locate(pack.table)
    ]


PLAINS = st.builds(
    lambda size, compressible: Plaintext(b"text " * (size // 5)) if compressible else noise(size),
    st.integers(0, 150 * KIB), st.booleans(),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(PLAINS, max_size=12))
def test_every_chunk_of_a_pack_opens_to_itself(chunks: list[Plaintext]) -> None:
    pack = make(chunks)
    check_object(pack_key(pack.name), pack.data)
    assert open_all(pack) == chunks
    assert read_table(FOLDER, EPOCH, pack.data) == pack.table
    # Property 12.
    content = sum(f.sealed_size for f in locate(pack.table)) + HEADER_BYTES
    tail = FRAME_OVERHEAD + len(pack.table) + 32 + 16 + 1024
    assert padme(len(pack.data)) == len(pack.data) <= padme(content + tail)
    if content >= 64 * KIB:
        assert len(pack.data) - content <= content * 0.07 + tail


def test_a_writer_full_of_tiny_chunks_stays_within_the_bounds() -> None:
    writer = PackWriter(FOLDER, EPOCH, SALT)
    count = 0
    while writer.fits(1500):
        writer.add(ChunkId(count.to_bytes(32, "big")), noise(1500, count % 50))
        count += 1
    pack = writer.finish()
    assert count == PACK_FRAMES_MAX and len(pack.data) <= PACK_MAX
    assert len(locate(read_table(FOLDER, EPOCH, pack.data))) == count


@pytest.mark.parametrize("size", [CHUNK_MAX, CHUNK_MAX - 1, 1 * MIB, 300_001, 40_000])
def test_a_writer_never_says_that_something_fits_when_it_does_not(size: int) -> None:
    writer, plain = PackWriter(FOLDER, EPOCH, SALT), noise(size)
    while writer.fits(size):
        writer.add(ChunkId(writer.count.to_bytes(32, "big")), plain)
    for smaller in (size // 2, size // 4, 1000, 10, 0):
        while writer.fits(smaller) and writer.count < PACK_FRAMES_MAX:
            writer.add(ChunkId(writer.count.to_bytes(32, "big")), Plaintext(plain[:smaller]))
    pack = writer.finish()
    assert len(pack.data) <= PACK_MAX and padme(len(pack.data)) == len(pack.data)
    assert len(pack.data) > PACK_MAX * 0.9 or writer.count == PACK_FRAMES_MAX


CHUNKS = [noise(3000), Plaintext(b"compressible " * 400), noise(1), Plaintext(b"")]
PACK = make(CHUNKS)


def refuse_changed_bytes(places: list[int], random: Random) -> None:
    """A reader without the pack's name (range reads) must still find every changed byte of a frame or table."""
    located = locate(PACK.table)
    for place in places:
        data = bytearray(PACK.data)
        data[place] ^= random.randint(1, 255)
        frames = FrameSealer(FOLDER, EPOCH, bytes(data[25:57]))
        spoiled = 0
        for frame, plain in zip(located, CHUNKS, strict=True):
            sealed = bytes(data[frame.offset : frame.offset + frame.sealed_size])
            try:
                assert frames.open(frame.index, frame.chunk, sealed, frame.plain_size, GENERATION) == plain
            except IntegrityError:
                spoiled += 1
        inside = [f for f in located if f.offset <= place < f.offset + f.sealed_size]
        assert spoiled == (len(inside) if place >= HEADER_BYTES else len(CHUNKS) if place >= 25 else 0)
        with pytest.raises((IntegrityError, PeerError)):
            check_object(pack_key(PACK.name), bytes(data))
        if place < HEADER_BYTES or place >= len(data) - 32 - 1024:
            with pytest.raises((IntegrityError, PeerError)):
                read_table(FOLDER, EPOCH, bytes(data))


def test_a_changed_byte_spoils_its_frame_and_no_other() -> None:
    random = Random(1)
    places = [*range(HEADER_BYTES), *(random.randrange(len(PACK.data)) for _ in range(400))]
    refuse_changed_bytes(places, random)


@pytest.mark.slow
def test_ten_thousand_changed_bytes_are_refused() -> None:
    """Property 1."""
    random = Random(2)
    refuse_changed_bytes([random.randrange(len(PACK.data)) for _ in range(10_000)], random)


def test_a_frame_opens_in_its_own_place_only() -> None:
    """Property 2: not as another chunk, number, folder, epoch, pack or kind."""
    frame = locate(PACK.table)[0]
    sealed = PACK.data[frame.offset : frame.offset + frame.sealed_size]
    right = FrameSealer(FOLDER, EPOCH, SALT)
    assert right.open(0, frame.chunk, sealed, 3000, GENERATION) == CHUNKS[0]
    attempts = [
        (right, 1, frame.chunk, GENERATION),
        (right, 0, ChunkId(bytes(32)), GENERATION),
        (FrameSealer(FolderId(bytes(16)), EPOCH, SALT), 0, frame.chunk, GENERATION),
        (FrameSealer(FOLDER, EpochSecret(EpochId(bytes(16)), EPOCH.secret), SALT), 0, frame.chunk, GENERATION),
        (FrameSealer(FOLDER, EpochSecret(EPOCH.epoch, bytes(32)), SALT), 0, frame.chunk, GENERATION),
        (FrameSealer(FOLDER, EPOCH, bytes(32)), 0, frame.chunk, GENERATION),
        (right, 0, frame.chunk, Generation(1, bytes(32))),
    ]
    for opener, index, chunk, generation in attempts:
        with pytest.raises(IntegrityError):
            opener.open(index, chunk, sealed, 3000, generation)
    for size in (-1, 0, 2999, 3001, CHUNK_MAX, CHUNK_MAX + 1, 1 << 40):
        with pytest.raises(IntegrityError):
            right.open(0, frame.chunk, sealed, size, GENERATION)
    for short in (b"", sealed[:16], sealed[:-1]):
        with pytest.raises(IntegrityError):
            right.open(0, frame.chunk, short, 3000, GENERATION)
    pad = right.seal_pad(0, 3000)
    with pytest.raises(IntegrityError):
        right.open(0, GENERATION.chunk_id(bytes(3000)), pad, 3000, GENERATION)


def frame_of(inner: bytes, chunk: ChunkId) -> bytes:
    """A frame a malicious member seals around any inside."""
    return Sealer(EPOCH.secret, domains.KEY_PACK_FRAMES, SALT).seal(
        0, lp(domains.AAD_FRAME, FOLDER, EPOCH.epoch, chunk), inner
    )


@pytest.mark.parametrize("inner", [b"", b"\0wrong", b"\2right", b"\1right", b"\1", b"\xff"])
def test_a_member_cannot_pass_other_bytes_off_as_a_chunk(inner: bytes) -> None:
    """Property 28."""
    chunk = GENERATION.chunk_id(b"right")
    opener = FrameSealer(FOLDER, EPOCH, SALT)
    assert opener.open(0, chunk, frame_of(b"\0right", chunk), 5, GENERATION) == b"right"
    with pytest.raises(IntegrityError):
        opener.open(0, chunk, frame_of(inner, chunk), 5, GENERATION)


def bombs() -> dict[str, bytes]:
    compressor = zstandard.ZstdCompressor(level=1)
    streamed = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    endless = streamed.compress(bytes(64 * MIB)) + streamed.flush()
    honest = compressor.compress(bytes(64 * MIB))
    gibi = bytearray(honest)
    # Frame header: magic (4), descriptor (1: 4-byte size, single segment or a window byte before it).
    place = 5 if gibi[4] & 0x20 else 6
    gibi[place : place + 4] = (1 << 30).to_bytes(4, "little")
    less = bytearray(honest)
    less[place : place + 4] = (1000).to_bytes(4, "little")
    return {
        "declares 1 GiB": bytes(gibi),
        "declares nothing": endless,
        "holds 64 MiB": honest,
        "holds more": bytes(less),
    }


@pytest.mark.parametrize("name", ["declares 1 GiB", "declares nothing", "holds 64 MiB", "holds more"])
def test_a_frame_that_would_unpack_to_more_than_its_row_says_is_refused_cheaply(name: str) -> None:
    bomb = bombs()[name]
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            decompress(1, bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 * MIB
    finally:
        tracemalloc.stop()


def test_two_frames_in_one_payload_are_refused() -> None:
    _, one = compress(bytes(1000))
    with pytest.raises(IntegrityError):
        decompress(1, bytes(one) * 2, 5000)


@pytest.mark.parametrize("size", [0, 1, 100, 64 * KIB, 64 * KIB + 1, MIB])
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_compression_loses_nothing_and_never_grows(size: int, form) -> None:  # type: ignore[no-untyped-def]
    for plain in (noise(size), bytes(size), b"abc" * (size // 3)):
        kind, payload = compress(form(plain))
        assert len(payload) <= len(plain)
        assert decompress(kind, payload, len(plain)) == plain


def test_the_probe_spares_incompressible_content_and_finds_compressible() -> None:
    assert compress(noise(MIB))[0] == 0
    assert compress(bytes(MIB))[0] == 1
    assert compress(noise(500 * KIB) + bytes(524 * KIB))[0] == 1


def test_locate_gives_back_the_frames_in_order() -> None:
    found = locate(PACK.table)
    assert [f.index for f in found] == [0, 1, 2, 3] and found[0].offset == HEADER_BYTES
    assert all(b.offset == a.offset + a.sealed_size for a, b in itertools.pairwise(found))


def row(sealed: int, plain: int) -> bytes:
    return bytes(32) + sealed.to_bytes(4, "big") + plain.to_bytes(4, "big")


@pytest.mark.parametrize(
    "table",
    [
        row(100, 83)[:-1],
        row(100, 83) + b"x",
        row(0, 0),
        row(16, 0),
        row(18, 0),
        row(100, 82),
        row(0xFFFFFFFF, 1),
        row(100, 0xFFFFFFFF),
        row(100, CHUNK_MAX + 1),
        row(CHUNK_MAX, CHUNK_MAX) * 5,
        row(17, 0) * (PACK_FRAMES_MAX + 1),
    ],
)
def test_a_table_that_cannot_be_is_refused(table: bytes) -> None:
    """Property 16."""
    with pytest.raises(IntegrityError):
        locate(table)


@given(st.binary(max_size=400))
def test_any_table_is_refused_or_lies_within_a_pack(table: bytes) -> None:
    try:
        frames = locate(table)
    except IntegrityError:
        return
    assert len(frames) * ROW_BYTES == len(table)
    assert all(f.offset >= HEADER_BYTES and f.offset + f.sealed_size <= PACK_MAX for f in frames)


@pytest.mark.parametrize(("count", "size"), [(1, 0), (0xFFFFFFFF, 1040), (100, 1040), (0, 0xFFFFFFFF), (1, 15)])
def test_a_footer_that_lies_is_refused(count: int, size: int) -> None:
    table = Sealer(EPOCH.secret, domains.KEY_PACK_TABLE, SALT).seal(
        0, lp(domains.AAD_PACK_TABLE, FOLDER, EPOCH.epoch), bytes(1024)
    )
    fields = count.to_bytes(4, "big") + size.to_bytes(4, "big") + bytes(8)
    footer = Sealer(EPOCH.secret, domains.KEY_PACK_FOOTER, SALT).seal(
        0, lp(domains.AAD_PACK_FOOTER, FOLDER, EPOCH.epoch), fields
    )
    header = PackHeader(EPOCH.epoch, SALT).encode()
    with pytest.raises(IntegrityError):
        read_table(FOLDER, EPOCH, header + bytes(2000) + table + footer)


@pytest.mark.parametrize("size", [0, 8, HEADER_BYTES, HEADER_BYTES + 31, HEADER_BYTES + 32])
def test_a_pack_that_is_too_short_has_no_table(size: int) -> None:
    with pytest.raises((IntegrityError, PeerError)):
        read_table(FOLDER, EPOCH, PACK.data[:size])
