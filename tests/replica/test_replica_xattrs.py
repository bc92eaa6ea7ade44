"""Extended attributes on real replicas and real directories: they travel where a device wants it, and nobody strips them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2psync.planner.shaping import FolderType
from p2psync.planner.xattrs import Look, after_setting
from p2psync.replica.changes import LocalChange
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.publisher import commit
from p2psync.replica.scanner import fingerprint_of
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge, until, xattrs_of
from tests.support.power import still_watcher
from tests.support.tagging import devices, fetched, needs_xattrs, put, shown

pytestmark = pytest.mark.slow

ON, OFF = True, False


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return needs_xattrs(tmp_path)


async def test_they_are_set_changed_and_removed_on_the_other_device_and_no_content_travels(home: Path) -> None:
    async with devices(home, ON, ON) as (a, b, first, second):
        a.write("d/file", os.urandom(100_000))
        put(a, "d/file", tag=b"one", note=b"\0\xff binary", empty=b"")
        put(a, "d", colour=b"red")
        await converge(first, second)
        assert shown(b, "d/file") == {"tag": b"one", "note": b"\0\xff binary", "empty": b""}
        assert shown(b, "d") == {"colour": b"red"}
        inode, before = (b.root / "d/file").stat().st_ino, await fetched(second)
        put(a, "d/file", tag=b"two", note=None)
        put(b, "d", size=b"large", colour=None)
        await converge(first, second)
        assert shown(a, "d/file") == shown(b, "d/file") == {"tag": b"two", "empty": b""}
        assert shown(a, "d") == shown(b, "d") == {"size": b"large"}
        assert (b.root / "d/file").stat().st_ino == inode and await fetched(second) == before
        a.write("d/file", b"new content, written in place")
        await converge(first, second)
        assert b.tree() == a.tree() and shown(b, "d/file") == {"tag": b"two", "empty": b""}


async def test_nothing_is_published_again_when_nothing_changed(home: Path) -> None:
    async with devices(home, ON, ON) as (a, b, first, second):
        a.write("d/file", b"content")
        put(a, "d/file", tag=b"one")
        put(a, "d", tag=b"one")
        await converge(first, second)
        heads = first._heads()
        for device in (a, b):
            (device.root / "d/file").chmod(0o600)
            (device.root / "d/file").chmod(0o644)  # the change time alone
        await converge(first, second)
        assert first._heads() == heads == second._heads()


async def test_a_device_without_them_edits_and_renames_and_strips_nothing(home: Path) -> None:
    async with devices(home, ON, OFF) as (a, b, first, second):
        for name in ("edited", "renamed", "made executable", "replaced"):
            a.write(name, f"content of {name}".encode())
            put(a, name, tag=name.encode())
        (a.root / "d").mkdir()
        put(a, "d", tag=b"d")
        await converge(first, second)
        assert not any(shown(b, name) for name in b.tree())
        put(b, "edited", own=b"nobody asked for it")
        b.write("edited", b"by the other device")
        (b.root / "renamed").rename(b.root / "new name")
        (b.root / "made executable").chmod(0o755)
        (b.root / "d").chmod(0o700)
        (b.root / "temp").write_bytes(b"saved as editors do")
        (b.root / "temp").rename(b.root / "replaced")
        await converge(first, second)
        assert a.tree() == b.tree() and (a.root / "edited").read_bytes() == b"by the other device"
        for name in ("edited", "made executable", "replaced", "d"):
            assert shown(a, name) == {"tag": name.encode()}
        assert shown(a, "new name") == {"tag": b"renamed"}


async def test_switching_on_unites_what_is_agreed_and_what_the_disk_shows(home: Path) -> None:
    async with devices(home, ON, OFF) as (a, b, first, second):
        for name in ("file", "plain"):
            a.write(name, b"content " + name.encode())
        (a.root / "d").mkdir()
        put(a, "file", tag=b"agreed", both=b"agreed")
        put(a, "d", tag=b"agreed")
        await converge(first, second)
        for name in ("file", "d"):
            put(b, name, own=b"disk")
        put(b, "file", both=b"disk")
        await converge(first, second)
        assert shown(a, "file") == {"tag": b"agreed", "both": b"agreed"}
        head = first._heads()
        await second.reshaping.switch_xattrs(True)
        assert (await second.status()).shape.xattrs
        await converge(first, second)
        for device in (a, b):
            assert shown(device, "file") == {"tag": b"agreed", "both": b"disk", "own": b"disk"}
            assert shown(device, "d") == {"tag": b"agreed", "own": b"disk"}
            assert shown(device, "plain") == {}
        assert sum(second._heads().values()) - sum(head.values()) <= 2, "files that agree are not published again"
        await second.reshaping.switch_xattrs(False)
        put(b, "file", tag=b"nobody sees it")
        put(a, "file", tag=b"newer")
        await converge(first, second)
        assert shown(b, "file")["tag"] == b"nobody sees it" and shown(a, "file")["tag"] == b"newer"


async def test_a_change_that_comes_before_the_first_look_does_not_take_what_only_the_disk_shows(home: Path) -> None:
    async with devices(home, ON, OFF) as (a, b, first, second):
        a.write("file", b"old content")
        (a.root / "d").mkdir()
        await converge(first, second)
        placed = second._context.catalog.placed
        async with second._watching._looking:  # nobody looks before it has come
            put(b, "file", own=b"disk")
            put(b, "d", own=b"disk")
            second._context.shape.switch_xattrs(True)
            a.write("file", b"new content from the other device")
            put(a, "d", tag=b"new")
            await first.rescan()
            await until(second, lambda _: (row := placed.get((b"d",))) is not None and bool(row.xattrs.agreed))
        await converge(first, second)
        assert shown(b, "d") == shown(a, "d") == {"own": b"disk", "tag": b"new"}
        assert a.tree() == b.tree() and a.tree().keys() == {"file", "d"}
        assert b.tree()["file"][1] == b"new content from the other device"
        assert shown(b, "file") == shown(a, "file") == {"own": b"disk"}


async def test_files_that_stood_here_before_joining_keep_what_they_had(home: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=True), Device(home / "b", 2, xattrs=True)
    a.found()
    for device in (a, b):
        for name in ("more", "same", "less"):
            device.write(name, b"the same content")
        (device.root / "d").mkdir()
        put(device, "same", tag=b"one")
    put(a, "more", tag=b"a")
    put(b, "more", own=b"b")
    put(a, "less", tag=b"a")
    put(b, "d", own=b"b")
    async with a.running(store) as first:
        await b.admitted_by(first)
        await converge(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert a.tree() == b.tree() and len(a.tree()) == 4
            for device in (a, b):
                assert shown(device, "more") == {"tag": b"a", "own": b"b"}
                assert shown(device, "same") == {"tag": b"one"}
                assert shown(device, "less") == {"tag": b"a"}
                assert shown(device, "d") == {"own": b"b"}


async def test_a_renamed_file_keeps_its_own_and_one_that_is_renamed_and_tagged_has_the_new_ones(home: Path) -> None:
    async with devices(home, ON, ON) as (a, b, first, second):
        for name in ("one", "two"):
            a.write(name, os.urandom(50_000))
            put(a, name, tag=name.encode())
        await converge(first, second)
        inode, before = (b.root / "one").stat().st_ino, await fetched(second)
        (a.root / "one").rename(a.root / "moved")
        (a.root / "two").rename(a.root / "moved and tagged")
        put(a, "moved and tagged", tag=b"new")
        await converge(first, second)
        assert a.tree() == b.tree() and (b.root / "moved").stat().st_ino == inode
        assert shown(b, "moved") == {"tag": b"one"} and shown(b, "moved and tagged") == {"tag": b"new"}
        assert await fetched(second) == before


async def test_names_of_other_namespaces_and_of_other_programs_are_neither_read_nor_removed(home: Path) -> None:
    foreign = ["user.overlay.redirect", "user.rsync.%stat", "user.containers.override_stat"]
    if os.geteuid() == 0:
        foreign += ["trusted.p2psync"]
    async with devices(home, ON, ON) as (a, b, first, second):
        a.write("file", b"content")
        for name in foreign:
            os.setxattr(a.root / "file", name, b"100755 0,0 0:0")
        put(a, "file", tag=b"one")
        await converge(first, second)
        assert os.listxattr(b.root / "file") == ["user.tag"]
        for name in foreign:
            os.setxattr(b.root / "file", name, b"local")
        put(a, "file", tag=b"two")
        await converge(first, second)
        assert {*foreign, "user.tag"} <= set(os.listxattr(b.root / "file"))
        assert shown(b, "file")["tag"] == b"two"


async def test_concurrent_changes_of_them_make_no_conflict_copy_and_one_side_counts(home: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=True), Device(home / "b", 2, xattrs=True)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            a.write("file", b"content")
            (a.root / "d").mkdir()
            await converge(first, second)
    for device in (a, b):
        for name in ("file", "d"):
            put(device, name, tag=device.home.name.encode())
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        for name in ("file", "d"):
            assert shown(a, name) == shown(b, name) and shown(a, name)["tag"] in (b"a", b"b")
        assert (await first.status()).conflicts == 0 and a.tree().keys() == {"file", "d"}


async def test_a_text_merge_takes_both_sides_attributes(home: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=True), Device(home / "b", 2, xattrs=True)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store) as second:
            a.write("file", b"one\ntwo\nthree\nfour\nfive\n")
            put(a, "file", old=b"1", gone=b"1")
            await converge(first, second)
    a.write("file", b"ONE\ntwo\nthree\nfour\nfive\n")
    put(a, "file", by_a=b"1")
    b.write("file", b"one\ntwo\nthree\nfour\nFIVE\n")
    put(b, "file", by_b=b"1", gone=None)
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
        assert a.tree() == b.tree() and a.tree()["file"][1] == b"ONE\ntwo\nthree\nfour\nFIVE\n"
        assert shown(a, "file") == shown(b, "file") == {"old": b"1", "by_a": b"1", "by_b": b"1"}


async def test_restoring_a_version_restores_its_own(home: Path) -> None:
    async with devices(home, ON, ON) as (a, b, first, second):
        a.write("file", b"content")
        put(a, "file", tag=b"old")
        await converge(first, second)
        old = (await first.past.history((b"file",), 1))[0].past.dot
        put(a, "file", tag=b"new", more=b"1")
        await converge(first, second)
        outcomes = [o async for o in second.past.restore((b"file",), at_ms=None, dot=old, exact=False)]
        assert [outcome.left for outcome in outcomes] == [None]
        await converge(first, second)
        assert shown(a, "file") == shown(b, "file") == {"tag": b"old"}
        target = home / "elsewhere"
        target.mkdir()
        filesystem = LocalFilesystem(target)
        [_ async for _ in second.past.restore_to((b"file",), filesystem, at_ms=None, dot=old)]
        filesystem.close()
        assert xattrs_of(target / "file") == {"user.tag": b"old"}


async def test_where_nothing_is_published_a_change_of_them_is_noted_and_reverted(home: Path) -> None:
    async with devices(home, ON, ON, type=FolderType.RECEIVEONLY) as (a, b, first, second):
        a.write("file", b"content")
        (a.root / "d").mkdir()
        for name in ("file", "d"):
            put(a, name, tag=b"agreed")
        await converge(first, second)
        for name in ("file", "d"):
            put(b, name, tag=b"changed here")
        await second.rescan()
        await until(second, lambda status: status.shape.local_changes == 2)
        assert shown(a, "file") == shown(a, "d") == {"tag": b"agreed"}
        await second.reshaping.revert()
        await converge(first, second)
        assert shown(b, "file") == shown(b, "d") == {"tag": b"agreed"}
        assert (await second.status()).shape.local_changes == 0


async def test_a_rotten_file_that_is_mended_keeps_them(home: Path) -> None:
    async with devices(home, ON, ON) as (a, b, first, second):
        a.write("file", os.urandom(50_000))
        put(a, "file", tag=b"kept")
        await converge(first, second)
        context = second._context
        path = b.root / "file"
        good, before = path.read_bytes(), path.stat()
        path.write_bytes(b"\0" + good[1:])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        row, stat = context.catalog.placed.get((b"file",)), context.filesystem.stat((b"file",))
        assert row is not None and stat is not None
        context.catalog.placed.refresh(row.path, fingerprint_of(stat), row.xattrs)

        async def tell(found: object) -> None:
            return

        scrubbed = await second.scrubbing.run(tell)
        assert [found.left for found in scrubbed.found] == [None] and path.read_bytes() == good
        await converge(first, second)
        assert shown(a, "file") == shown(b, "file") == {"tag": b"kept"}


async def test_what_was_read_before_the_catalog_moved_on_is_read_again(home: Path) -> None:
    a = Device(home / "a", 1, xattrs=True)
    a.found()
    (a.root / "d").mkdir()
    put(a, "d", tag=b"old")
    async with a.running(MemoryStore(clock=SystemClock()), watcher=still_watcher) as replica:
        await converge(replica)
        context = replica._context
        before = context.catalog.placed.get((b"d",))
        assert before is not None and before.xattrs.look is Look.SEEN
        now = after_setting(before.xattrs.agreed, ())  # as applying would note it meanwhile
        context.catalog.placed.refresh(before.path, before.fingerprint, now)
        change = LocalChange(
            path=before.path, kind=before.kind, base=before, fingerprint=before.fingerprint, mode=before.mode,
            xattrs=before.xattrs.looked(((b"user.tag", b"new"),)),
        )  # fmt: skip
        committed = commit(context, [(change,)])
        assert (committed.stale, committed.versions) == (1, 0)


async def test_what_a_user_set_on_a_directory_and_nobody_saw_yet_is_published_before_it_may_lose(home: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=True), Device(home / "b", 2, xattrs=True)
    a.found()
    async with a.running(store) as first:
        await b.admitted_by(first)
        async with b.running(store, watcher=still_watcher) as second:
            (a.root / "d").mkdir()
            await converge(first, second)
            put(b, "d", mine=b"1")  # and no scan sees it before the other one's change comes
            put(a, "d", theirs=b"1")
            await first.rescan()
            theirs = (b"user.theirs", b"1")

            def known() -> bool:
                return any(theirs in version.xattrs for version in second._context.catalog.versions.frontier((b"d",)))

            await until(second, lambda status: known() and status.state == "idle")
            await converge(first, second)
            past = [each.version for each in await second.past.history((b"d",), 100)]
            published = {pair for version in past if version is not None for pair in version.xattrs}
            assert {(b"user.mine", b"1"), theirs} <= published
            assert shown(a, "d") == shown(b, "d") != {}


async def test_a_send_only_folder_sets_none_and_override_makes_its_own_the_folders(home: Path) -> None:
    store = MemoryStore(clock=SystemClock())
    a, b = Device(home / "a", 1, xattrs=True), Device(home / "b", 2, xattrs=True, type=FolderType.SENDONLY)
    a.found()
    for device in (a, b):
        device.write("file", b"the same content")
    put(a, "file", tag=b"one")
    async with a.running(store) as first:
        await b.admitted_by(first)
        await converge(first)
        async with b.running(store) as second:
            await converge(first, second)
            assert shown(b, "file") == {} and (await second.status()).shape.differing == 1
            heads = second._heads()
            assert await second.reshaping.override() == 1
            await converge(first, second)
            assert shown(a, "file") == shown(b, "file") == {} and (await second.status()).shape.differing == 0
            assert sum(second._heads().values()) == sum(heads.values()) + 1
