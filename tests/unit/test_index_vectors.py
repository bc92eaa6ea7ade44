"""The golden vectors: the code still makes these bytes, and a second reader written from the formats alone opens them.

The second reader uses msgpack, BLAKE3 and libsodium directly and nothing of the product.
"""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from blake3 import blake3
from nacl import bindings
from nacl.public import PrivateKey, SealedBox

from p2psync.ids import ZERO_HASH, Ciphertext, FeedId
from p2psync.index.body import decode_body
from p2psync.index.membership import (
    Membership,
    NotYetKnown,
    Role,
    decode_bind,
    decode_genesis_record,
    decode_rotate,
    read_genesis,
)
from p2psync.index.records import decode_inline, decode_pack, decode_version, record_hash
from p2psync.index.versions import Dot, Kind
from p2psync.sealed import entry, envelope
from p2psync.sealed.objects import check_object
from p2psync.vault.device_keys import decode_device_keys
from p2psync.vault.entry import open_entry
from p2psync.vault.envelope import open_envelope, open_parents
from p2psync.vault.pack import FrameSealer, locate, read_table
from p2psync.vault.secrets import EpochSecret, FolderSecrets, Generation
from p2psync.vault.stream import open_stream
from p2psync.wire.peer_bodies import decode_chunk_list, split_stream
from tests.support import vectors
from tests.support.vectors import EPOCH, FEED, FOLDER, FOUNDER, GENERATION, NEWCOMER, material, to_bytes

FILES = vectors.build()


def lp(*fields: bytes | str) -> bytes:
    parts = [field.encode() if isinstance(field, str) else field for field in fields]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def kdf(secret: bytes, label: str, *fields: bytes) -> bytes:
    return blake3(lp(label, secret, *fields), derive_key_context=label).digest()


def sodium_open(key: bytes, counter: int, aad: bytes, sealed: bytes) -> bytes:
    return bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, aad, counter.to_bytes(12, "big"), key)


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, use_list=True)


@pytest.mark.parametrize("name", FILES)
def test_the_formats_have_not_changed(name: str) -> None:
    assert vectors.render(FILES[name]) == (vectors.DIRECTORY / f"{name}.json").read_text()


