"""Files being put together: what was verified once is not read again, what was swapped is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2psync.catalog.catalog import Catalog
from p2psync.ids import ChunkId, FeedId, Plaintext
from p2psync.index.versions import Content, Dot, Kind, Version
from p2psync.planner.steps import Step
from p2psync.replica.assembly import Assembler, Assembly
from p2psync.replica.context import Context
from p2psync.replica.filesystem import TempFile, temp_name
from p2psync.replica.founding import bare_context
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.plans import Plan
from tests.support.devices import Device

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


def begin_and_take_first(context: Context, unfinished: dict[tuple[bytes, ...], Assembly]) -> Path:
    """Assemble one chunk of three and leave; returns the temp."""
    assembler = Assembler(context, unfinished)
    assembler.begin([plan(context)])
    assert assembler.take(chunks(context)[0], PARTS[0]) == []
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
        assert assembler.take(chunk, part) == []
    assert still_wanted(context, {})[0] == 0


def test_chunks_that_come_at_once_make_one_file(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker has just made the temp and not yet written when another comes with the next chunk."""
    assembler = Assembler(context, {})
    assembler.begin([plan(context)])
    (first, *others), done = list(zip(chunks(context), PARTS, strict=True)), list[Assembly]()
    workers = [threading.Thread(target=lambda each=each: done.extend(assembler.take(*each))) for each in others]
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
    done += assembler.take(*first)
    for worker in workers:
        worker.join()
    assert [assembly.complete and not assembly.spoiled for assembly in done] == [True]
    assert not assembler.leave()


def test_a_batch_says_that_something_came_in_vain(context: Context) -> None:
    assembler = Assembler(context, {})
    assembler.begin([plan(context)])
    first, second, _ = zip(chunks(context), PARTS, strict=True)
    assembler.take(*first)
    (Path(os.fsdecode(context.filesystem.root)) / os.fsdecode(temp_name(b"f"))).unlink()
    assembler.take(*second)
    assert assembler.leave()
