"""Three-way merges of text: what is merged line by line, from which common ancestor, and with what result.

Owns the rule which files are text-like and the promise of a clean merge: it is the same whichever side comes first, and
every line that one side has and the ancestor has not is in it. Does not know where contents come from or who publishes
the result. The only user of `merge3`. Source: formats, "Text merges".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

import merge3

from p2psync.index.merge import CONFLICT_MARK
from p2psync.index.paths import Path
from p2psync.index.versions import Kind, Version
from p2psync.limits import TEXT_MERGE_MAX

_WHOLE = frozenset(
    b"asc crt csr drawio eml eps excalidraw ics ipynb key lock mbox min.css min.js pem pgp po ps rtf sig svg vcf".split()
)
"""Text that means something only as a whole (drawings, letters, signed or generated): merging its lines would break it."""
_PAIRS_MAX = 100_000
"""Pairs of equal lines beyond one each: comparing takes time in proportion to these, and a stranger chose the lines."""


def may_merge(path: Path, *versions: Version) -> bool:
    """Whether the name and size of these versions of a path allow a merge; their content is judged by `is_text`."""
    name = path[-1].lower()
    parts = name.split(b".")
    endings = {b".".join(parts[first:]) for first in range(1, len(parts))}
    if endings & _WHOLE or CONFLICT_MARK in name:
        return False
    return all(version.kind is Kind.FILE and version.size <= TEXT_MERGE_MAX for version in versions)


def is_text(data: bytes) -> bool:
    """UTF-8 without NUL, at most 1 MiB."""
    if len(data) > TEXT_MERGE_MAX or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def comparable(one: bytes, other: bytes) -> bool:
    """Whether the lines of two texts can be compared in a moment."""
    return _pairs(_lines(one), _lines(other)) <= _PAIRS_MAX


def common_ancestor(one: Version, other: Version, past: Iterable[Version]) -> Version | None:
    """The last version both authors had seen, out of the path's past; None when there is none, or no single last one."""
    both = [v for v in past if one.covers(v) and other.covers(v)]
    last = [v for v in both if not any(later.covers(v) for later in both)]
    return last[0] if len(last) == 1 else None


def merge_text(base: bytes, one: bytes, other: bytes) -> bytes | None:
    """What comes of both sides' changes to `base`; None when they touch the same or neighbouring lines."""
    if not all(map(is_text, (base, one, other))):
        return None
    if one == other or other == base:
        return one
    if one == base:
        return other
    one, other = sorted((one, other))  # neither side may be the first
    texts = [_lines(text) for text in (base, one, other)]
    start = _common(texts)
    end = _common([text[start:][::-1] for text in texts])
    head, tail = texts[0][:start], texts[0][len(texts[0]) - end :]
    middle = _merge_lines(*(text[start : len(text) - end] for text in texts))
    merged = None if middle is None else b"".join((*head, *middle, *tail))
    return merged if merged is not None and len(merged) <= TEXT_MERGE_MAX else None


def _lines(text: bytes) -> list[bytes]:
    """Lines as the newline ends them: a lone carriage return is part of its line."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _common(texts: Sequence[Sequence[bytes]]) -> int:
    """How many lines at the start are the same in all texts."""
    return sum(1 for _ in takewhile(lambda lines: len(set(lines)) == 1, zip(*texts, strict=False)))


def _merge_lines(base: list[bytes], one: list[bytes], other: list[bytes]) -> list[bytes] | None:
    if max(_pairs(base, one), _pairs(base, other)) > _PAIRS_MAX:
        return None
    sources = {"unchanged": base, "same": one, "a": one, "b": other}
    merged: list[bytes] = []
    for region in merge3.Merge3(base, one, other).merge_regions():
        if region[0] == "conflict":
            return None
        merged += sources[region[0]][region[1] : region[2]]
    if any(not line.endswith(b"\n") for line in merged[:-1]):
        return None  # an end of file without newline came into the middle
    return merged


def _pairs(base: list[bytes], side: list[bytes]) -> int:
    here, there = Counter(base), Counter(side)
    return sum((count - 1) * there[line] for line, count in here.items()) + sum(
        count - 1 for line, count in there.items() if line in here
    )