def test_device_keys_read_back() -> None:
    stored = vectors.load("keys")["device"]
    keys = decode_device_keys(to_bytes(stored["file"]))
    assert keys == FOUNDER and keys.device_id == stored["device id"]
    identity = to_bytes(stored["identity key"])
    assert bindings.crypto_sign_seed_keypair(to_bytes(stored["identity seed"]))[0] == identity
    digest = blake3(lp("p2psync 1 device id", identity)).digest()
    plain = stored["device id"].replace("-", "")
    data = "".join(plain[start : start + 13] for start in range(0, 56, 14))
    number = sum("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(c) << 5 * (51 - place) for place, c in enumerate(data))
    assert number >> 4 == int.from_bytes(digest, "big")
    assert blake3(to_bytes(stored["certificate"])).hexdigest() == stored["pin"]
    seed = kdf(material("founder seed"), "p2psync 1 key access", to_bytes(stored["relay key"]), FOLDER)
    assert bindings.crypto_sign_seed_keypair(seed)[0].hex() == stored["access key"]


def test_chunk_ids_are_keyed_hashes() -> None:
    stored = vectors.load("keys")["generation"]
    key = kdf(to_bytes(stored["secret"]), "p2psync 1 key chunk id")
    assert key.hex() == stored["chunk key"]
    assert kdf(to_bytes(stored["secret"]), "p2psync 1 key chunker seed")[:8].hex() == stored["chunker seed"]
    for name, row in vectors.load("chunks").items():
        if name != "pack":
            plain = to_bytes(row["plaintext"])
            assert blake3(plain, key=key).hexdigest() == row["chunk id"] == GENERATION.chunk_id(plain).hex()


def test_the_genesis_names_folder_and_founder() -> None:
    stored = vectors.load("membership")["genesis"]
    genesis = to_bytes(stored["bytes"])
    assert read_genesis(genesis).identity == FOUNDER.identity_key
    assert decode_genesis_record(to_bytes(stored["record"])) == genesis
    assert blake3(lp("p2psync 1 folder id", genesis)).hexdigest()[:32] == stored["folder id"] == FOLDER.hex()
    *unsigned, signature = unpack(genesis)
    signed = lp("p2psync 1 sign genesis", msgpack.packb(unsigned))
    bindings.crypto_sign_open(signature + signed, unsigned[1][0])


def test_binds_say_whose_feed_it_is() -> None:
    stored = vectors.load("membership")["bind"]
    feed = FeedId(to_bytes(stored["feed"]))
    assert decode_bind(to_bytes(stored["record"]), FOLDER, feed).identity == FOUNDER.identity_key
    later = decode_bind(to_bytes(stored["with predecessor"]), FOLDER, feed)
    assert later.predecessor is not None and later.predecessor.seq == 7
    number, identity, head, signature = unpack(to_bytes(stored["with predecessor"]))
    signed = lp("p2psync 1 sign bind", FOLDER, feed, msgpack.packb(head))
    assert number == 1 and bindings.crypto_sign_open(signature + signed, identity) == signed


def test_the_first_envelope_opens_for_members_and_is_what_rotate_names() -> None:
    stored = vectors.load("membership")["first epoch"]
    found = check_object(stored["envelope key"], to_bytes(stored["envelope"]))
    assert isinstance(found, envelope.Envelope) and len(found.boxes) == 4
    rotate = decode_rotate(to_bytes(stored["rotate record"]))
    assert (rotate.epoch, rotate.parents, rotate.envelope) == (EPOCH.epoch, (), found.hash)
    for device in (FOUNDER, NEWCOMER):
        opened = open_envelope(FOLDER, device.box, found)
        assert opened.secret == EPOCH and opened.issuer == FOUNDER.identity_key
    secret = to_bytes(stored["secret"])
    commitment = blake3(lp("p2psync 1 epoch commitment", secret)).digest()
    epoch = blake3(lp("p2psync 1 epoch id", FOLDER, commitment)).digest()[:16]
    assert epoch.hex() == stored["epoch id"]
    box = SealedBox(PrivateKey(NEWCOMER.box.seed))
    plains = [plain for sealed in found.boxes if (plain := _try_open(box, sealed))]
    generations = bytes(2) + material("generation secret")
    assert plains == [
        lp("p2psync 1 box epoch", FOLDER, epoch, NEWCOMER.box.public, FOUNDER.identity_key, secret, generations)
    ]


def _try_open(box: Any, sealed: bytes) -> bytes | None:
    try:
        opened: bytes = box.decrypt(sealed)
    except Exception:
        return None
    return opened


def test_a_childs_envelope_gives_the_parents_secret() -> None:
    stored = vectors.load("membership")["parent"]
    found = envelope.parse(to_bytes(stored["envelope"]))
    child = EpochSecret(found.epoch, to_bytes(stored["secret"]))
    assert open_parents(FOLDER, child, found) == [EPOCH]
    sealed = found.sealed_parents[0]
    aad = lp("p2psync 1 aad envelope parent", FOLDER, found.epoch, EPOCH.epoch)
    key = kdf(child.secret, "p2psync 1 key envelope parent", sealed[:32])
    assert sodium_open(key, 0, aad, sealed[32:]) == EPOCH.secret


def test_the_add_admits_the_newcomer() -> None:
    stored = vectors.load("membership")
    membership = Membership(FOLDER)
    data = to_bytes(stored["add"]["record"])
    with pytest.raises(NotYetKnown):
        membership.apply_add(data, FOUNDER.identity_key)
    membership.apply_genesis(to_bytes(stored["genesis"]["record"]))
    assert membership.heads == (bytes.fromhex(stored["genesis"]["record hash"]),)
    membership.apply_add(data, FOUNDER.identity_key)
    assert membership.role_of(NEWCOMER.identity_key) is Role.WRITER
    assert membership.heads == (record_hash(data),)


VERSIONS = vectors.versions() | vectors.tagged_versions()


@pytest.mark.parametrize("name", VERSIONS)
def test_versions_read_back(name: str) -> None:
    stored = vectors.load("records")[name]
    made, data = VERSIONS[name], to_bytes(stored["record"])
    read = decode_version(data, Dot(FeedId(FEED.public), 5, 1))
    assert read.hash.hex() == stored["record hash"] == blake3(lp("p2psync 1 record hash", data)).hexdigest()
    assert (read.path, read.kind, read.vector, read.size, read.mtime_ns, read.mode, read.target, read.content) == (
        made.path, made.kind, made.vector, made.size, made.mtime_ns, made.mode, made.target, made.content,
    )  # fmt: skip
    assert (read.replaces, read.origin, read.xattrs) == (made.replaces, made.origin, made.xattrs)
    assert len(unpack(data)) == {Kind.DELETED: 5}.get(made.kind, 15 if made.xattrs else 14)


def test_other_records_and_the_body_read_back() -> None:
    stored = vectors.load("records")
    assert decode_inline(to_bytes(stored["inline chunk"]["record"])).plain == vectors.CHUNKS["1000 bytes"]
    locations = decode_pack(to_bytes(stored["pack"]["record"]))
    assert (locations.name, locations.table) == (material("pack name"), material("pack row", 80))
    assert decode_body(to_bytes(stored["body"]["bytes"])) == vectors.body()


def test_every_chunk_of_the_pack_opens_by_both_readers() -> None:
    stored = vectors.load("chunks")
    data, name = to_bytes(stored["pack"]["bytes"]), stored["pack"]["name"]
    check_object(f"p/{name}", data)
    assert blake3(data).hexdigest() == name and data[:9] == b"p2psPACK\x01" and data[9:25] == EPOCH.epoch
    salt, table = data[25:57], read_table(FOLDER, EPOCH, data)
    assert table.hex() == stored["pack"]["table"] and salt.hex() == stored["pack"]["salt"]
    frames = FrameSealer(FOLDER, EPOCH, salt)
    by_id = {row["chunk id"]: to_bytes(row["plaintext"]) for key, row in stored.items() if key != "pack"}
    key = kdf(EPOCH.secret, "p2psync 1 key pack frames", salt)
    located = locate(table)
    assert [[f.index, f.offset, f.sealed_size, f.plain_size] for f in located] == stored["pack"]["frames"]
    for frame in located:
        sealed, plain = data[frame.offset : frame.offset + frame.sealed_size], by_id[frame.chunk.hex()]
        assert frames.open(frame.index, frame.chunk, sealed, frame.plain_size, GENERATION) == plain
        aad = lp("p2psync 1 aad frame", FOLDER, EPOCH.epoch, frame.chunk)
        assert sodium_open(key, frame.index, aad, sealed) == b"\0" + plain
    footer = sodium_open(
        kdf(EPOCH.secret, "p2psync 1 key pack footer", salt), 0,
        lp("p2psync 1 aad pack footer", FOLDER, EPOCH.epoch), data[-32:],
    )  # fmt: skip
    count, table_size, end = int.from_bytes(footer[:4]), int.from_bytes(footer[4:8]), int.from_bytes(footer[8:])
    assert (count, end) == (3, located[-1].offset + located[-1].sealed_size)
    pad = sodium_open(key, count, lp("p2psync 1 aad pad", FOLDER, EPOCH.epoch), data[end : -32 - table_size])
    assert not any(pad)
    rows = sodium_open(
        kdf(EPOCH.secret, "p2psync 1 key pack table", salt), 0,
        lp("p2psync 1 aad pack table", FOLDER, EPOCH.epoch), data[-32 - table_size : -32],
    )  # fmt: skip
    assert rows.rstrip(b"\0") == table.rstrip(b"\0") and table_size % 1024 == 0


def test_a_live_stream_opens_by_both_readers_and_proofs_are_keyed_hashes() -> None:
    given = FILES["stream"]["stream"]
    data, rows = to_bytes(given["bytes"]), to_bytes(given["chunk list"])
    secret, epoch, folder = (bytes.fromhex(given[name]) for name in ("epoch secret", "epoch", "folder"))
    assert data[:16] == epoch
    key = kdf(secret, "p2psync 1 key pack frames", data[16:48])
    place, found = 48, []
    while place < len(data):
        index, size = (int.from_bytes(data[place + at : place + at + 4], "big") for at in (0, 4))
        chunk, length = (
            rows[index * 36 : index * 36 + 32],
            int.from_bytes(rows[index * 36 + 32 : index * 36 + 36], "big"),
        )
        aad = lp("p2psync 1 aad frame", folder, epoch, chunk)
        plain = sodium_open(key, index, aad, data[place + 8 : place + 8 + size])
        assert plain[0] == 0 and len(plain) == length + 1
        assert blake3(plain[1:], key=GENERATION.chunk_key).digest() == chunk
        found.append(index)
        place += 8 + size
    assert place == len(data) and found == [0, 2]
    parts = split_stream(data, 3)
    assert parts is not None and parts.whole
    secrets = FolderSecrets(FOLDER, {EPOCH.epoch: EPOCH})
    assert len(list(open_stream(FOLDER, secrets, GENERATION, decode_chunk_list(rows), parts))) == 2
    given = FILES["stream"]["channel"]
    fields = [bytes.fromhex(given[name]) for name in ("dialler nonce", "listener nonce", "dialler pin", "listener pin")]
    for role in ("dialler", "listener"):
        proof = blake3(lp("p2psync 1 proof channel", *fields, role), key=kdf(secret, "p2psync 1 key net")).digest()
        assert proof.hex() == given[f"{role} proof"]


def test_entries_of_every_size_class_open_by_both_readers() -> None:
    last, sizes = ZERO_HASH, set()
    for seq, row in enumerate(vectors.load("entries").values(), 1):
        data = Ciphertext(to_bytes(row["bytes"]))
        parsed = entry.parse(data)
        entry.check_follows(parsed, seq - 1, last)
        assert parsed.key == row["key"] and parsed.hash.hex() == row["hash"]
        assert open_entry(FOLDER, EPOCH, parsed) == to_bytes(row["body"])
        version, feed, number, previous, epoch, sealed = unpack(data[:-64])
        assert (version, feed, number, previous, epoch) == (1, FEED.public, seq, last, EPOCH.epoch)
        entry_hash = blake3(lp("p2psync 1 entry hash", data[:-64])).digest()
        bindings.crypto_sign_open(data[-64:] + lp("p2psync 1 sign entry", seq.to_bytes(8, "big"), entry_hash), feed)
        aad = lp("p2psync 1 aad entry", FOLDER, feed, seq.to_bytes(8, "big"), previous, epoch)
        inner = sodium_open(kdf(EPOCH.secret, "p2psync 1 key entry", sealed[:32]), 0, aad, sealed[32:])
        body = to_bytes(row["body"])
        assert inner[:5] == b"\0" + len(body).to_bytes(4, "big") and inner[5:].rstrip(b"\0") == body.rstrip(b"\0")
        last = parsed.hash
        sizes.add(len(data))
    assert sizes == {4096, 8192, 16384}


def test_a_generation_with_another_secret_names_chunks_differently() -> None:
    assert Generation(0, bytes(32)).chunk_id(b"x") != Generation(0, bytes(31) + b"\1").chunk_id(b"x")
