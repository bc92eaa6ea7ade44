"""Golden vectors of the formats, from fixed seeds: `python -m tests.support.vectors` rewrites them.

Every secret, nonce and salt is BLAKE3 derive-key of a name, so that another implementation can make the same inputs. The
contents are incompressible on purpose: no vector depends on the version of a compressor. Rewriting a vector means
changing a format; `tests/unit/test_index_vectors.py` holds the code to what stands in `tests/vectors/`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from p2psync.crypto.signing import SigningKey
from p2psync.ids import (
    ZERO_HASH,
    AccessKey,
    ChunkId,
    EntryHash,
    EpochId,
    FeedId,
    FolderId,
    PackName,
    Plaintext,
    RelayKey,
)
from p2psync.index.body import Body, FeedHead, encode_body
from p2psync.index.membership import (
    Credentials,
    Membership,
    Role,
    Rotate,
    encode_add,
    encode_bind,
    encode_genesis_record,
    encode_rotate,
    folder_id,
    make_genesis,
    sign_newcomer,
)
from p2psync.index.records import InlineChunk, PackLocations, encode_inline, encode_pack, encode_version, record_hash
from p2psync.index.versions import Content, Dot, Kind, Origin, Version
from p2psync.vault.beacon import beacon_tag, seal_beacon
from p2psync.vault.boxes import BoxKey
from p2psync.vault.channel import FolderProver
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.entry import seal_entry
from p2psync.vault.envelope import seal_envelope
from p2psync.vault.pack import PackWriter, locate
from p2psync.vault.presence import Presence, seal_presence, slot_id
from p2psync.vault.secrets import EpochSecret, FolderSecrets, Generation, first_epoch
from p2psync.vault.stream import seal_stream
from p2psync.wire.peer_bodies import WantedChunk, encode_chunk_list

DIRECTORY = Path(__file__).parent.parent / "vectors"

Vectors = dict[str, dict[str, Any]]


def material(name: str, size: int = 32) -> bytes:
    """`size` fixed bytes that look random: BLAKE3 derive-key, context `p2psync vectors`, of the name."""
    return blake3(name.encode(), derive_key_context="p2psync vectors").digest(length=size)


def make_device(name: str) -> DeviceKeys:
    return DeviceKeys(
        identity=SigningKey(material(f"{name} identity")),
        box=BoxKey(material(f"{name} box")),
        tls_seed=material(f"{name} tls"),
        certificate=material(f"{name} certificate", 300),
        device_seed=material(f"{name} seed"),
    )


def credentials(device: DeviceKeys) -> Credentials:
    return Credentials(device.identity_key, device.box.public, device.certificate)


FOUNDER, NEWCOMER = make_device("founder"), make_device("newcomer")
FEED = SigningKey(material("founder feed"))
GENESIS = make_genesis(FOUNDER.identity, credentials(FOUNDER), material("genesis nonce"))
FOLDER: FolderId = folder_id(GENESIS)
EPOCH: EpochSecret = first_epoch(FOLDER, material("epoch secret"))
GENERATION = Generation(0, material("generation secret"))
CHUNKS = {f"{size} bytes": Plaintext(material(f"chunk {size}", size)) for size in (0, 1, 1000, 2000)}


def _text(value: bytes) -> str:
    """Short bytes in hex, objects in base64."""
    return value.hex() if len(value) <= 512 else "base64:" + base64.b64encode(value).decode()


def to_bytes(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else bytes.fromhex(text)


def keys() -> Vectors:
    relay = RelayKey(material("relay"))
    return {
        "device": {
            "identity seed": _text(FOUNDER.identity.seed),
            "identity key": _text(FOUNDER.identity_key),
            "device id": FOUNDER.device_id,
            "box seed": _text(FOUNDER.box.seed),
            "box key": _text(FOUNDER.box.public),
            "certificate": _text(FOUNDER.certificate),
            "pin": _text(FOUNDER.pin),
            "relay key": _text(relay),
            "access key": _text(FOUNDER.access_key(relay, FOLDER).public),
            "file": _text(FOUNDER.encode()),
        },
        "generation": {
            "secret": _text(GENERATION.secret),
            "chunk key": _text(GENERATION.chunk_key),
            "chunker seed": f"{GENERATION.seed:016x}",
        },
    }


def _stream(name: str) -> Any:
    """A source of fixed bytes for code that asks for several."""
    count = iter(range(1000))
    return lambda size: material(f"{name} {next(count)}", size)


def membership() -> Vectors:
    relay, access = RelayKey(material("relay")), AccessKey(material("newcomer access"))
    made = seal_envelope(
        folder=FOLDER, secret=EPOCH, generations=[GENERATION], issuer=FOUNDER.identity_key, feed_key=FEED,
        recipients=[FOUNDER.box.public, NEWCOMER.box.public, make_device("third").box.public], parents=[],
        random=_stream("envelope"),
    )  # fmt: skip
    child = EpochSecret(EpochId(material("child epoch", 16)), material("child secret"))
    second = seal_envelope(
        folder=FOLDER, secret=child, generations=[GENERATION], issuer=FOUNDER.identity_key, feed_key=FEED,
        recipients=[FOUNDER.box.public], parents=[EPOCH], random=_stream("second envelope"),
    )  # fmt: skip
    genesis_record = encode_genesis_record(GENESIS)
    newcomer = sign_newcomer(NEWCOMER.identity, FOLDER, credentials(NEWCOMER), Role.WRITER, ((relay, access),))
    predecessor = FeedHead(FeedId(material("old feed")), 7, EntryHash(material("old hash")))
    feed = FeedId(FEED.public)
    return {
        "genesis": {
            "nonce": _text(material("genesis nonce")),
            "bytes": _text(GENESIS),
            "folder id": FOLDER.hex(),
            "record": _text(genesis_record),
            "record hash": record_hash(genesis_record).hex(),
        },
        "bind": {
            "feed seed": _text(FEED.seed),
            "feed": _text(feed),
            "record": _text(encode_bind(FOUNDER.identity, FOLDER, feed, None)),
            "with predecessor": _text(encode_bind(FOUNDER.identity, FOLDER, feed, predecessor)),
        },
        "first epoch": {
            "secret": _text(EPOCH.secret),
            "epoch id": EPOCH.epoch.hex(),
            "rotate record": _text(encode_rotate(Rotate(EPOCH.epoch, (), made.hash))),
            "envelope key": made.key,
            "envelope": _text(made.data),
        },
        "parent": {"secret": _text(child.secret), "epoch id": child.epoch.hex(), "envelope": _text(second.data)},
        "add": {"record": _text(encode_add(_tips(genesis_record), newcomer))},
    }


def _tips(genesis_record: bytes) -> Any:
    known = Membership(FOLDER)
    known.apply_genesis(genesis_record)
    return known.heads


def versions() -> dict[str, Version]:
    """One version of every kind; all stand at index 1 of entry 5 of the founder's feed."""
    feed, other = FeedId(FEED.public), FeedId(material("other feed"))
    dot, vector = Dot(feed, 5, 1), {feed: 5, other: 3}
    replaced = record_hash(b"replaced")
    plain = CHUNKS["1000 bytes"]
    rows = GENERATION.chunk_id(plain) + (1000).to_bytes(4, "big")
    small = (65536, 262144, 1048576)
    listed = Content(
        parameters=(262144, 1048576, 4194304), depth=1, chunks=material("list chunk") + (72000).to_bytes(4, "big")
    )
    return {
        "file": Version(
            path=(b"notes", b"a.txt"), dot=dot, kind=Kind.FILE, vector=vector, size=1000,
            mtime_ns=1_700_000_000_123_456_789, mode=0o644, content=Content(parameters=small, chunks=rows),
            replaces=replaced,
        ),
        "large file": Version(
            path=(b"disk.img",), dot=dot, kind=Kind.FILE, vector={feed: 5}, size=2_000_000_000, mtime_ns=-1,
            mode=0o600, content=listed,
        ),
        "renamed file": Version(
            path=(b"b.txt",), dot=dot, kind=Kind.FILE, vector={feed: 5}, mode=0o755,
            content=Content(parameters=small), origin=Origin((b"notes", b"b.txt"), Dot(other, 3, 0)),
        ),
        "directory": Version(path=(b"notes",), dot=dot, kind=Kind.DIRECTORY, vector=vector, mode=0o755),
        "symlink": Version(
            path=(b"\xff\xfe",), dot=dot, kind=Kind.SYMLINK, vector=vector, mtime_ns=1, target=b"../elsewhere"
        ),
        "tombstone": Version(path=(b"gone",), dot=dot, kind=Kind.DELETED, vector=vector, replaces=replaced),
    }  # fmt: skip


