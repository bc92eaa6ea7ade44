"""The one-time code `7-crossover-clockwork-aztec`: nameplate and three words (24 bits), as text and back.

Words come from the PGP word list (two lists of 256, chosen to sound different; `words.txt` has one pair per line). The
first word is of the three-syllable list, the others of the two-syllable list, so a dropped first word shows at once and
any other by the count. Reading forgives case, spaces for dashes, and words cut short where only one can be meant. This
module knows text only: nothing about who claims a nameplate or what the code opens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from p2psync.errors import UserError
from p2psync.seams import Randomness
from p2psync.wire.messages import NAMEPLATE_MAX

WORDS = 3
PREFIX_MIN = 3
"""Shorter beginnings of a word are refused even when unique: too easily a slip."""
_TEXT_MAX = 128
_SEPARATORS = re.compile(r"[\s\-_.,]+")


@cache
def _lists() -> tuple[tuple[str, ...], ...]:
    """The word list of each of the three places."""
    text = resources.files("p2psync.pairing").joinpath("words.txt").read_text(encoding="ascii")
    pairs = [line.split() for line in text.splitlines()]
    short, long = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    return long, short, short


@dataclass(frozen=True, slots=True)
class Code:
    """A pairing code. `repr` hides the words: whoever knows them within ten minutes may guess once, and be right."""

    nameplate: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return "-".join((str(self.nameplate), *self.words))

    def __repr__(self) -> str:
        return f"Code({self.nameplate}-…)"

    @property
    def password(self) -> bytes:
        """What the PAKE proves: the whole code in its one normal form, nameplate included."""
        return str(self).encode()


def make_words(randomness: Randomness) -> tuple[str, ...]:
    """Three random words, 24 bits."""
    return tuple(words[byte] for words, byte in zip(_lists(), randomness.bytes(WORDS), strict=True))


def looks_like_code(text: str) -> bool:
    """Whether a lone argument is meant as a code: a number and words, and no path."""
    parts = _parts(text)
    return "/" not in text and len(parts) >= 2 and parts[0].isascii() and parts[0].isdigit()


def parse_code(text: str) -> Code:
    """Read a code as people type it; UserError says which part is not right."""
    if len(text) > _TEXT_MAX:
        raise UserError("this is too long to be a pairing code; it looks like 7-crossover-clockwork-aztec")
    parts = _parts(text)
    if len(parts) != WORDS + 1 or not (parts[0].isascii() and parts[0].isdigit()):
        raise UserError("a pairing code is a number and three words, like 7-crossover-clockwork-aztec")
    nameplate = int(parts[0])
    if not 1 <= nameplate <= NAMEPLATE_MAX:
        raise UserError("the number in front of the pairing code is mistyped; look at it again")
    return Code(nameplate, tuple(_word(part, words) for part, words in zip(parts[1:], _lists(), strict=True)))


def _parts(text: str) -> list[str]:
    return [part for part in _SEPARATORS.split(text.strip().lower()) if part]


def _word(typed: str, words: tuple[str, ...]) -> str:
    if typed in words:
        return typed
    meant = [word for word in words if word.startswith(typed)] if len(typed) >= PREFIX_MIN else []
    if len(meant) == 1:
        return meant[0]
    shown = "".join(c for c in typed if c.isalnum())[:20]
    if meant:
        raise UserError(f"the word {shown!r} of the pairing code could be {meant[0]!r} or {meant[1]!r}; type all of it")
    raise UserError(f"the word {shown!r} of the pairing code is mistyped; look at the other screen again")
