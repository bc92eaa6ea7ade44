"""Files being put together: what was verified once is not read again, what was swapped is."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2psync.catalog.catalog import Catalog
from p2psync.errors import StorageError
from p2psync.ids import ChunkId, FeedId, Plaintext
from p2psync.index.versions import Content, Dot, Kind, Version
from p2psync.planner.steps import Step
from p2psync.replica.assembly import Assembler, Assembly
from p2psync.replica.context import Context
from p2psync.replica.filesystem import TempFile, temp_name, temp_path
from p2psync.replica.founding import bare_context
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.plans import Plan
from p2psync.replica.scanner import fingerprint_of
from tests.support.devices import Device

MTIME = 1_700_000_000_123_456_789
PARTS = [Plaintext(bytes([number]) * 1000) for number in range(3)]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    device = Device(tmp_path, 1)
    device.found()
    catalog = Catalog(device.catalog)
    context = bare_context(
        catalog, device.keystore.load_folder(catalog.folder), device.keys, device.randomness, device.clock
    )
    with LocalFilesystem(device.root) as filesystem:
        context.opened = filesystem
        yield context
    catalog.close()


def chunks(context: Context) -> list[ChunkId]:
    return [context.secrets.generation.chunk_id(part) for part in PARTS]


def plan(context: Context) -> Plan:
    rows = b"".join(chunk + (1000).to_bytes(4, "big") for chunk in chunks(context))
    dot = Dot(FeedId(bytes(32)), 1, 0)
    version = Version(
        path=(b"f",), dot=dot, kind=Kind.FILE, vector={dot.feed: 1}, size=3000, mode=0o644,
        content=Content(chunks=rows, parameters=(1, 2, 3)),
    )  # fmt: skip
    return Plan(path=(b"f",), step=Step.WRITE, wanted=None, version=version, base=None, rows=rows)


Small = dict[tuple[bytes, ...], Plaintext]


def small_plans(context: Context, files: Small, mode: int = 0o644) -> list[Plan]:
    """Files of one chunk."""
    plans = []
    for index, (path, data) in enumerate(files.items()):
        rows = context.secrets.generation.chunk_id(data) + len(data).to_bytes(4, "big")
        dot = Dot(FeedId(bytes(32)), 1, index)
        version = Version(
            path=path, dot=dot, kind=Kind.FILE, vector={dot.feed: 1}, size=len(data), mode=mode, mtime_ns=MTIME,
            content=Content(chunks=rows, parameters=(1, 2, 3)),
        )  # fmt: skip
        plans.append(Plan(path=path, step=Step.WRITE, wanted=None, version=version, base=None, rows=rows))
    return plans


def came(context: Context, files: Small) -> list[tuple[ChunkId, Plaintext]]:
    return [(context.secrets.generation.chunk_id(data), data) for data in dict.fromkeys(files.values())]


def temps_of(context: Context, files: Small) -> list[Path]:
    return [root_of(context) / os.fsdecode(b"/".join(temp_path(path))) for path in files]


def root_of(context: Context) -> Path:
    assert isinstance(context.opened, LocalFilesystem)
    return Path(os.fsdecode(context.opened.root))


def begin_and_take_first(context: Context, unfinished: dict[tuple[bytes, ...], Assembly]) -> Path:
    """Assemble one chunk of three and leave; returns the temp."""
    assembler = Assembler(context, unfinished)
    assembler.begin([plan(context)])
    assert assembler.take([(chunks(context)[0], PARTS[0])]) == []
    assembler.leave()
    assert isinstance(context.opened, LocalFilesystem)
    return Path(os.fsdecode(context.opened.root)) / os.fsdecode(temp_name(b"f"))


def still_wanted(context: Context, unfinished: dict[tuple[bytes, ...], Assembly]) -> list[int]:
    assembler = Assembler(context, unfinished)
    assembler.begin([plan(context)])
    return [index for index, chunk in enumerate(chunks(context)) if chunk in assembler.wanted]


def test_chunks_of_an_earlier_batch_are_not_read_again(context: Context) -> None:
    unfinished: dict[tuple[bytes, ...], Assembly] = {}
    temp = begin_and_take_first(context, unfinished)
    with temp.open("r+b") as file:
        file.write(b"this would not verify, so whoever looks would notice")
    assert still_wanted(context, unfinished) == [1, 2]


def test_a_temp_of_another_process_is_worth_what_verifies(context: Context) -> None:
    temp = begin_and_take_first(context, {})
    assert still_wanted(context, {}) == [1, 2]
    with temp.open("r+b") as file:
        file.write(b"damaged")
    assert still_wanted(context, {}) == [0, 1, 2]


@pytest.mark.parametrize("inode_is_reused", [False, True])
def test_a_temp_that_was_swapped_is_never_taken_for_complete(context: Context, inode_is_reused: bool) -> None:
    unfinished: dict[tuple[bytes, ...], Assembly] = {}
    temp = begin_and_take_first(context, unfinished)
    assembler = Assembler(context, unfinished)
    assembler.begin([plan(context)])
    if inode_is_reused:
        temp.unlink()
    else:
        temp.rename(temp.with_name("kept"))
    for chunk, part in list(zip(chunks(context), PARTS, strict=True))[1:]:
        assert assembler.take([(chunk, part)]) == []
    assert still_wanted(context, {})[0] == 0


def test_chunks_that_come_at_once_make_one_file(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker has just made the temp and not yet written when another comes with the next chunk."""
    assembler = Assembler(context, {})
    assembler.begin([plan(context)])
    (first, *others), done = list(zip(chunks(context), PARTS, strict=True)), list[Assembly]()
    workers = [threading.Thread(target=lambda each=each: done.extend(assembler.take([each]))) for each in others]
    assert isinstance(context.opened, LocalFilesystem)
    really_open = context.opened.open_temp

    @contextmanager
    def open_temp(path: tuple[bytes, ...], create: bool) -> Iterator[TempFile]:
        with really_open(path, create) as temp:
            if create:
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join(0.1)
            yield temp

    monkeypatch.setattr(context.opened, "open_temp", open_temp)
    done += assembler.take([first])
    for worker in workers:
        worker.join()
    assert [assembly.complete and not assembly.spoiled for assembly in done] == [True]
    assert not assembler.leave()