def tagged_versions() -> dict[str, Version]:
    """Versions with extended attributes; in no body, since those were fixed before there were any."""
    known = versions()
    return {
        "file with extended attributes": replace(
            known["file"], xattrs=((b"user.xdg.comment", b"a comment"), (b"user.xdg.tags", b"\xff\0"))
        ),
        "directory with an empty extended attribute": replace(known["directory"], xattrs=((b"user.a", b""),)),
    }


def records() -> Vectors:
    locations = PackLocations(
        PackName(material("pack name")), EPOCH.epoch, material("pack salt"), 4096, 0, material("pack row", 80)
    )
    data = {name: encode_version(version) for name, version in versions().items()}
    data["inline chunk"] = encode_inline(InlineChunk(0, CHUNKS["1000 bytes"]))
    data["pack"] = encode_pack(locations)
    found: Vectors = {
        name: {"record": _text(record), "record hash": record_hash(record).hex()} for name, record in data.items()
    }
    found["body"] = {"bytes": _text(encode_body(body()))}
    for name, version in tagged_versions().items():
        record = encode_version(version)
        found[name] = {"record": _text(record), "record hash": record_hash(record).hex()}
    return found


def body() -> Body:
    return Body(
        membership=(record_hash(b"one"), record_hash(b"two")), time_ms=1_700_000_000_000,
        heads=(FeedHead(FeedId(material("other feed")), 3, EntryHash(material("other hash"))),),
        records=tuple(encode_version(version) for version in versions().values()),
    )  # fmt: skip


