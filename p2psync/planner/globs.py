"""Globs: many path patterns matched at once, in time linear in the path whatever the patterns are.

Braces are multiplied out, so that a pattern is a plain sequence of pieces. All sequences lie behind each other in one
bit vector, a bit for every place a reader of the path may be at (shift-and, Baeza-Yates and Gonnet 1992; `*` and `**`
are places one may stay at). Sets of places that occurred are remembered with where each character leads, as RE2 does,
so the usual character costs one look-up, the dearest a few operations on the vector. Nothing backtracks, and what is
remembered is bounded.

Pieces of a pattern: `*` any run without `/`, `**` any run, `?` one character but `/`, `[a-z]` and `[!a-z]` one of a
class (never `/`), `{a,b}` alternatives, `\\` takes the next character literally. It knows neither files nor meanings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

NESTING_MAX = 8
"""Braces inside braces; bounds the recursion."""
EXPANDED_MAX = 64 * 1024
"""Pieces of one pattern after its braces are multiplied out."""
_REMEMBERED_MAX = 16 << 20
"""Bytes of remembered place sets; beyond it they are forgotten and made again."""
SLASH = "/"


class GlobError(ValueError):
    """A pattern that is none; the message says why."""


@dataclass(frozen=True, slots=True)
class Class:
    """`[a-z]`: ranges of characters, both ends included."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def holds(self, character: str) -> bool:
        within = any(low <= character <= high for low, high in self.ranges)
        return within is not self.negated and character != SLASH


class Wild:
    """`?`, `*` and `**`; told apart by identity."""


ONE, RUN, ANYTHING = Wild(), Wild(), Wild()


Piece = str | Class | Wild
Pieces = tuple[Piece, ...]


def parse_glob(text: str) -> list[Pieces]:
    """What a pattern means, one sequence of pieces per choice of alternatives; GlobError when it means nothing."""
    sequences, _ = _sequences(text, 0, 0)
    return [_merged(sequence) for sequence in sequences]


def _sequences(text: str, at: int, depth: int) -> tuple[list[Pieces], int]:
    """From `at` to the end, or inside braces (`depth` > 0) to the `,` or `}` that ends the branch."""
    found: list[Pieces] = [()]
    while at < len(text) and not (depth and text[at] in ",}"):
        if text[at] == "{":
            branches, at = _branches(text, at + 1, depth + 1)
        else:
            piece, at = _piece(text, at)
            branches = [(piece,)]
        if sum(map(len, found)) * len(branches) + len(found) * sum(map(len, branches)) > EXPANDED_MAX:
            raise GlobError("its braces multiply to too many patterns")
        found = [sequence + branch for sequence in found for branch in branches]
    return found, at


def _branches(text: str, at: int, depth: int) -> tuple[list[Pieces], int]:
    if depth > NESTING_MAX:
        raise GlobError(f"braces are nested more than {NESTING_MAX} deep")
    found: list[Pieces] = []
    while True:
        branch, at = _sequences(text, at, depth)
        found += branch
        if at == len(text):
            raise GlobError("a `{` is not closed")
        at += 1
        if text[at - 1] == "}":
            return found, at


def _piece(text: str, at: int) -> tuple[Piece, int]:
    match text[at]:
        case "\\":
            if at + 1 == len(text):
                raise GlobError(r"a `\` at the end escapes nothing")
            return text[at + 1], at + 2
        case "*":
            return (ANYTHING, at + 2) if text[at + 1 : at + 2] == "*" else (RUN, at + 1)
        case "?":
            return ONE, at + 1
        case "[":
            return _class(text, at + 1)
        case character:
            return character, at + 1


def _merged(sequence: Pieces) -> Pieces:
    """No two runs side by side: the wider one stands for both."""
    merged: list[Piece] = []
    for piece in sequence:
        if merged and piece in (RUN, ANYTHING) and merged[-1] in (RUN, ANYTHING):
            merged[-1] = ANYTHING if ANYTHING in (piece, merged[-1]) else RUN
        else:
            merged.append(piece)
    return tuple(merged)


def _class(text: str, at: int) -> tuple[Class, int]:
    negated = text[at : at + 1] == "!"
    at += negated
    ranges: list[tuple[str, str]] = []
    while True:
        if text[at : at + 1] == "]" and ranges:
            return Class(tuple(ranges), negated), at + 1
        low, at = _member(text, at)
        high = low
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("]", ""):
            high, at = _member(text, at + 1)
        if high < low:
            raise GlobError(f"the range {low}-{high} runs backwards")
        ranges.append((low, high))


def _member(text: str, at: int) -> tuple[str, int]:
    escaped = text[at : at + 1] == "\\"
    at += escaped
    if at >= len(text):
        raise GlobError("a `[` is not closed")
    if text[at] == "]" and not escaped:
        raise GlobError("a class `[]` is empty")
    return text[at], at + 1