def test_a_batch_says_that_something_came_in_vain(context: Context) -> None:
    assembler = Assembler(context, {})
    assembler.begin([plan(context)])
    first, second, _ = zip(chunks(context), PARTS, strict=True)
    assembler.take([first])
    (Path(os.fsdecode(context.filesystem.root)) / os.fsdecode(temp_name(b"f"))).unlink()
    assembler.take([second])
    assert assembler.leave()


# Small files, which are written together.


def test_small_files_are_complete_whatever_stands_in_the_way_of_some(context: Context) -> None:
    root = root_of(context)
    (root / "d").mkdir()
    (root / "file").touch()
    (root / "link").symlink_to("d")
    files = {
        (b"d", b"one"): Plaintext(b"1"), (b"d", b"begun"): Plaintext(b"22"), (b"d", b"again"): Plaintext(b"1"),
        (b"file", b"f"): Plaintext(b"333"), (b"link", b"f"): Plaintext(b"4444"), (b"d", b"bin"): Plaintext(b"\0" * 5),
        (b"gone", b"f"): Plaintext(b"666666"),
    }  # fmt: skip
    (root / "d" / os.fsdecode(temp_name(b"begun"))).write_bytes(b"of another version, and longer")
    plans = small_plans(context, files)
    assembler = Assembler(context, {})
    assert assembler.begin(plans) == []
    done = assembler.take(came(context, files))
    refused = {(b"file", b"f"), (b"link", b"f"), (b"gone", b"f")}
    assert {assembly.plan.path for assembly in done} == files.keys() - refused == files.keys() - context.refused.keys()
    for one in (assembly.plan for assembly in done):
        temp = context.filesystem.temp_stat(one.path)
        assert temp is not None and one.temp == fingerprint_of(temp) and (temp.mode, temp.mtime_ns) == (0o644, MTIME)
        with context.filesystem.open_temp(one.path, False) as file:
            assert file.read(0, 100) == files[one.path]
        assert one.whole == (None if one.path[-1] == b"bin" else files[one.path])
    assert sorted(os.listdir(root / "d")) == sorted(
        os.fsdecode(temp_name(path[-1])) for path in files if path not in refused
    )


def test_what_a_full_disk_left_of_small_files_is_verified_before_it_counts(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Small = {(b"%d" % number,): Plaintext(bytes([number]) * 100) for number in range(5)}
    assembler = Assembler(context, {})
    assembler.begin(small_plans(context, files))
    really_write, written = os.write, []

    def write(descriptor: int, data: bytes) -> int:
        written.append(data)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "no space left on device")
        return really_write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(StorageError, match="disk is full"):
            assembler.take(came(context, files))
    temps = temps_of(context, files)
    assert [temp.stat().st_size if temp.exists() else None for temp in temps] == [100, 100, 0, None, None]
    temps[1].write_bytes(b"damaged")
    again = Assembler(context, {})
    assert [assembly.plan.path for assembly in again.begin(small_plans(context, files))] == [(b"0",)]
    assert len(again.take(came(context, files))) == 4
    assert [temp.read_bytes() for temp in temps] == list(files.values())


def test_with_extended_attributes_every_file_goes_the_usual_way(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Small = {(b"a",): Plaintext(b"1"), (b"b",): Plaintext(b"2")}
    monkeypatch.setattr(context.shape, "xattrs", True)
    monkeypatch.setattr(LocalFilesystem, "write_temps", None)
    assembler = Assembler(context, {})
    assembler.begin(small_plans(context, files))
    assert [assembly.plan.xattrs.known for assembly in assembler.take(came(context, files))] == [True, True]


@contextmanager
def nobody(root: Path) -> Iterator[None]:
    """An ordinary user, to whom the tree belongs."""
    if os.geteuid() != 0:
        yield
        return
    for path in [root, *root.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_temp_that_nobody_may_write_any_more_is_made_anew(context: Context) -> None:
    """A file without the permission to write it, of whose device the process was killed just before the rename."""
    files: Small = {(b"locked",): Plaintext(b"1")}
    with nobody(root_of(context)):
        for _ in range(2):
            assembler = Assembler(context, {})
            done = assembler.begin(small_plans(context, files, 0o444)) or assembler.take(came(context, files))
            assert len(done) == 1 and not context.refused
            temp = context.filesystem.temp_stat((b"locked",))
            assert temp is not None and (temp.mode, fingerprint_of(temp)) == (0o444, done[0].plan.temp)
