"""The catalog's other tables and the keystore: what they keep, give back and never mix up."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.intents import DELETE, WRITE, Intent
from p2psync.catalog.keystore import FolderKeys, Keystore
from p2psync.catalog.locations import CLAIMED, SEALED
from p2psync.catalog.rows import (
    NOTHING,
    PLACED_COLUMNS,
    Fingerprint,
    Placed,
    decode_placed,
    encode_placed,
    placed_row,
)
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import encode
from p2psync.errors import StorageError, UserError
from p2psync.ids import ChunkId, EpochId, FeedId, FolderId, PackName, RecordHash
from p2psync.index.paths import Path
from p2psync.index.records import PackLocations
from p2psync.index.versions import Content, Dot, Kind
from p2psync.index.xattrs import sorted_xattrs
from p2psync.planner.xattrs import HeldXattrs, Look
from p2psync.seams import SystemRandomness
from p2psync.vault.secrets import FolderSecrets
from tests.support.vectors import EPOCH, FOLDER, GENERATION, material

FEED = FeedId(b"\1" * 32)
XATTRS = st.dictionaries(st.sampled_from([b"user.a", b"user.b"]), st.binary(max_size=5)).map(
    lambda found: sorted_xattrs(found.items())
)


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    made = Catalog(None)
    yield made
    made.close()


def chunk(name: object) -> ChunkId:
    return ChunkId(material(f"chunk {name}"))


def placed(path: Path, *chunks: ChunkId, inode: int = 1) -> Placed:
    rows = b"".join(held + (100).to_bytes(4, "big") for held in chunks)
    return Placed(
        path=path, dot=Dot(FEED, 1, 0), hash=RecordHash(bytes(32)), kind=Kind.FILE, vector={FEED: 1},
        fingerprint=Fingerprint(5, inode, 100 * len(chunks), 7, 8), mode=0o644,
        content=Content(parameters=(1, 2, 3), chunks=rows),
    )  # fmt: skip


# --- placed ------------------------------------------------------------------------


@given(
    st.builds(
        Fingerprint, st.integers(0, 2**62), st.integers(0, 2**64 - 1), st.integers(0, 2**53),
        st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1),
    ),
    st.sampled_from(Kind),
    st.none() | st.binary(max_size=9),
    st.builds(HeldXattrs, XATTRS, st.none() | XATTRS, st.sampled_from(Look)),
)  # fmt: skip
def test_a_placed_row_comes_back_as_it_was_put(
    seen: Fingerprint, kind: Kind, target: bytes | None, xattrs: HeldXattrs
) -> None:
    catalog = Catalog(None)
    row = replace(placed((b"d", b"\xff")), fingerprint=seen, kind=kind, target=target, xattrs=xattrs)
    catalog.placed.put(row)
    assert catalog.placed.get(row.path) == row
    assert decode_placed(encode_placed(row)) == row
    assert catalog.totals.get()[1] == (seen.size if kind is Kind.FILE else 0)
    catalog.placed.refresh(row.path, NOTHING, row.xattrs)
    assert catalog.placed.get(row.path) == replace(row, fingerprint=NOTHING)
    assert catalog.totals.get()[1] == 0
    catalog.placed.put(row)
    catalog.placed.forget(row.path)
    assert catalog.placed.get(row.path) is None
    assert catalog.totals.get() == (0, 0, 0)
    catalog.close()


def test_a_catalog_and_blobs_from_before_extended_attributes_are_read(tmp_path: FilePath) -> None:
    row, scripts = placed((b"d", b"old"), chunk(1)), resources.files("p2psync.catalog.sql")
    before = placed_row(row)[:16]
    names = sorted(item.name for item in scripts.iterdir() if item.name.endswith(".sql"))[:7]
    assert names[-1].startswith("0007")
    connection = sqlite3.connect(tmp_path / "old.db")
    for name in names:
        connection.executescript((scripts / name).read_text())
    marks, blob = ", ".join("?" * 16), encode([*before])
    columns = PLACED_COLUMNS.partition(", xattrs")[0]
    connection.execute(f"INSERT INTO placed ({columns}) VALUES ({marks})", before)
    connection.execute(
        "INSERT INTO intent (batch, operation, dir, name, old, new) VALUES (1, 'write', x'64', x'6f6c64', ?, ?)",
        (blob, blob),
    )
    connection.execute("PRAGMA user_version = 7")
    connection.commit()
    connection.close()
    catalog = Catalog(tmp_path / "old.db")
    assert catalog.placed.get(row.path) == row == decode_placed(blob)
    assert [(intent.old, intent.new) for intent in catalog.intents.all()] == [(row, row)]
    assert catalog.placed.in_directory((b"d",))[b"old"].looked_at is False
    catalog.placed.put(replace(row, xattrs=HeldXattrs(((b"user.a", b"1"),), None, Look.OWED)))
    assert catalog.placed.forget_looks() == [row.path] and catalog.placed.forget_looks() == []
    assert catalog.placed.get(row.path) == replace(row, xattrs=HeldXattrs(((b"user.a", b"1"),)))
    catalog.close()


def test_the_reverse_index_follows_every_change_of_content(catalog: Catalog) -> None:
    one, two, three = chunk(1), chunk(2), chunk(3)
    catalog.placed.put(placed((b"a",), one, two))
    catalog.placed.put(placed((b"b",), two))
    assert catalog.placed.holders(two) == [((b"a",), 100), ((b"b",), 0)]
    assert catalog.placed.holders_of_all([one, two, three]) == {one: ((b"a",), 0), two: ((b"a",), 100)}
    catalog.placed.put(placed((b"a",), one, three))
    assert [path for path, _ in catalog.placed.holders(two)] == [(b"b",)]
    assert catalog.placed.holders(three) == [((b"a",), 100)]
    catalog.placed.put(replace(placed((b"a",)), kind=Kind.DELETED, content=Content()))
    assert catalog.placed.holders(one) == catalog.placed.holders(three) == []
    catalog.placed.forget((b"b",))
    assert catalog.placed.holders(two) == []


def test_a_long_files_chunks_are_indexed_by_its_full_list(catalog: Catalog) -> None:
    row = placed((b"a",), chunk("list"))
    full = b"".join(chunk(n) + (50).to_bytes(4, "big") for n in range(3))
    catalog.placed.put(replace(row, content=replace(row.content, depth=1)), full)
    assert [at for _, at in catalog.placed.holders(chunk(2))] == [100]
    assert catalog.placed.holders(chunk("list")) == []


def test_below_is_what_lies_under_a_directory_and_nothing_beside_it(catalog: Catalog) -> None:
    paths: list[Path] = [
        (b"d",), (b"d", b"x"), (b"d", b"e", b"y"), (b"d0", b"z"), (b"d-", b"z"), (b"d", b"\xff", b"z"), (b"\xff\xff", b"z"),
    ]  # fmt: skip
    for path in paths:
        catalog.placed.put(placed(path))
    catalog.placed.put(replace(placed((b"d", b"gone")), kind=Kind.DELETED))
    assert {p.path for p in catalog.placed.below((b"d",))} == {p for p in paths if len(p) > 1 and p[0] == b"d"}
    assert {p.path for p in catalog.placed.below(())} == set(paths)
    assert set(catalog.placed.in_directory((b"d",))) == {b"x"}
    assert len(catalog.placed.below((), limit=2)) == 2


def test_below_comes_in_pages_with_whatever_is_deeper_first(catalog: Catalog) -> None:
    paths: list[Path] = [
        (b"d", b"e"),
        (b"d", b"e", b"f"),
        (b"d", b"e", b"f", b"g"),
        (b"d", b"e-"),
        (b"d", b"h"),
        (b"d-", b"x"),
    ]
    for path in paths:
        catalog.placed.put(placed(path))
    for limit in (1, 2, 3, 10):
        seen: list[Path] = []
        while page := catalog.placed.below((b"d",), limit, seen[-1] if seen else None):
            seen += [row.path for row in page]
        assert sorted(seen) == paths[:-1]
        assert all(seen.index(path) < seen.index(path[:-1]) for path in paths[1:3])


def test_a_rename_is_hinted_by_inode_size_and_time_together(catalog: Catalog) -> None:
    row = placed((b"a",), chunk(1), inode=2**63 + 5)
    catalog.placed.put(row)
    moved = row.fingerprint._replace(ctime_ns=99)
    assert catalog.placed.by_inodes([5, moved.inode]) == {moved.inode: [row]} and row.fingerprint.same_file(moved)
    for other in (moved._replace(size=1), moved._replace(mtime_ns=1), moved._replace(dev=1), moved._replace(inode=5)):
        assert not row.fingerprint.same_file(other)


# --- locations ----------------------------------------------------------------------


def pack(name: str, *chunks: ChunkId) -> PackLocations:
    table = b"".join(held + (117).to_bytes(4, "big") + (100).to_bytes(4, "big") for held in chunks)
    return PackLocations(PackName(material(name)), EpochId(bytes(16)), bytes(32), 4096, 0, table)


def test_a_sealed_pack_is_offered_only_once_a_store_confirmed_it(catalog: Catalog) -> None:
    locations, one, two = catalog.locations, chunk(1), chunk(2)
    locations.queue_upload([(one, 100), (two, 100), (one, 100)])
    assert locations.upload_bytes() == 200 and locations.known(one)
    numbers = [number for number, _, _ in locations.uploads(0)]
    locations.seal(pack("p", one, two), numbers)
    assert locations.uploads(0) == [] and locations.upload_bytes() == 200
    assert locations.find(one) == [] and [p.name for p in locations.packs(SEALED)] == [material("p")]
    confirmed = locations.confirm(PackName(material("p")))
    assert confirmed == pack("p", one, two)
    assert locations.confirm(PackName(material("p"))) is None
    assert locations.upload_bytes() == 0 and locations.find(two)[0].position == 57 + 117


def test_an_abandoned_pack_gives_its_chunks_back_to_the_queue(catalog: Catalog) -> None:
    locations, one = catalog.locations, chunk(1)
    locations.queue_upload([(one, 100)])
    before = locations.uploads(0)
    locations.seal(pack("p", one), [before[0][0]])
    locations.abandon(PackName(material("p")))
    assert locations.uploads(0) == before and locations.find(one) == [] and locations.packs(SEALED) == []
    locations.abandon(PackName(material("p")))
    assert locations.confirm(PackName(material("p"))) is None


def test_a_claimed_location_stands_behind_a_verified_one(catalog: Catalog) -> None:
    locations, one = catalog.locations, chunk(1)
    locations.add_pack(pack("first", one), CLAIMED)
    locations.add_pack(pack("second", one), CLAIMED)
    locations.add_pack(pack("first", one), CLAIMED)
    first, second = locations.find(one)
    locations.mark_verified([(one, second.pack, second.index)])
    assert locations.find(one) == [second, first]


def test_inline_and_list_chunks_are_found_again(catalog: Catalog) -> None:
    locations, one = catalog.locations, chunk(1)
    assert not locations.known(one) and locations.find_inline(one) is None and locations.list_chunk(one) is None
    locations.add_inline(one, FEED, 3, 1)
    locations.add_inline(one, FEED, 9, 9)
    locations.add_list_chunk(one, b"rows")
    assert locations.find_inline(one) == (FEED, 3, 1) and locations.list_chunk(one) == b"rows" and locations.known(one)


# --- intents, single values, transactions ---------------------------------------------


def test_intents_come_back_newest_first_and_are_cleared_by_batch(catalog: Catalog) -> None:
    old, new = placed((b"a",), chunk(1)), placed((b"a",), chunk(2), inode=3)
    first, second = Intent(WRITE, (b"a",), None, new), Intent(DELETE, (b"d", b"b"), old, None)
    catalog.intents.add(1, [first])
    catalog.intents.add(2, [second])
    assert catalog.intents.all() == [second, first] and catalog.intents.last_batch() == 2
    catalog.intents.clear(1)
    assert catalog.intents.all() == [second]
    catalog.intents.clear(2)
    assert catalog.intents.all() == [] and catalog.intents.last_batch() == 0


def test_a_transaction_that_fails_leaves_nothing_anywhere(catalog: Catalog) -> None:
    with pytest.raises(RuntimeError), catalog.transaction():
        catalog.placed.put(placed((b"a",), chunk(1)))
        catalog.locations.queue_upload([(chunk(1), 5)])
        catalog.intents.add(1, [Intent(WRITE, (b"a",), None, None)])
        raise RuntimeError
    assert catalog.placed.get((b"a",)) is None and not catalog.locations.known(chunk(1)) and not catalog.intents.all()


def test_a_catalog_without_a_folder_says_to_join_again(catalog: Catalog) -> None:
    with pytest.raises(UserError, match="join again"):
        _ = catalog.folder
    catalog.set("folder", FOLDER)
    catalog.set("folder", FolderId(bytes(16)))
    assert catalog.folder == bytes(16)


# --- keystore ---------------------------------------------------------------------------


def folder_keys() -> FolderKeys:
    secrets = FolderSecrets(FOLDER, {EPOCH.epoch: EPOCH}, {0: GENERATION}, EPOCH.epoch)
    return FolderKeys(secrets, SigningKey(material("own feed")))


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_key_files_are_private_under_any_umask(tmp_path: FilePath, umask: None) -> None:
    """Property 47."""
    directory = tmp_path / "keys"
    keystore = Keystore(directory)
    keys = keystore.device(SystemRandomness())
    keystore.save_folder(folder_keys())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    assert len(list(directory.iterdir())) == 2
    again = Keystore(directory)
    assert again.device(SystemRandomness()) == keys
    loaded = again.load_folder(FOLDER)
    assert loaded.feed == folder_keys().feed and loaded.secrets.encode() == folder_keys().secrets.encode()


def test_a_damaged_or_missing_key_file_is_the_users_to_mend(tmp_path: FilePath) -> None:
    keystore = Keystore(tmp_path)
    with pytest.raises(UserError, match="join it again"):
        keystore.load_folder(FOLDER)
    keystore.device(SystemRandomness())
    keystore.save_folder(folder_keys())
    for file in tmp_path.iterdir():
        whole = file.read_bytes()
        for damaged in (b"", whole[:-1], whole + b"\0", b"\xc1" * 50, bytes(2_000_000)):
            file.write_bytes(damaged)
            with pytest.raises(UserError, match="damaged"):
                keystore.load_folder(FOLDER) if "folder" in file.name else keystore.device(SystemRandomness())
        file.write_bytes(whole)


def test_a_key_directory_that_cannot_be_made_is_a_storage_error(tmp_path: FilePath) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        Keystore(tmp_path / "file" / "keys")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_dying_before_the_rename_leaves_the_old_keys(
    tmp_path: FilePath, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 53: a kill between temp and rename; the next start writes over what is left."""
    keystore = Keystore(tmp_path)
    keystore.save_folder(folder_keys())
    newer = FolderKeys(folder_keys().secrets, SigningKey(material("newer feed")))

    class KilledError(BaseException):
        pass

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync", die) if step == "fsync" else (FilePath, "replace", die)))
        with pytest.raises(KilledError):
            keystore.save_folder(newer)
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".new")]
    assert Keystore(tmp_path).load_folder(FOLDER).feed == folder_keys().feed
    keystore.save_folder(newer)
    assert Keystore(tmp_path).load_folder(FOLDER).feed == newer.feed
    assert not [file for file in tmp_path.iterdir() if file.name.endswith(".new")]
