"""The chunker against a plain reference of FastCDC, and the laws a cutting must keep however it is fed."""

from __future__ import annotations

import json
import random
from pathlib import Path as FilePath
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc.py.constants import GEAR

from p2psync.chunking.chunker import Chunker, Parameters
from p2psync.crypto.hashing import content_hash
from p2psync.limits import CHUNK_MAX, KIB, MIB

VECTORS = FilePath(__file__).parents[1] / "vectors" / "chunker.json"

TINY = Parameters(64, 256, 1024)
ODD = Parameters(77, 301, 1201)

SMALL_MASK = {256: 0x0000590003530000, 301: 0x0000590003530000, 256 * KIB: 0x0000D91747537000, MIB: 0x0000D93767537000}
LARGE_MASK = {256: 0x0000000001803110, 301: 0x0000000001803110, 256 * KIB: 0x0000D90303537000, MIB: 0x0000D90707537000}
"""The paper's masks with two bits more and two fewer than the average's logarithm, by average."""


def reference_cut(data: bytes, parameters: Parameters, seed: int) -> list[int]:
    """FastCDC with normalised chunking (the paper's algorithm 1, one byte a step), seed XORed into the gear table."""
    lengths = []
    while data:
        length = reference_first(data, parameters, seed)
        lengths.append(length)
        data = data[length:]
    return lengths


def reference_first(data: bytes, parameters: Parameters, seed: int) -> int:
    size = min(len(data), parameters.maximum)
    if size <= parameters.minimum:
        return size
    fingerprint = 0
    # Two bytes a step: every bound is rounded down to even, and a cut falls before the byte that decided it.
    for at in range(parameters.minimum // 2 * 2, size // 2 * 2):
        fingerprint = ((fingerprint << 1) + (GEAR[data[at]] ^ seed)) % (1 << 64)
        normal = at < min(parameters.average, size) // 2 * 2
        mask = SMALL_MASK[parameters.average] if normal else LARGE_MASK[parameters.average]
        if fingerprint & mask == 0:
            return at
    return size


def never_cut(parameters: Parameters, seed: int) -> bytes:
    """A byte whose repetition is never a cut under this seed."""
    return next(
        bytes([byte])
        for byte in range(256)
        if reference_first(bytes([byte]) * parameters.maximum, parameters, seed) == parameters.maximum
    )


def always_cut(parameters: Parameters, seed: int) -> bytes:
    """A block whose repetition is cut at every block: its last byte and the next one's first decide at once."""
    for first in range(256):
        for last in range(256):
            block = bytes([first]) * parameters.minimum + bytes([last])
            if reference_first(block * 2, parameters, seed) == len(block):
                return block
    raise AssertionError("65,536 pairs and none decides")


seeds = st.integers(0, (1 << 64) - 1)
contents = st.one_of(
    st.binary(max_size=5000),
    st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 1 << 30), st.integers(0, 20_000)),
    st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 6000)),
)


@given(data=contents, seed=seeds, parameters=st.sampled_from([TINY, ODD]))
def test_cuts_are_those_of_the_paper(data: bytes, seed: int, parameters: Parameters) -> None:
    assert Chunker(parameters, seed).cut(data, True) == reference_cut(data, parameters, seed)


