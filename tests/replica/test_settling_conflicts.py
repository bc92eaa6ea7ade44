"""Settling conflicts on real replicas: what was chosen stands everywhere, what went is in history, no edit is overruled."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2psync.errors import UserError
from p2psync.index.paths import show
from p2psync.planner.conflicts import Keep
from p2psync.replica.bases import content_of
from p2psync.replica.conflicts import Merged
from p2psync.replica.replica import Replica
from tests.support.devices import converge
from tests.support.parting import Folder, contents

pytestmark = pytest.mark.slow

PATH = (b"f.txt",)
A, B, C = b"of a\n", b"of b\n", b"of both\n"


async def parted(tmp_path: Path, published: bool = False) -> Folder:
    """a and b have one conflict; with `published`, the copy stands under a name of its own."""
    folder = Folder(tmp_path, "ab")
    a, b = folder.devices
    await folder.begin(**{"f.txt": b"base\n"})
    a.write("f.txt", A)
    b.write("f.txt", B)
    await folder.meet()
    if published:
        (copy,) = a.root.glob("*.sync-conflict-*")
        copy.chmod(0o640)
        await folder.meet()
    return folder


async def past_texts(replica: Replica) -> set[bytes | None]:
    """Every content that this device alone can restore from the folder's history."""
    versions = [past.version for past in await replica.past.history((), 200) if past.version is not None]
    return {content_of(replica._context, version) for version in versions}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("keep", [Keep.MINE, Keep.THEIRS])
async def test_the_side_that_is_kept_stands_everywhere_and_the_other_is_in_history(
    tmp_path: Path, keep: Keep, published: bool
) -> None:
    folder = await parted(tmp_path, published)
    a, b = folder.devices
    async with folder.meeting() as (first, second):
        (conflict,) = await first.conflicts.all()
        assert conflict.path == PATH and len(conflict.copies) == 1 and conflict.standing is not None
        own = first._context.device.identity_key
        mine = next(side for side in (conflict.standing, *conflict.copies) if side.whose == own)
        side = contents(a)[show(mine.path)]
        assert published or side == A
        stands = side if keep is Keep.MINE else ({A, B} - {side}).pop()
        assert await first.conflicts.resolve(PATH, keep) == PATH
        await converge(first, second)
        assert await first.conflicts.all() == await second.conflicts.all() == []
        assert contents(a) == contents(b) == {"f.txt": stands}
        assert {A, B} <= await past_texts(first) and {A, B} <= await past_texts(second)
    b.write("f.txt", C)
    await folder.meet()
    assert contents(a) == contents(b) == {"f.txt": C}


async def test_both_sides_can_be_kept_under_names_of_their_own(tmp_path: Path) -> None:
    folder = await parted(tmp_path)
    a, b = folder.devices
    async with folder.meeting() as (first, second):
        await first.conflicts.resolve(PATH, Keep.BOTH)
        await converge(first, second)
        assert await first.conflicts.all() == await second.conflicts.all() == []
    assert contents(a) == contents(b) and sorted(contents(a).values()) == sorted([A, B])
    assert not [name for name in contents(a) if "sync-conflict" in name]


@pytest.mark.parametrize("published", [False, True])
async def test_what_the_user_merged_stands_and_covers_both(tmp_path: Path, published: bool) -> None:
    folder = await parted(tmp_path, published)
    a, b = folder.devices
    async with folder.meeting() as (first, second):
        texts = await first.conflicts.texts(PATH)
        assert {texts.mine, texts.theirs} == {A, B} and texts.base == b"base\n"
        assert published or texts.mine == A
        await first.conflicts.resolve(texts.copy, Merged(texts, C))
        await converge(first, second)
        assert await first.conflicts.all() == await second.conflicts.all() == []
    assert contents(a) == contents(b) == {"f.txt": C}


async def test_a_merge_of_what_has_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    folder = await parted(tmp_path)
    a, b = folder.devices
    async with folder.meeting() as (first, second):
        texts = await first.conflicts.texts(PATH)
        b.write("f.txt", b"newer\n")
        await converge(first, second)
        before = contents(a)
        with pytest.raises(UserError, match="changed meanwhile"):
            await first.conflicts.resolve(texts.copy, Merged(texts, C))
        await converge(first, second)
    assert contents(a) == contents(b) == before and b"newer\n" in before.values()


@pytest.mark.parametrize("how", [Keep.MINE, Keep.THEIRS, Keep.BOTH])
@pytest.mark.parametrize("edited", ["f.txt", "copy"])
async def test_an_edit_that_nobody_has_looked_at_is_never_settled_away(tmp_path: Path, how: Keep, edited: str) -> None:
    """The user saves in the moment the conflict is settled: his text stands, or is in a copy or in history."""
    folder = await parted(tmp_path)
    a, b = folder.devices
    (copy,) = a.root.glob("*.sync-conflict-*")
    path = a.root / "f.txt" if edited == "f.txt" else copy
    async with folder.meeting() as (first, second):
        path.write_bytes(b"just now\n")
        try:
            await first.conflicts.resolve(PATH, how)
        except UserError as refused:
            assert "again" in str(refused) or "no conflict copy" in str(refused)
        await converge(first, second)
        assert contents(a) == contents(b)
        assert b"just now\n" in set(contents(a).values()) | await past_texts(first)


async def test_the_sides_of_a_conflict_are_compared_line_by_line(tmp_path: Path) -> None:
    folder = await parted(tmp_path)
    async with folder.meeting() as (first, _):
        ((_, _, lines),) = await first.conflicts.difference(PATH)
        assert {line[1:] for line in lines[3:]} == {"of a", "of b"}
        with pytest.raises(UserError, match="no conflict copy"):
            await first.conflicts.resolve((b"other",), Keep.MINE)