def chunks() -> Vectors:
    writer = PackWriter(FOLDER, EPOCH, material("pack salt"))
    found: Vectors = {}
    for name, plain in CHUNKS.items():
        chunk: ChunkId = GENERATION.chunk_id(plain)
        found[name] = {"plaintext": _text(plain), "chunk id": chunk.hex()}
        if plain:
            writer.add(chunk, plain)
    pack = writer.finish()
    found["pack"] = {
        "folder": FOLDER.hex(),
        "epoch": EPOCH.epoch.hex(),
        "epoch secret": _text(EPOCH.secret),
        "salt": _text(pack.salt),
        "name": pack.name.hex(),
        "table": _text(pack.table),
        "frames": [[frame.index, frame.offset, frame.sealed_size, frame.plain_size] for frame in locate(pack.table)],
        "bytes": _text(pack.data),
    }
    return found


TRANSCRIPT = (
    material("dialler nonce"), material("listener nonce"), material("dialler pin"), material("listener pin"),
)  # fmt: skip


def stream() -> Vectors:
    """A live stream of chunks, one of which is not there, and the proofs that open a channel."""
    wanted = [WantedChunk(GENERATION.chunk_id(plain), len(plain)) for plain in CHUNKS.values() if plain]
    held = {GENERATION.chunk_id(plain): plain for plain in CHUNKS.values() if len(plain) != 1000}
    secrets = FolderSecrets(FOLDER, {EPOCH.epoch: EPOCH}, {GENERATION.number: GENERATION}, EPOCH.epoch)
    prover = FolderProver(secrets)
    data = b"".join(seal_stream(FOLDER, EPOCH, material("stream salt"), wanted, lambda each: held.get(each.chunk)))
    return {
        "stream": {
            "folder": FOLDER.hex(),
            "epoch": EPOCH.epoch.hex(),
            "epoch secret": _text(EPOCH.secret),
            "chunk list": _text(encode_chunk_list(wanted)),
            "left out": 1,
            "bytes": _text(data),
        },
        "channel": {
            "dialler nonce": _text(TRANSCRIPT[0]),
            "listener nonce": _text(TRANSCRIPT[1]),
            "dialler pin": _text(TRANSCRIPT[2]),
            "listener pin": _text(TRANSCRIPT[3]),
            "dialler proof": _text(prover.prove((*TRANSCRIPT, b"dialler"))[0]),
            "listener proof": _text(prover.prove((*TRANSCRIPT, b"listener"))[0]),
        },
    }