@pytest.mark.parametrize("size", [pytest.param(64 * MIB, marks=pytest.mark.slow), 0])
def test_cuts_at_real_sizes_are_those_of_the_paper(size: int) -> None:
    parameters = Parameters.for_size(size)
    data = random.Random(1).randbytes(3 * parameters.maximum // 2) + bytes(parameters.maximum) + b"end"
    assert Chunker(parameters, 99).cut(data, True) == reference_cut(data, parameters, 99)


@given(data=contents, seed=seeds, parameters=st.sampled_from([TINY, ODD]))
def test_chunks_cover_the_content_within_the_bounds(data: bytes, seed: int, parameters: Parameters) -> None:
    lengths = Chunker(parameters, seed).cut(data, True)
    assert sum(lengths) == len(data)
    # Cuts are looked for at even places, so an odd minimum may be missed by one.
    assert all(parameters.minimum // 2 * 2 <= length <= parameters.maximum for length in lengths[:-1])
    assert all(0 < length <= parameters.maximum for length in lengths[-1:])


@settings(max_examples=200)
@given(
    data=contents, seed=seeds, steps=st.lists(st.integers(1, 3000), min_size=1), parameters=st.sampled_from([TINY, ODD])
)
def test_any_feeding_gives_the_cuts_of_the_whole(
    data: bytes, seed: int, steps: list[int], parameters: Parameters
) -> None:
    chunker = Chunker(parameters, seed)
    lengths: list[int] = []
    pending = b""
    at = turn = 0
    while at < len(data):
        step = steps[turn % len(steps)]
        turn += 1
        pending += data[at : at + step]
        at += step
        cut = chunker.cut(memoryview(pending), False)
        assert len(pending) < parameters.maximum or cut
        lengths += cut
        pending = pending[sum(cut) :]
        assert len(pending) < parameters.maximum
    assert lengths + chunker.cut(pending, True) == chunker.cut(data, True)


@pytest.mark.parametrize("seed", [0, 12345, (1 << 64) - 1])
def test_content_without_a_cut_is_cut_at_the_maximum(seed: int) -> None:
    data = never_cut(TINY, seed) * (10 * TINY.maximum + 5)
    assert Chunker(TINY, seed).cut(data, True) == [TINY.maximum] * 10 + [5]


@pytest.mark.parametrize("seed", [0, 12345, (1 << 64) - 1])
def test_content_all_cuts_is_cut_at_the_minimum(seed: int) -> None:
    block = always_cut(TINY, seed)
    lengths = Chunker(TINY, seed).cut(block * 50, True)
    assert lengths == reference_cut(block * 50, TINY, seed)
    assert lengths == [TINY.minimum + 1] * 50


def test_an_insertion_moves_only_the_cuts_near_it() -> None:
    data = random.Random(5).randbytes(16 * MIB)
    chunker = Chunker(Parameters.for_size(len(data)), 7)

    def names(content: bytes) -> set[bytes]:
        found, at = set(), 0
        for length in chunker.cut(content, True):
            found.add(content_hash(content[at : at + length]))
            at += length
        return found

    before = names(data)
    assert len(before - names(b"inserted" + data)) <= 3
    middle = len(data) // 2
    assert len(before - names(data[:middle] + b"inserted" + data[middle:])) <= 4


def test_the_seed_decides_the_cuts() -> None:
    data = random.Random(6).randbytes(4 * MIB)
    parameters = Parameters.for_size(len(data))
    cuts = {tuple(Chunker(parameters, seed).cut(data, True)) for seed in range(10)}
    assert len(cuts) == 10


def test_the_average_grows_with_the_file() -> None:
    assert Parameters.for_size(0) == Parameters.for_size(64 * MIB - 1) == Parameters(64 * KIB, 256 * KIB, MIB)
    assert Parameters.for_size(64 * MIB) == Parameters.for_size(1 << 45) == Parameters(256 * KIB, MIB, CHUNK_MAX)


@pytest.mark.parametrize(
    "bounds",
    [
        (0, 256, 1024),
        (64, 256, 128),
        (512, 256, 1024),
        (64, 256, CHUNK_MAX + 1),
        (64, 2 * MIB, CHUNK_MAX),
        (64, 256, 1000),
    ],
)
def test_parameters_nobody_should_cut_with_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="chunk parameters"):
        Parameters(*bounds)


def test_the_seed_is_a_secret_and_64_bits() -> None:
    assert "424242" not in repr(Chunker(TINY, 424242))
    for seed in (-1, 1 << 64):
        with pytest.raises(ValueError, match="64 bits"):
            Chunker(TINY, seed)


def vector_content(name: str, size: int) -> bytes:
    """Content of a golden vector, made without any library's random numbers: a linear congruence, or zeros."""
    if name == "zeros":
        return bytes(size)
    state, out = 1, bytearray()
    while len(out) < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        out += (state >> 32).to_bytes(4, "big")
    return bytes(out[:size])


def test_golden_vectors_hold() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert len(vectors) >= 6
    for vector in vectors:
        data = vector_content(vector["content"], vector["size"])
        chunker = Chunker(Parameters(*vector["parameters"]), int(vector["seed"], 16))
        assert chunker.cut(data, True) == vector["lengths"]


@pytest.mark.slow
def test_worst_cases_keep_half_the_speed() -> None:
    chunker = Chunker(Parameters.for_size(64 * MIB), 3)

    def seconds(data: bytes) -> float:
        best = 9.0
        for _ in range(5):
            started = process_time()
            chunker.cut(data, True)
            best = min(best, process_time() - started)
        return best

    normal = seconds(random.Random(1).randbytes(32 * MIB))
    for byte in (0, 1, 255):
        assert seconds(bytes([byte]) * (32 * MIB)) < 2 * normal + 0.01
