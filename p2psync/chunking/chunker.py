"""The chunker: where a file's content is cut into chunks, decided by the content itself.

FastCDC as in "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems" (Xia et al.,
IEEE TPDS 2020), two bytes a step, with the paper's normalisation level 2. The folder's secret seed is XORed into the
gear table. Records carry only (minimum, average, maximum), so everything else is fixed here and by the golden vectors
in `tests/vectors/chunker.json`: another algorithm would need another field in the record.

It is the one door to `pyfastcdc`. It is pure: it reads no file, and knows neither chunk ids nor keys. It does not hide
where cuts are: who sees the chunk lengths of a file he knows can work out the seed (threat model).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pyfastcdc import FastCDC

from p2psync.limits import CHUNK_MAX, KIB, MIB

_NORMALISATION: Literal[2] = 2
"""The paper's choice: sizes gather around the average, at no loss of deduplication (its section 4.4)."""
_SEED_BITS = (1 << 63) - 1
"""The library refuses a 64th bit. Masks look at bits below 48 and sums carry upwards: that bit never decides a cut."""
_LARGE_FROM = 64 * MIB
_LARGE_AVERAGE = 1 * MIB
_SMALL_AVERAGE = 256 * KIB
_MINIMUM_FLOOR, _AVERAGE_FLOOR, _MAXIMUM_FLOOR = 64, 256, 1024
"""Smallest values the library takes; the largest average is a quarter of CHUNK_MAX."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Bounds of chunk lengths in bytes, as a file record carries them. ValueError for what nobody should cut with."""

    minimum: int
    average: int
    maximum: int

    def __post_init__(self) -> None:
        if not _MINIMUM_FLOOR <= self.minimum <= self.average <= self.maximum <= CHUNK_MAX:
            raise ValueError("chunk parameters must rise from minimum to maximum and stay within the limits")
        if not _AVERAGE_FLOOR <= self.average <= _LARGE_AVERAGE or self.maximum < _MAXIMUM_FLOOR:
            raise ValueError("chunk parameters are outside what is ever used")

    @classmethod
    def for_size(cls, size: int) -> Parameters:
        """What a file of `size` bytes is cut with."""
        return _LARGE if size >= _LARGE_FROM else _SMALL


_SMALL = Parameters(_SMALL_AVERAGE // 4, _SMALL_AVERAGE, _SMALL_AVERAGE * 4)
_LARGE = Parameters(_LARGE_AVERAGE // 4, _LARGE_AVERAGE, _LARGE_AVERAGE * 4)


@dataclass(frozen=True, slots=True)
class Chunker:
    """Cuts content under one seed (64 bit, secret, not shown). Keeps no state between calls; any thread may use it."""

    parameters: Parameters
    seed: int = field(repr=False)
    _cutter: FastCDC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 64:
            raise ValueError("a chunker seed has 64 bits")
        cutter = FastCDC(
            self.parameters.average,
            min_size=self.parameters.minimum,
            max_size=self.parameters.maximum,
            normalized_chunking=_NORMALISATION,
            seed=self.seed & _SEED_BITS,
        )
        object.__setattr__(self, "_cutter", cutter)

    def cut(self, buffer: bytes | memoryview, final: bool) -> list[int]:
        """Lengths of the chunks that `buffer` begins with; their sum is what the caller may drop.

        Unless `final`, a rest shorter than the maximum stays uncut, since what follows may still move its end: so any
        feeding gives the cuts of the whole file at once. A buffer of at least the maximum always gives a chunk.
        """
        rest = len(buffer)
        needed = 1 if final else self.parameters.maximum
        lengths: list[int] = []
        if rest < needed:
            return lengths
        chunks: Iterator[object] = self._cutter.cut_buf(buffer)
        while rest >= needed:
            length: int = next(chunks).length  # type: ignore[attr-defined]
            lengths.append(length)
            rest -= length
        return lengths