def fold(text: str) -> str:
    """Lower case, character by character, so that no length changes."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


@dataclass(frozen=True, slots=True)
class Glob:
    """One pattern of a list. `anywhere`: it may also begin behind any `/`. `below`: it also matches all that lies below
    a match. `folded`: its text is in lower case and paths are taken so."""

    sequences: tuple[Pieces, ...]
    anywhere: bool = False
    below: bool = False
    folded: bool = False


class State:
    """What a beginning of a path has come to: `places` is the set of places as bits."""

    __slots__ = ("moves", "places")

    def __init__(self, places: int) -> None:
        self.places = places
        self.moves: dict[str, State] = {}


class Automaton:
    """All patterns of a list. Safe to use from several threads: states are only added or forgotten."""

    def __init__(self, globs: Sequence[Glob]) -> None:
        self._starts: list[int] = []
        """Where each pattern's places begin."""
        self._literal: tuple[dict[str, int], dict[str, int]] = ({}, {})
        """Places that take one character, by it; of plain and of folded patterns."""
        self._classes: list[tuple[int, Class, bool]] = []
        self._one = self._run = self._anything = self._accept = self._begin = 0
        size = 0
        for glob in globs:
            self._starts.append(size)
            for sequence in glob.sequences:
                size = self._lay(glob, sequence, size)
        self._starts.append(size)
        self._states: dict[int, State] = {}
        self._remembered = 0
        self._takes: dict[str, int] = {}
        self.start = self._state(self._stay(self._begin))

    def read(self, state: State, text: str) -> State:
        for character in text:
            state = state.moves.get(character) or self._move(state, character)
        return state

    def accepted(self, state: State) -> int | None:
        """The first pattern that matches what was read, by its index; None when none does."""
        matched = state.places & self._accept
        return None if not matched else bisect_right(self._starts, _lowest(matched)) - 1

    def places_of(self, pattern: int) -> int:
        """The places of one pattern, to ask of a state whether it can still match something longer."""
        return (1 << self._starts[pattern + 1]) - (1 << self._starts[pattern])

    # Building.

    def _lay(self, glob: Glob, sequence: Pieces, at: int) -> int:
        """Give a sequence its places from `at` on; returns the first place behind them."""
        self._begin |= 1 << at
        if glob.anywhere:
            self._put(ANYTHING, at, glob.folded)
            self._put(SLASH, at + 1, glob.folded)
            at += 2
            self._begin |= 1 << at
        for piece in sequence:
            self._put(piece, at, glob.folded)
            at += 1
        self._accept |= 1 << at
        if glob.below:
            self._put(SLASH, at, glob.folded)
            self._put(ANYTHING, at + 1, glob.folded)
            at += 2
            self._accept |= 1 << at
        return at + 1

    def _put(self, piece: Piece, at: int, folded: bool) -> None:
        place = 1 << at
        if isinstance(piece, str):
            literal = self._literal[folded]
            literal[piece] = literal.get(piece, 0) | place
        elif isinstance(piece, Class):
            self._classes.append((place, piece, folded))
        elif piece is ONE:
            self._one |= place
        elif piece is RUN:
            self._run |= place
        else:
            self._anything |= place

    # Running.

    def _move(self, state: State, character: str) -> State:
        takes = self._takes.get(character)
        if takes is None:
            takes = self._taking(character)
            if len(self._takes) * (takes.bit_length() // 8 + 64) < _REMEMBERED_MAX:
                self._takes[character] = takes
        stays = self._anything if character == SLASH else self._anything | self._run
        following = self._state(self._stay((state.places & takes) << 1 | state.places & stays))
        state.moves[character] = following
        return following

    def _stay(self, places: int) -> int:
        """A run may be empty: who is before it is behind it, too. No two runs stand side by side."""
        return places | (places & (self._run | self._anything)) << 1

    def _taking(self, character: str) -> int:
        """The places at which a character leads on to the next."""
        folded = fold(character)
        takes = self._literal[False].get(character, 0) | self._literal[True].get(folded, 0)
        if character != SLASH:
            takes |= self._one
            for place, piece, is_folded in self._classes:
                if piece.holds(folded if is_folded else character):
                    takes |= place
        return takes

    def _state(self, places: int) -> State:
        held = self._states.get(places)
        if held is not None:
            return held
        state = State(places)
        self._remembered += places.bit_length() // 8 + 256
        if self._remembered > _REMEMBERED_MAX:
            self._forget()
        self._states[places] = state
        return state

    def _forget(self) -> None:
        """Begin anew. Whoever still holds a state keeps what hangs on it, no longer than one path."""
        for state in list(self._states.values()):
            state.moves = {}
        self._states = {}
        self._remembered = 0


def _lowest(places: int) -> int:
    return (places & -places).bit_length() - 1
