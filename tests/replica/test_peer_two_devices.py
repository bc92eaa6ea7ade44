"""Two devices linked directly, with no store at all: the laws of two replicas and a store hold."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.catalog.needs import Need
from p2psync.replica import applying
from p2psync.replica.assembly import Assembler, Assembly
from p2psync.replica.plans import Plan
from p2psync.replica.replica import Replica
from p2psync.replica.serving import admit_entries
from tests.support.devices import Device, converge, until
from tests.support.peers import DIRECT, linked, two_linked


async def test_a_file_written_on_one_device_appears_on_the_other(tmp_path: Path) -> None:
    async with two_linked(tmp_path) as (a, b, first, second):
        a.write("dir/hello.txt", b"hello")
        await converge(first, second)
        assert b.tree() == a.tree()
        assert b.tree()["dir/hello.txt"][1] == b"hello"


async def test_everything_a_tree_can_hold_travels_both_ways(tmp_path: Path) -> None:
    async with two_linked(tmp_path) as (a, b, first, second):
        a.write("empty", b"")
        a.write("big.bin", os.urandom(3 << 20))
        a.write("run.sh", b"#!/bin/sh\n")
        (a.root / "run.sh").chmod(0o755)
        (a.root / "link").symlink_to("run.sh")
        (a.root / "hollow").mkdir()
        b.write("from b/ü 😀\nnewline", b"both ways")
        b.write("b.bin", os.urandom(2 << 20))
        await converge(first, second)
        assert a.tree() == b.tree()
        assert len(a.tree()) == 8
        assert (a.root / "big.bin").stat().st_mtime_ns == (b.root / "big.bin").stat().st_mtime_ns
        status = await second.status()
        assert status.fetched["a"].bytes >= 3 << 20
        assert status.peers == {"a": True} and status.stores == {}


async def test_edits_renames_and_deletes_follow(tmp_path: Path) -> None:
    async with two_linked(tmp_path) as (a, b, first, second):
        for number in range(20):
            a.write(f"d/f{number}", b"x" * 1000 + str(number).encode())
        await converge(first, second)
        (a.root / "d" / "f0").write_bytes(b"edited")
        (b.root / "d" / "f1").unlink()
        await converge(first, second)
        (a.root / "d").rename(a.root / "e")
        await converge(first, second)
        assert a.tree() == b.tree()
        assert "e/f1" not in a.tree()
        assert a.tree()["e/f0"][1] == b"edited"
        assert not any(name.startswith("d") for name in a.tree())


@asynccontextmanager
async def two_apart(home: Path, *names: str) -> AsyncIterator[tuple[Device, Device, Replica, Replica]]:
    """Two devices that had a link for as long as it took to get these files to both."""
    a, b = Device(home / "a", 1), Device(home / "b", 2)
    a.found()
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        async with b.running(None, links=DIRECT) as second:
            async with linked(a, first, b, second):
                for name in names:
                    a.write(name, os.urandom(100_000))
                await converge(first, second)
            yield a, b, first, second


async def test_a_rename_that_comes_between_two_pages_is_no_delete(tmp_path: Path) -> None:
    async with two_apart(tmp_path, "old/file") as (a, b, first, second):
        theirs, ours, applying = first._context.catalog.feeds, second._context, second._applying
        before = theirs.state(first._context.own_feed)
        (a.root / "old").rename(a.root / "new")
        await until(first, lambda _: theirs.state(before.feed).seq >= before.seq + 2)  # the files, and the directory

        def arriving(
            live: bool, after: int, ask: Callable[[bool, int], Sequence[Need]] = applying._next_needs
        ) -> object:
            found = ask(live, after)
            if live and not found:  # now everything alive has been gone through
                page = theirs.entries_after(before.feed, ours.catalog.feeds.state(before.feed).seq, 100)
                admit_entries(ours, [data for _, _, data in page])
            return found

        applying._next_needs = arriving  # type: ignore[method-assign, assignment]
        ours.work_arrived.notify()
        await until(second, lambda status: status.need_files == 0 and "new/file" in b.tree())
        assert b.tree() == a.tree()  # there is nobody it could have been fetched from


async def test_a_rename_that_comes_while_the_queue_is_worked_off_is_no_delete(tmp_path: Path) -> None:
    async with two_apart(tmp_path, "0/file", "1/file", "2/file") as (a, b, first, second):
        theirs, ours, applying = first._context.catalog.feeds, second._context, second._applying
        before = theirs.state(first._context.own_feed)
        ends = []
        for number in range(2):
            (a.root / f"{number}/file").rename(a.root / f"2/new {number}")
            await first.rescan()
            ends.append(theirs.state(before.feed).seq)
        assert before.seq < ends[0] < ends[1]

        def take(up_to: int) -> None:
            here = ours.catalog.feeds.state(before.feed).seq
            page = theirs.entries_after(before.feed, here, up_to - here)
            admit_entries(ours, [data for _, _, data in page])

        def arriving(
            live: bool, after: int, ask: Callable[[bool, int], Sequence[Need]] = applying._next_needs
        ) -> object:
            if live and after:  # the first rename was carried out, and nothing is queued now
                take(ends[1])
            return ask(live, after)

        applying._next_needs = arriving  # type: ignore[method-assign, assignment]
        take(ends[0])
        ours.work_arrived.notify()
        await until(second, lambda status: status.need_files == 0 and "2/new 1" in b.tree())
        assert b.tree() == a.tree()  # there is nobody it could have been fetched from


async def test_a_rename_that_comes_while_the_brake_judges_is_no_delete(tmp_path: Path) -> None:
    async with two_apart(tmp_path, "here/file") as (a, b, first, second):
        theirs, ours, applying = first._context.catalog.feeds, second._context, second._applying
        before = theirs.state(first._context.own_feed)
        (a.root / "here/file").rename(a.root / "here/new")
        await first.rescan()
        page = theirs.entries_after(before.feed, before.seq, 100)
        taking = threading.Thread(target=admit_entries, args=(ours, [data for _, _, data in page]))
        armed = False

        def asked(live: bool, after: int, ask: Callable[[bool, int], Sequence[Need]] = applying._next_needs) -> object:
            nonlocal armed
            armed = live
            return ask(live, after)

        def judged(judge: Callable[[], None] = applying.braking.judge) -> None:
            judge()
            if armed and taking.ident is None:
                taking.start()
                taking.join(0.1)  # it waits for the page, or it is in the page without having been judged

        applying._next_needs = asked  # type: ignore[method-assign, assignment]
        applying.braking.judge = judged  # type: ignore[method-assign]
        ours.work_arrived.notify()
        await until(second, lambda status: taking.ident is not None)
        await trio.to_thread.run_sync(taking.join)
        ours.work_arrived.notify()
        await until(second, lambda status: status.need_files == 0 and "here/new" in b.tree())
        assert b.tree() == a.tree()  # there is nobody it could have been fetched from


async def test_hard_links_of_one_file_are_renamed_each_once(tmp_path: Path) -> None:
    async with two_linked(tmp_path) as (a, b, first, second):
        a.write("old/one", os.urandom(10_000))
        os.link(a.root / "old" / "one", a.root / "old" / "two")
        await converge(first, second)
        (a.root / "old").rename(a.root / "new")
        await converge(first, second)
        assert a.tree() == b.tree()
        assert not second._context.trouble


async def test_concurrent_edits_keep_both_versions(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    a.found()
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        async with b.running(None, links=DIRECT) as second, linked(a, first, b, second):
            a.write("note.md", b"base")
            await converge(first, second)
    a.write("note.md", b"from a")
    b.write("note.md", b"from b")
    async with (
        a.running(None, links=DIRECT) as first, b.running(None, links=DIRECT) as second, linked(b, second, a, first)
    ):  # fmt: skip
        await converge(first, second)
        assert a.tree() == b.tree()
        assert sorted(content for _, content, _ in a.tree().values()) == [b"from a", b"from b"]
        assert any(".sync-conflict-" in name and name.endswith(".md") for name in a.tree())


async def test_joining_a_folder_that_is_not_empty_loses_nothing_and_copies_only_what_differs(tmp_path: Path) -> None:
    a, b = Device(tmp_path / "a", 1), Device(tmp_path / "b", 2)
    for device in (a, b):
        device.write("same", b"same on both")
        device.write("differs", device.home.name.encode())
    b.write("only b", b"b")
    a.found()
    async with a.running(None, links=DIRECT) as first:
        await b.admitted_by(first)
        async with b.running(None, links=DIRECT) as second, linked(a, first, b, second):
            await converge(first, second)
            assert a.tree() == b.tree()
            contents = sorted(content for _, content, _ in a.tree().values())
            assert contents == [b"a", b"b", b"b", b"same on both"]
            assert len(a.tree()) == 4


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
async def test_a_deletion_of_one_kind_makes_room_for_another(tmp_path: Path, kind: str) -> None:
    async with two_linked(tmp_path) as (a, b, first, second):
        a.write("x", b"a file")
        await converge(first, second)
        (b.root / "x").unlink()
        if kind == "file":
            b.write("x", b"another")
        elif kind == "directory":
            b.write("x/inside", b"inside")
        else:
            (b.root / "x").symlink_to("nowhere")
        await converge(first, second)
        assert a.tree() == b.tree()
        (a.root / "y").write_bytes(b"still alive")
        await converge(first, second)
        assert a.tree() == b.tree()


async def test_what_has_come_when_a_transfer_ends_is_placed_and_not_assembled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: Counter[bytes] = Counter()
    begin = Assembler.begin

    def counted(self: Assembler, plans: Sequence[Plan]) -> list[Assembly]:
        begun.update(b"/".join(plan.path) for plan in plans)
        return begin(self, plans)

    monkeypatch.setattr(Assembler, "begin", counted)
    monkeypatch.setattr(applying, "_GROUP", 16)
    async with two_linked(tmp_path) as (a, _b, first, second):
        for number in range(300):
            a.write(f"f{number}", b"\0%d" % number * 500)
        await converge(first, second)
    assert len(begun) == 300
    assert set(begun.values()) == {1}
