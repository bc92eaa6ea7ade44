"""Extended attributes: how sets become one, what follows from a look at the disk, and the calls of a real disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.index.xattrs import Xattrs, followed, merged, sorted_xattrs, united
from p2psync.limits import XATTRS_MAX
from p2psync.planner.xattrs import HeldXattrs, Look, after_crash, after_setting
from p2psync.replica.filesystem import NotRegularFile, temp_path
from p2psync.replica.local_filesystem import LocalFilesystem

NAMES = [b"user.a", b"user.b", b"user.c", b"user.d"]
SETS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([b"", b"1", b"2"])).map(
    lambda found: sorted_xattrs(found.items())
)
UNKNOWN = st.sampled_from([Look.UNKNOWN, Look.TOO_LARGE, Look.UNSUPPORTED])
HUGE: Xattrs = ((b"user.huge", bytes(XATTRS_MAX - 100)),)


@given(SETS, SETS)
def test_a_first_look_loses_nothing_and_is_a_change_only_if_the_disk_says_more(agreed: Xattrs, disk: Xattrs) -> None:
    held = HeldXattrs(agreed).looked(disk)
    assert held.agreed == united(agreed, disk)
    assert dict(held.agreed).keys() == dict(agreed).keys() | dict(disk).keys() and set(disk) <= set(held.agreed)
    assert (held.agreed == agreed) == (set(disk) <= set(agreed))
    assert held.look is (Look.SEEN if held.agreed == disk else Look.OWED)


@given(SETS, SETS, SETS)
def test_a_later_look_takes_in_what_changed_on_the_disk_and_nothing_else(
    agreed: Xattrs, before: Xattrs, now: Xattrs
) -> None:
    held = HeldXattrs(agreed, before, Look.SEEN).looked(now)
    assert followed(agreed, now, now) == agreed, "no change is none"
    old, new, result = dict(before), dict(now), dict(held.agreed)
    for name in NAMES:
        expected = dict(agreed).get(name) if old.get(name) == new.get(name) else new.get(name)
        assert result.get(name) == expected
    assert held.shows(now) and held.looked(now) == held
    assert followed(before, before, now) == now


@given(SETS, st.none() | SETS, UNKNOWN, SETS)
def test_what_cannot_be_looked_at_changes_nothing_that_is_agreed(
    agreed: Xattrs, before: Xattrs | None, unknown: Look, now: Xattrs
) -> None:
    """A device without them must never take them from the others."""
    held = HeldXattrs(agreed, before, Look.SEEN if before is not None else Look.UNSEEN)
    blind = held.looked(unknown)
    assert blind.agreed == agreed and blind.shows(unknown) and blind.has(()) and not blind.shows(now)
    assert blind.looked(now).agreed == held.looked(now).agreed, "and later a look goes on from where it was"
    assert held.unseen() == HeldXattrs(agreed)


def test_a_set_that_no_record_can_carry_is_not_agreed() -> None:
    held = HeldXattrs(HUGE, HUGE, Look.SEEN).looked((*HUGE, (b"user.more", bytes(200))))
    assert (held.agreed, held.look) == (HUGE, Look.TOO_LARGE)
    assert held.looked(()).agreed == ()


@given(SETS, SETS, SETS)
def test_a_merge_takes_each_name_from_the_side_that_changed_it(base: Xattrs, one: Xattrs, other: Xattrs) -> None:
    result, parts = dict(merged(base, one, other)), [dict(each) for each in (base, one, other)]
    for name in NAMES:
        was, winner, loser = (part.get(name) for part in parts)
        assert result.get(name) == (loser if winner == was else winner)
    assert merged(base, one, base) == one and merged(base, base, other) == other


@given(SETS, SETS, st.data())
def test_setting_that_was_cut_short_anywhere_is_told_from_what_a_user_did(
    before: Xattrs, wanted: Xattrs, data: st.DataObject
) -> None:
    """The kernel sets them one by one: each name may show the old or the new state."""
    old, new = dict(before), dict(wanted)
    torn = {
        name: value
        for name in NAMES
        if (value := (old if data.draw(st.booleans()) else new).get(name)) is not None
    }  # fmt: skip
    disk = sorted_xattrs(torn.items())
    placed, intended = HeldXattrs(before, before, Look.SEEN), after_setting(wanted, wanted)
    for now, then in ((intended, placed), (placed, intended)):
        held = after_crash(now, then, disk)
        assert held.shows(disk), "nothing of it is the user's"
        assert held.agreed == now.agreed and (held.look is Look.SEEN) == (disk == now.agreed)
    mine = sorted_xattrs({**torn, data.draw(st.sampled_from(NAMES)): b"by the user"}.items())
    held = after_crash(intended, placed, mine)
    assert not held.shows(mine)
    assert (b"by the user") in dict(held.looked(mine).agreed).values()
    assert after_crash(placed, intended, Look.UNSUPPORTED) == placed


# The calls.


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LocalFilesystem]:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "d").mkdir()
    try:
        os.setxattr(tmp_path / "file", "user.a", b"1")
    except OSError as error:
        pytest.skip(f"{tmp_path} keeps no extended attributes: {error.strerror}")
    with LocalFilesystem(tmp_path) as filesystem:
        yield filesystem


FILE, DIRECTORY = (b"file",), (b"d",)


def test_a_set_becomes_exactly_the_one_wanted_and_other_names_stay(tree: LocalFilesystem, tmp_path: Path) -> None:
    file = tmp_path / "file"
    foreign = ["user.overlay.origin", "user.rsync.%aacl"] + (["trusted.a"] if os.geteuid() == 0 else [])
    for name in foreign:
        os.setxattr(file, name, b"theirs")
    wanted: Xattrs = ((b"user.b", b"\0\xff"), (b"user.empty", b""))
    assert tree.xattrs(FILE) == ((b"user.a", b"1"),)
    assert tree.set_xattrs(FILE, wanted) == wanted == tree.xattrs(FILE)
    assert set(os.listxattr(file)) >= {*foreign, "user.b", "user.empty"}
    with tree.open_file(FILE) as opened:
        assert opened.xattrs() == wanted
    assert tree.set_xattrs(DIRECTORY, wanted) == wanted == tree.xattrs(DIRECTORY)
    assert tree.set_xattrs(FILE, ()) == () == tree.xattrs(FILE)
    with tree.open_temp((b"new",), True) as temp:
        assert temp.set_xattrs(wanted) == wanted
        temp.set_meta(0o444, 0)
    assert tree.xattrs(temp_path((b"new",))) == wanted


@pytest.mark.parametrize("mode", [0o444, 0o400, 0o200, 0o000, 0o4555])
def test_a_mode_that_forbids_it_is_as_before_afterwards(tree: LocalFilesystem, tmp_path: Path, mode: int) -> None:
    for name, path in (("file", FILE), ("d", DIRECTORY)):
        (tmp_path / name).chmod(mode)
        assert tree.set_xattrs(path, ((b"user.b", b"2"),)) == ((b"user.b", b"2"),)
        assert (tmp_path / name).stat().st_mode & 0o7777 == mode
        (tmp_path / name).chmod(0o700)
        assert os.getxattr(tmp_path / name, "user.b") == b"2"


def test_nothing_is_set_through_a_symlink_or_on_something_special(tree: LocalFilesystem, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "away").symlink_to("d")
    os.mkfifo(tmp_path / "fifo")
    for name in (b"link", b"fifo"):
        with pytest.raises(NotRegularFile):
            tree.set_xattrs((name,), ((b"user.b", b"2"),))
        with pytest.raises(NotRegularFile):
            tree.xattrs((name,))
    with pytest.raises(NotADirectoryError):
        tree.set_xattrs((b"away", b"x"), ())
    with pytest.raises(FileNotFoundError):
        tree.xattrs((b"missing",))
    assert os.listxattr(tmp_path / "file") == ["user.a"]


def test_a_refused_attribute_stops_neither_the_others_nor_the_file(
    tree: LocalFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.setxattr

    def small(path: int | str, name: bytes, value: bytes) -> None:
        if len(value) > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, name, value)

    monkeypatch.setattr(os, "setxattr", small)
    wanted: Xattrs = ((b"user.b", b"x" * 20), (b"user.c", b"fits"))
    shown = tree.set_xattrs(FILE, wanted)
    assert shown == ((b"user.c", b"fits"),) and after_setting(wanted, shown).look is Look.REFUSED


@pytest.mark.parametrize(
    ("refusal", "look"),
    [(errno.EOPNOTSUPP, Look.UNSUPPORTED), (errno.EACCES, Look.UNKNOWN), (errno.E2BIG, Look.TOO_LARGE)],
)
def test_why_nothing_can_be_read_is_told_and_nothing_is_touched_then(
    tree: LocalFilesystem, monkeypatch: pytest.MonkeyPatch, refusal: int, look: Look
) -> None:
    def refuse(*arguments: object) -> list[str]:
        raise OSError(refusal, os.strerror(refusal))

    with monkeypatch.context() as patched:
        patched.setattr(os, "listxattr", refuse)
        assert tree.xattrs(FILE) is look is tree.set_xattrs(FILE, ())
    assert tree.xattrs(FILE) == ((b"user.a", b"1"),)


def test_a_disk_that_lists_none_is_asked_whether_it_keeps_any(
    tree: LocalFilesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FAT answers: an empty list must not be taken for a user's removal."""
    assert tree.xattrs(DIRECTORY) == ()

    def refuse(*arguments: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "getxattr", refuse)
    assert tree.xattrs(DIRECTORY) is Look.UNSUPPORTED
