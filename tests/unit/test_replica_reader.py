"""The reader: a description of one state of a file, or an error."""

from __future__ import annotations

import os
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.chunking.chunker import Chunker, Parameters
from p2psync.crypto.hashing import keyed_hash
from p2psync.limits import CHUNK_MAX, KIB, MIB
from p2psync.replica import reader
from p2psync.replica.filesystem import NotRegularFile, Path
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.open_files import LocalOpenFile
from p2psync.replica.reader import CHUNK_ENTRY, ChangedWhileRead, Content, ReadStopped, read_content, whole_content

KEY = bytes(range(32))
SEED = 0x1234_5678_9ABC_DEF0
FILE = (b"file",)


def describe(data: bytes) -> bytes:
    """What the chunk list must be, from the whole content at once."""
    parts, at = [], 0
    for length in Chunker(Parameters.for_size(len(data)), SEED).cut(data, True):
        parts.append(keyed_hash(KEY, data[at : at + length]) + length.to_bytes(4, "big"))
        at += length
    return b"".join(parts)


def read(root: FilePath, inline_limit: int = 64 * KIB) -> Content:
    with LocalFilesystem(root) as disk:
        return read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=inline_limit)


SIZES = [0, 1, 64 * KIB, 64 * KIB + 1, 300 * KIB, MIB, 3 * MIB - 1, 9 * MIB + 77]


@pytest.mark.parametrize("size", SIZES)
def test_a_description_is_that_of_the_whole_content(tmp_path: FilePath, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    content = read(tmp_path)
    assert content.chunks == describe(data)
    assert content.parameters == Parameters.for_size(size)
    assert content.stat.size == size
    assert content.inline == (data if size <= 64 * KIB else None)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [b"", b"\0"])
def test_a_large_file_is_described_like_a_small_one(tmp_path: FilePath, fill: bytes) -> None:
    data = random.Random(1).randbytes(33 * MIB) + fill * (20 * MIB) + random.Random(2).randbytes(33 * MIB + 5)
    (tmp_path / "file").write_bytes(data)
    assert read(tmp_path).chunks == describe(data)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(0, 3 * MIB), inline_limit=st.sampled_from([0, 1000, 2 * MIB]), window=st.integers(0, 9999))
def test_no_size_or_window_changes_a_description(
    tmp_path_factory: pytest.TempPathFactory, size: int, inline_limit: int, window: int
) -> None:
    root = tmp_path_factory.mktemp("sizes")
    data = random.Random(size).randbytes(size)
    (root / "file").write_bytes(data)
    view = memoryview(bytearray(2 * MIB + window))
    reader._windows.append(view)
    try:
        content = read(root, inline_limit)
    finally:
        reader._windows.remove(view)
    assert content.chunks == describe(data)
    assert (content.inline is not None) == (size <= inline_limit)


def test_threads_that_take_turns_share_one_window(tmp_path: FilePath) -> None:
    (tmp_path / "file").write_bytes(random.Random(3).randbytes(9 * MIB))
    reader._windows.clear()
    for _ in range(3):
        thread = threading.Thread(target=read, args=(tmp_path,))
        thread.start()
        thread.join()
    assert len(reader._windows) == 1
    reader.give_back_windows()
    assert not reader._windows


def test_an_empty_file_has_no_chunks(tmp_path: FilePath) -> None:
    (tmp_path / "file").touch()
    content = read(tmp_path)
    assert content.chunks == b"" and content.inline == b""


def test_content_is_not_shown(tmp_path: FilePath) -> None:
    (tmp_path / "file").write_bytes(b"a private thought")
    assert "private" not in repr(read(tmp_path))


def grow(path: FilePath) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: FilePath) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(5, 5))


@pytest.mark.parametrize("size", [10, 5 * MIB], ids=["small", "large"])
@pytest.mark.parametrize(
    "change", [grow, overwrite, lambda path: os.truncate(path, 3)], ids=["grows", "is overwritten", "shrinks"]
)
def test_a_file_that_changes_while_read_is_no_version(
    tmp_path: FilePath, size: int, change: Callable[[FilePath], None]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(size))

    class Meddling(LocalOpenFile):
        def read_into(self, buffer: memoryview, offset: int) -> int:
            done = super().read_into(buffer, offset)
            change(path)
            return done

        def read(self, offset: int, length: int) -> bytes:
            change(path)
            return super().read(offset, length)

    class MeddledDisk(LocalFilesystem):
        @contextmanager
        def open_file(self, path: Path) -> Iterator[LocalOpenFile]:
            descriptor = self._open_for_reading(path)
            try:
                yield Meddling(descriptor)
            finally:
                os.close(descriptor)

    with MeddledDisk(tmp_path) as disk, pytest.raises(ChangedWhileRead, match="file"):
        read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=100)


def test_a_huge_sparse_file_is_left_when_asked_and_needs_little_memory(tmp_path: FilePath) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 10

    tracemalloc.start()
    with LocalFilesystem(tmp_path) as disk, pytest.raises(ReadStopped):
        read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=0, should_stop=should_stop)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert asked == 11
    assert peak < 3 * CHUNK_MAX


