"""History: every version that was ever published can be listed, and brought back from where it still is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from p2psync.errors import UserError
from p2psync.index.versions import Kind
from p2psync.replica.history import PastVersion, Where
from p2psync.replica.keeping import VERSIONS
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import Replica
from p2psync.replica.restoring import Outcome
from tests.replica.test_replica_two_devices import two_devices
from tests.support.devices import Device, converge


def split(name: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(name).split(b"/")) if name else ()


async def history(replica: Replica, name: str) -> list[PastVersion]:
    return await replica.past.history(split(name), 100)


async def restore(replica: Replica, name: str, **how: Any) -> list[Outcome]:
    wanted: dict[str, Any] = {"at_ms": None, "dot": None, "exact": False} | how
    return [outcome async for outcome in replica.past.restore(split(name), **wanted)]


def versions_kept(device: Device) -> list[bytes]:
    directory = device.root / os.fsdecode(b"/".join(VERSIONS))
    return sorted(path.read_bytes() for path in directory.iterdir()) if directory.is_dir() else []


def now_ms(replica: Replica) -> int:
    return int(replica._context.clock.now() * 1000)


async def test_what_a_replace_or_a_delete_displaces_is_kept_privately_and_listed(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        a.write("note", b"one")
        a.write("gone", b"to be deleted")
        await converge(first, second)
        a.write("note", b"two, longer")
        (a.root / "gone").unlink()
        await converge(first, second)
        assert versions_kept(b) == [b"one", b"to be deleted"] and versions_kept(a) == []
        assert (b.root / ".p2psync" / "versions").stat().st_mode & 0o777 == 0o700
        for replica in (first, second):
            listed = await history(replica, "note")
            assert [(each.past.size, each.current) for each in listed] == [(11, True), (3, False)]
            assert all(each.where is Where.HERE for each in listed)
            assert [each.past.kind for each in await history(replica, "gone")] == [Kind.DELETED, Kind.FILE]
        latest = await second.past.history((b"note",), 1)
        assert [(each.past.size, each.current) for each in latest] == [(11, True)]
        below = await history(second, "")
        assert {each.past.path for each in below} == {(b"note",), (b"gone",)} and len(below) == 4


@pytest.mark.slow
async def test_a_version_comes_back_as_a_new_one_everywhere_and_what_it_replaces_goes_to_history(
    tmp_path: Path,
) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        large = os.urandom(3 << 20)
        a.write("d/data", large)
        await converge(first, second)
        a.write("d/data", b"overwritten by mistake")
        await converge(first, second)
        (b.root / "d" / "data").unlink()
        (b.root / "d").rmdir()
        await converge(first, second)
        original = (await history(first, "d/data"))[-1]
        assert original.where is Where.STORE  # edited in place here: the relay has it, and the other device keeps it
        assert (await history(second, "d/data"))[-1].where is Where.HERE
        outcomes = await restore(first, "d/data", dot=original.past.dot)
        assert [(outcome.path, outcome.left) for outcome in outcomes] == [(split("d/data"), None)]
        assert a.tree()["d/data"][1] == large
        await converge(first, second)
        assert b.tree() == a.tree() and not any("sync-conflict" in name for name in a.tree())
        middle = (await history(second, "d/data"))[2]
        await restore(second, "d/data", dot=middle.past.dot)
        await converge(first, second)
        assert a.tree()["d/data"][1] == b"overwritten by mistake" and a.tree() == b.tree()
        assert large in versions_kept(b)
        with pytest.raises(UserError, match="there was nothing"):
            await restore(first, "d/never", at_ms=now_ms(first))


@pytest.mark.slow
async def test_a_folder_comes_back_as_it_was_at_a_time(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        for number in range(5):
            a.write(f"d/{number}", b"good %d" % number)
        a.write("e", b"beside")
        (a.root / "d" / "link").symlink_to("0")
        await converge(first, second)
        before, then = a.tree(), now_ms(first)
        await trio.sleep(0.01)
        a.write("d/0", b"encrypted")
        (a.root / "d" / "1").unlink()
        (a.root / "d" / "link").unlink()
        (a.root / "d" / "2").rename(a.root / "d" / "2.locked")
        (a.root / "e").unlink()
        a.write("d/new", b"made since")
        await converge(first, second)
        await restore(second, "d", at_ms=then)
        await converge(first, second)
        kept = {name: value for name, value in before.items() if name != "e"}
        assert {name: value for name, value in a.tree().items() if name in before} == kept
        assert {"d/new", "d/2.locked"} <= a.tree().keys() and "e" not in a.tree()
        await restore(second, "", at_ms=then, exact=True)
        await converge(first, second)
        assert a.tree() == b.tree() == before
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with LocalFilesystem(elsewhere) as filesystem:
            outcomes = [each async for each in second.past.restore_to(split("d"), filesystem, at_ms=then, dot=None)]
            assert all(each.left is None for each in outcomes)
            again = [each async for each in second.past.restore_to(split("d"), filesystem, at_ms=then, dot=None)]
            assert all(each.left is not None for each in again)
        assert (elsewhere / "d" / "2").read_bytes() == b"good 2" and (elsewhere / "d" / "link").is_symlink()


@pytest.mark.slow
async def test_undoing_a_device_takes_back_its_changes_and_leaves_what_others_changed_since(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, b, first, second):
        for name in ("kept", "edited", "deleted", "both"):
            a.write(name, b"good " + name.encode())
        await converge(first, second)
        start = now_ms(first)
        await trio.sleep(0.01)
        b.write("edited", b"bad")
        b.write("edited", b"bad again")
        b.write("both", b"bad")
        b.write("made", b"bad")
        (b.root / "deleted").unlink()
        await converge(first, second)
        a.write("both", b"repaired by hand")
        await converge(first, second)
        feed = second._context.own_feed
        outcomes = [outcome async for outcome in first.past.undo({feed}, start)]
        assert {outcome.path: outcome.left is None for outcome in outcomes} == {
            (b"edited",): True, (b"made",): True, (b"deleted",): True, (b"both",): False,
        }  # fmt: skip
        await converge(first, second)
        assert a.tree() == b.tree()
        assert {name: value[1] for name, value in a.tree().items()} == {
            "kept": b"good kept", "edited": b"good edited", "deleted": b"good deleted", "both": b"repaired by hand",
        }  # fmt: skip
        assert [each async for each in first.past.undo({feed}, start)] == outcomes[:0] + [
            outcome for outcome in outcomes if outcome.left
        ]


@pytest.mark.slow
async def test_a_version_that_nobody_has_is_said_to_be_so_and_nothing_is_published(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, _, first, second):
        a.write("x", os.urandom(200_000))
        await converge(first, second)
        a.write("x", b"short")
        await converge(first, second)
        lost = (await history(first, "x"))[-1]
        chunk = lost.version.content.chunks[:32] if lost.version else b""
        first._context.catalog.locations._db.execute("DELETE FROM location")
        assert (await history(first, "x"))[-1].where is Where.NOWHERE and chunk
        outcomes = await restore(first, "x", dot=lost.past.dot)
        assert outcomes[0].left and "nobody" in outcomes[0].left
        assert a.tree()["x"][1] == b"short" and len(await history(first, "x")) == 2
        assert not list(a.root.rglob(".p2psync.*.tmp"))
