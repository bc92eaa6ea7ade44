"""Settling conflicts on real replicas: one side or both stay, on every device, and what goes is in history."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2psync.errors import UserError
from p2psync.replica.conflicts import Keep
from tests.replica.test_text_merges import BASE, Folder, contents
from tests.support.devices import converge

pytestmark = pytest.mark.slow

MINE, THEIRS = BASE.replace(b"one", b"mine"), BASE.replace(b"one", b"theirs")


async def _apart(directory: Path) -> Folder:
    folder = Folder(directory, "ab")
    a, b = folder.devices
    await folder.begin(**{"f.md": BASE})
    a.write("f.md", MINE)
    b.write("f.md", THEIRS)
    await folder.meet()
    return folder


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("keep", Keep)
async def test_a_settled_conflict_leaves_what_was_chosen_on_every_device(
    tmp_path: Path, keep: Keep, published: bool
) -> None:
    folder = await _apart(tmp_path)
    a, b = folder.devices
    if published:  # somebody touched the copy before
        copy = next(name for name in contents(b) if "sync-conflict" in name)
        (b.root / copy).chmod(0o600)
        await folder.meet()
    async with folder.meeting() as replicas:
        await converge(*replicas)
        (conflict,) = await replicas[0].conflicts.all()
        assert conflict.path == (b"f.md",) and len(conflict.copies) == 1
        assert await replicas[0].conflicts.resolve((b"f.md",), keep) == (b"f.md",)
        await converge(*replicas)
        await converge(*replicas)
        assert [await replica.conflicts.all() for replica in replicas] == [[], []]
        past = [
            each.version.hash for each in await replicas[0].past.history((b"f.md",), 100) if each.version is not None
        ]
        assert len(past) >= 3
    assert contents(a) == contents(b)
    assert not any("sync-conflict" in name for name in contents(a))
    if keep is Keep.BOTH:
        assert sorted(contents(a).values()) == sorted([MINE, THEIRS])
    elif not published:
        assert contents(a) == {"f.md": MINE if keep is Keep.MINE else THEIRS}
    else:
        assert contents(a)["f.md"] in (MINE, THEIRS) and len(contents(a)) == 1


async def test_the_sides_of_a_conflict_are_compared_line_by_line(tmp_path: Path) -> None:
    folder = await _apart(tmp_path)
    async with folder.meeting() as (first, _):
        ((_, _, lines),) = await first.conflicts.difference((b"f.md",))
        assert {"-mine", "+theirs"} <= set(lines) or {"+mine", "-theirs"} <= set(lines)
        with pytest.raises(UserError, match="no conflict copy"):
            await first.conflicts.resolve((b"other",), Keep.MINE)


async def test_an_edit_that_was_not_looked_at_is_never_settled_away(tmp_path: Path) -> None:
    folder = await _apart(tmp_path)
    a, b = folder.devices
    async with folder.meeting() as replicas:
        await converge(*replicas)
        a.write("f.md", b"written at the last moment\n")
        await replicas[0].conflicts.resolve((b"f.md",), Keep.THEIRS)
        await converge(*replicas)
        past = await replicas[0].past.history((b"f.md",), 100)
    late = b"written at the last moment\n"
    in_history = any(each.past.size == len(late) for each in past)
    assert late in contents(a).values() or in_history
    assert contents(a) == contents(b)