def test_small_files_read_together_are_described_as_each_alone(tmp_path: FilePath) -> None:
    sizes = {(b"d", b"empty"): 0, (b"d", b"one"): 1, (b"e", b"full"): 64 * KIB, (b"d", b"larger"): 64 * KIB + 1}
    for path, size in sizes.items():
        place = tmp_path / os.fsdecode(b"/".join(path))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(random.Random(size).randbytes(size))
    with LocalFilesystem(tmp_path) as disk:
        found = disk.read_whole([*sizes, (b"d", b"gone"), (b"gone", b"one")], 64 * KIB)
        assert found.keys() == sizes.keys() - {(b"d", b"larger")}
        for path, whole in found.items():
            alone = read_content(disk, path, chunk_key=KEY, seed=SEED, inline_limit=64 * KIB)
            assert whole_content(whole, KEY, SEED) == alone


@pytest.mark.parametrize("change", ["grow", "rewrite"])
def test_a_small_file_that_changes_while_it_is_read_is_left_out(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (tmp_path / "file").write_bytes(b"before")
    really_read = os.read

    def read_and_meddle(descriptor: int, length: int) -> bytes:
        data = really_read(descriptor, length)
        with (tmp_path / "file").open("r+b" if change == "rewrite" else "ab") as file:
            file.write(b"behind")
        os.utime(tmp_path / "file", ns=(1, 1))
        return data

    monkeypatch.setattr(os, "read", read_and_meddle)
    with LocalFilesystem(tmp_path) as disk:
        assert disk.read_whole([FILE], 100) == {}


class CountingDisk(LocalFilesystem):
    """Counts what is read, and how often the disk is asked for holes."""

    def __init__(self, root: FilePath) -> None:
        super().__init__(root)
        self.bytes = self.asked = 0

    @contextmanager
    def open_file(self, path: Path) -> Iterator[LocalOpenFile]:
        disk = self

        class Counting(LocalOpenFile):
            def read_into(self, buffer: memoryview, offset: int) -> int:
                disk.bytes += len(buffer)
                return super().read_into(buffer, offset)

            def data_from(self, offset: int) -> int:
                disk.asked += 1
                return super().data_from(offset)

        with super().open_file(path) as file:
            yield Counting(file._descriptor)


SETTLED = 1 << 62


@pytest.mark.parametrize("seed", range(4))
def test_a_sparse_file_is_described_as_if_it_were_read(tmp_path: FilePath, seed: int) -> None:
    chance = random.Random(seed)
    size = chance.choice([65, 66, 96]) * MIB + chance.choice([0, 1, 4095])
    with (tmp_path / "file").open("wb") as file:
        for _ in range(chance.choice([0, 1, 3])):
            file.seek(chance.randrange(size - MIB))
            file.write(chance.randbytes(chance.choice([1, 5000, MIB])))
        file.truncate(size)
    with CountingDisk(tmp_path) as disk:
        plain = read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=0)
        assert (disk.bytes, disk.asked) == (size, 0)
        disk.bytes = 0
        sparse = read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=0, holes_before_ns=SETTLED)
    assert sparse == plain
    assert disk.bytes < size * 2 // 3


def test_a_sparse_terabyte_is_described_at_once(tmp_path: FilePath) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.seek(1 << 39)
        file.write(b"in the middle")
        file.truncate(1 << 40)
    with CountingDisk(tmp_path) as disk:
        content = read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=0, holes_before_ns=SETTLED)
    lengths = [content.chunks[at : at + 4] for at in range(32, len(content.chunks), CHUNK_ENTRY)]
    assert sum(int.from_bytes(length, "big") for length in lengths) == 1 << 40
    assert disk.bytes < 64 * MIB


def test_holes_of_a_file_that_grows_meanwhile_are_not_counted_in(tmp_path: FilePath) -> None:
    """Else a file that becomes enormous while it is read would fill the memory with its chunk list."""
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 70 * MIB)

    class GrowingDisk(CountingDisk):
        @contextmanager
        def open_file(self, path: Path) -> Iterator[LocalOpenFile]:
            with super().open_file(path) as file:
                before = file.stat()
                os.truncate(tmp_path / "file", (1 << 43))
                file.stat = lambda: before  # type: ignore[method-assign]
                yield file

    with GrowingDisk(tmp_path) as disk:
        content = read_content(disk, FILE, chunk_key=KEY, seed=SEED, inline_limit=0, holes_before_ns=SETTLED)
    assert len(content.chunks) < 100 * CHUNK_ENTRY


def test_what_is_no_plain_file_is_not_read(tmp_path: FilePath) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(NotRegularFile):
        read(tmp_path)


def test_an_entry_is_an_id_and_a_length(tmp_path: FilePath) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    content = read(tmp_path)
    assert len(content.chunks) == CHUNK_ENTRY
    assert content.chunks == keyed_hash(KEY, b"hello") + b"\0\0\0\x05"
