"""Bit rot in files of a folder: found, mended from others, never an edit. Property 54.

A write through the kernel moves the change time, which a failing disk does not: so the tests write, and then tell the
catalog that the stamp it knows is the one the file has now.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.rows import Fingerprint
from p2psync.index.paths import Path as InnerPath
from p2psync.index.paths import split
from p2psync.replica.flaws import ROTTEN
from p2psync.replica.replica import Replica
from p2psync.replica.scrubbing import Found, Scrubbed
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge

BIG = os.urandom(300_000)


def rot(device: Device, name: str, at: int = 1000) -> bytes:
    return rotten_on_disk(device.root / name, device.catalog, name.encode(), at)


def rotten_on_disk(path: Path, catalog_file: Path, name: bytes, at: int = 1000) -> bytes:
    """Flip one bit of a file so that its stamp does not tell; returns what it holds now. Its device is off."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    catalog = Catalog(catalog_file)
    seen = Fingerprint(after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns)
    row = catalog.placed.get(split(name))
    assert row is not None
    catalog.placed.refresh(row.path, seen, row.xattrs)
    catalog.close()
    return bytes(data)


def edit_and_set_time_back(path: Path) -> None:
    """Only the change time tells."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"edited")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def scrub(replica: Replica) -> Scrubbed:
    told: list[Found] = []

    async def tell(found: Found) -> None:
        told.append(found)

    done = await replica.scrubbing.run(tell)
    assert told == done.found
    return done


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[MemoryStore, Device, Device]:
    """Two devices that hold the same, and are off."""
    store = MemoryStore(clock=SystemClock())
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        a.write("d/big.bin", BIG)
        a.write("sound.bin", BIG[::-1])
        (a.root / "d/big.bin").chmod(0o640)
        async with b.running(store) as second:
            await converge(first, second)
    return store, a, b


def inside(device: Device, path: InnerPath) -> Path:
    return device.root / os.fsdecode(b"/".join(path))


async def test_rotten_bytes_are_moved_aside_and_the_right_ones_fetched_again(
    pair: tuple[MemoryStore, Device, Device],
) -> None:
    store, a, b = pair
    wrong = rot(b, "d/big.bin")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        assert (b.root / "d/big.bin").read_bytes() == wrong  # a scan does not read what looks as it did
        before = (b.root / "d/big.bin").stat()
        done = await scrub(second)
        (found,) = done.found
        assert (done.files, done.bytes, found.left) == (2, 600_000, None)
        assert found.kept is not None and inside(b, found.kept).read_bytes() == wrong
        after = (b.root / "d/big.bin").stat()
        assert (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)
        await converge(first, second)
        assert a.tree() == b.tree() and len(a.tree()) == 3
        assert len(await second.past.history(split(b"d/big.bin"), 10)) == 1
        again = await scrub(second)
        assert again.found == [] and again.unchecked == 0
        assert (await second.status()).problems == []


async def test_what_nobody_has_stays_in_place_is_named_and_is_never_an_edit(
    pair: tuple[MemoryStore, Device, Device],
) -> None:
    store, a, b = pair
    wrong = rot(b, "d/big.bin")
    path = b.root / "d/big.bin"
    async with b.running(None) as alone:
        await alone.rescan()
        (found,) = (await scrub(alone)).found
        assert found.kept is None and found.left and path.read_bytes() == wrong
        assert not (b.root / ".p2psync/rotten").exists()
        assert ("d/big.bin", ROTTEN) in (await alone.status()).problems
    path.chmod(0o600)  # its change time moves, and it would be read again
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        assert ("d/big.bin", ROTTEN) in (await second.status()).problems
        assert (a.root / "d/big.bin").read_bytes() == BIG and path.read_bytes() == wrong
        assert len(await first.past.history(split(b"d/big.bin"), 10)) == 1
        path.write_bytes(b"the user's own")  # that is an edit
        await converge(first, second)
        assert (a.root / "d/big.bin").read_bytes() == b"the user's own"
        assert (await second.status()).problems == []


async def test_a_later_scrub_mends_what_an_earlier_one_could_not(pair: tuple[MemoryStore, Device, Device]) -> None:
    store, _, b = pair
    wrong = rot(b, "d/big.bin")
    async with b.running(None) as alone:
        await alone.rescan()
        assert [found.kept for found in (await scrub(alone)).found] == [None]
    async with b.running(store) as replica:
        await replica.in_sync()
        (found,) = (await scrub(replica)).found
        assert found.kept is not None and inside(b, found.kept).read_bytes() == wrong
        assert (b.root / "d/big.bin").read_bytes() == BIG
        await replica.rescan()
        assert (await replica.status()).problems == []


async def test_what_a_user_changes_is_left_to_the_scanner(pair: tuple[MemoryStore, Device, Device]) -> None:
    """Written with the old size and time set back: the change time tells that it was written, so it is an edit."""
    store, a, b = pair
    path = b.root / "d/big.bin"
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        edit_and_set_time_back(path)
        done = await scrub(second)
        assert done.found == [] and done.unchecked == 1
        await converge(first, second)
        assert (a.root / "d/big.bin").read_bytes() == path.read_bytes() == b"edited" + BIG[6:]


async def test_an_edit_while_the_content_is_fetched_is_not_replaced(
    pair: tuple[MemoryStore, Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, a, b = pair
    rot(b, "d/big.bin")
    path = b.root / "d/big.bin"
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        mend = second.scrubbing._exchange

        def edited_before(*arguments: object) -> Found | None:
            edit_and_set_time_back(path)
            return mend(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(second.scrubbing, "_exchange", edited_before)
        assert (await scrub(second)).found == []
        await converge(first, second)
        shown = path.read_bytes()
        assert shown == (a.root / "d/big.bin").read_bytes() and shown.startswith(b"edited")
        assert not (b.root / ".p2psync/rotten").exists()


async def test_a_damaged_catalog_is_told(pair: tuple[MemoryStore, Device, Device]) -> None:
    """Property 54: a page that went bad on the disk."""
    _, _, b = pair
    connection = sqlite3.connect(b.catalog)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'file_chunk_placed'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    async with b.running(None) as replica:
        assert await replica.scrubbing.damage() == []
    with b.catalog.open("r+b") as file:
        file.seek((page - 1) * size + 3)
        file.write(b"\xff\xff\xff\xff")
    catalog = Catalog(b.catalog)
    assert catalog.damage()
    catalog.close()
