"""Text merges on real replicas: different lines come together under one name, and nobody's text is lost on the way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from p2psync.errors import UserError
from p2psync.replica.replica import Replica
from tests.support.devices import converge
from tests.support.parting import Folder, contents

pytestmark = pytest.mark.slow

BASE = b"one\ntwo\nthree\nfour\nfive\n"
FIRST, LAST = BASE.replace(b"one", b"ONE"), BASE.replace(b"five", b"FIVE")
BOTH = FIRST.replace(b"five", b"FIVE")


async def test_edits_of_different_lines_come_together_without_a_conflict_copy(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    await folder.begin(f=BASE)
    a.write("f", FIRST)
    b.write("f", LAST)
    (b.root / "f").chmod(0o700)
    await folder.meet()
    assert contents(a) == contents(b) == {"f": BOTH}
    assert a.tree()["f"][2] == b.tree()["f"][2] == 0o700
    async with folder.meeting() as (first, _):
        assert (await first.status()).conflicts == 0
        past = {past.version.hash for past in await first.past.history((b"f",), 100) if past.version is not None}
    assert len(past) >= 4, "both sides stay in history beside the base and what came of them"


async def test_edits_of_one_line_stay_a_conflict(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    await folder.begin(f=BASE)
    a.write("f", FIRST)
    b.write("f", BASE.replace(b"one", b"another"))
    await folder.meet()
    assert contents(a) == contents(b) and sorted(contents(a).values()) == sorted(
        [FIRST, BASE.replace(b"one", b"another")]
    )


async def test_a_folder_can_go_without_merges(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    await folder.begin(f=BASE)
    async with folder.meeting() as replicas:
        for replica in replicas:
            await replica.conflicts.set_text_merge(False)
    a.write("f", FIRST)
    b.write("f", LAST)
    await folder.meet()
    assert sorted(contents(a).values()) == sorted(contents(b).values()) == sorted([FIRST, LAST])
    async with folder.meeting() as replicas:
        await replicas[0].conflicts.set_text_merge(True)
        await converge(*replicas)
        await converge(*replicas)
    assert contents(a) == contents(b) == {"f": BOTH}


async def test_only_who_wrote_one_of_the_sides_merges_them(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "abc")
    a, b, c = folder.devices
    await folder.begin(f=BASE)
    a.write("f", FIRST)
    await folder.meet(a)
    async with folder.meeting(b) as (second,):
        await second.conflicts.set_text_merge(False)
    b.write("f", LAST)
    await folder.meet(b)
    await folder.meet(c)
    assert sorted(contents(c).values()) == sorted([FIRST, LAST])
    await folder.meet(a)
    await folder.meet(c)
    assert contents(a) == contents(c) == {"f": BOTH}


async def test_two_devices_that_merge_at_once_make_no_conflict(tmp_path: Path) -> None:
    """Each learns of the other's edit from its own copy of the store's past, and neither of the other's merge."""
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    await folder.begin(f=BASE)
    a.write("f", FIRST)
    b.write("f", LAST)
    async with folder.meeting() as replicas:
        await converge(*replicas)
        await converge(*replicas)
        assert [(await replica.status()).conflicts for replica in replicas] == [0, 0]
    assert contents(a) == contents(b) == {"f": BOTH}
    a.write("f", BOTH + b"six\n")
    await folder.meet()
    assert contents(a) == contents(b) == {"f": BOTH + b"six\n"}


async def test_long_texts_merge_and_reach_a_device_that_only_asks_the_store(tmp_path: Path) -> None:
    dice = random.Random(1)
    lines = [b"%d %d\n" % (number, dice.getrandbits(300)) for number in range(4000)]
    first, last = list(lines), list(lines)
    first[3], last[-3] = b"A\n", b"B\n"
    both = list(first)
    both[-3] = b"B\n"
    folder = Folder(tmp_path, "abc")
    a, b, c = folder.devices
    await folder.begin(f=b"".join(lines))
    a.write("f", b"".join(first))
    b.write("f", b"".join(last))
    await folder.meet(a, b)
    await folder.meet(c)
    assert contents(a) == contents(b) == contents(c) == {"f": b"".join(both)}


@pytest.mark.parametrize("writer", [0, 1])
async def test_an_edit_made_while_the_others_arrive_is_kept(tmp_path: Path, writer: int) -> None:
    """Whatever is merged, what the user writes in that moment is in the file or in a conflict copy."""
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    await folder.begin(f=BASE)
    a.write("f", FIRST)
    b.write("f", LAST)
    late = folder.devices[writer]
    async with folder.meeting() as replicas:
        for number in range(40):
            late.write("f", late.root.joinpath("f").read_bytes() + b"late %d\n" % number)
        await converge(*replicas)
        await converge(*replicas)
    assert contents(a) == contents(b)
    everything = b"".join(contents(a).values())
    assert all(b"late %d\n" % number in everything for number in range(40))
    assert b"ONE" in everything and b"FIVE" in everything


async def accept_all(replica: Replica) -> None:
    """Let through what is held, and what comes of the same after that."""
    while True:
        await replica.accept_held()
        try:
            await converge(replica)
            return
        except UserError:
            continue


async def test_what_the_brake_holds_is_merged_into_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    many = {f"{number}.bin": b"\0%d" % number for number in range(40)}
    await folder.begin(f=BASE, **many)
    for name in many:
        (a.root / name).unlink()
    await folder.meet(a)
    a.write("f", FIRST)
    await folder.meet(a)
    b.write("f", LAST)
    async with folder.meeting(b) as (second,):
        with pytest.raises(UserError, match="held"):
            await converge(second)
        await second.rescan()
        await trio.sleep(0.3)  # long enough for a merge that would be wrong
        assert contents(b)["f"] == LAST and BOTH not in contents(b).values() and contents(b).items() >= many.items()
        await accept_all(second)
        await converge(second)
    assert contents(b) == {"f": BOTH}