def entries() -> Vectors:
    """A chain of entries of three size classes: (body, object)."""
    found: Vectors = {}
    previous = ZERO_HASH
    for seq, size in enumerate((0, 300, 3887, 3888, 12000), 1):
        inner = material(f"body {size}", size)
        made = seal_entry(
            folder=FOLDER, secret=EPOCH, feed_key=FEED, seq=seq, previous=previous, body=inner,
            salt=material(f"entry salt {seq}"),
        )  # fmt: skip
        found[f"body of {size} bytes"] = {
            "seq": seq,
            "previous": previous.hex(),
            "salt": _text(material(f"entry salt {seq}")),
            "body": _text(inner),
            "hash": made.hash.hex(),
            "key": made.key,
            "bytes": _text(made.data),
        }
        previous = made.hash
    return found


def presence() -> Vectors:
    """What a relay's slots and a LAN see of a member, and what it says to those who can open it."""
    device = make_device("present")
    identity = device.identity_key
    said = Presence(
        identity=identity, name="desk", addresses=("192.0.2.7:22400", "[2001:db8::7]:22400"),
        counter=1_700_000_000_000, expiry=1_700_000_600,
    )  # fmt: skip
    salt, port, day = material("presence salt"), 22400, 19_675
    return {
        "slot": {
            "folder": FOLDER.hex(), "epoch": EPOCH.epoch.hex(), "secret": EPOCH.secret.hex(),
            "identity seed": device.identity.seed.hex(), "identity": identity.hex(), "name": said.name,
            "addresses": list(said.addresses), "counter": said.counter, "expiry": said.expiry, "salt": salt.hex(),
            "id": slot_id(EPOCH, identity).hex(),
            "content": seal_presence(FOLDER, EPOCH, said, device.identity, salt).hex(),
        },
        "beacon": {
            "day": day, "port": port, "salt": salt.hex(), "tag": beacon_tag(EPOCH, day, identity).hex(),
            "bytes": seal_beacon(EPOCH, day, identity, port, salt).hex(),
        },
    }  # fmt: skip


def build() -> dict[str, Vectors]:
    """All vectors by file name."""
    return {
        "keys": keys(), "membership": membership(), "records": records(), "chunks": chunks(), "entries": entries(),
        "stream": stream(), "presence": presence(),
    }  # fmt: skip


def render(vectors: Vectors) -> str:
    return json.dumps(vectors, indent=1) + "\n"


def load(name: str) -> Vectors:
    found: Vectors = json.loads((DIRECTORY / f"{name}.json").read_text())
    return found


if __name__ == "__main__":
    for file, made_vectors in build().items():
        (DIRECTORY / f"{file}.json").write_text(render(made_vectors))
