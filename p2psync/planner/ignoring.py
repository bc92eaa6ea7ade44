"""Ignore patterns: which paths of a folder this device leaves alone. Pure: text in, verdicts out.

The syntax is Syncthing's, so that people and files can move (docs.syncthing.net/users/ignoring.html, and for what the
page leaves open `lib/ignore/ignore.go` and the globs of github.com/gobwas/glob):
- one pattern a line, spaces around it cut; the first one that matches a path decides; none: not ignored;
- `foo` matches at any depth, `/foo` in the root only; both match everything below, too; `foo/` only what is below;
- prefixes in any order, each once: `!` keeps, `(?i)` takes upper and lower case as one, `(?d)` lets a file go when it
  stands in the way of removing its directory;
- `//` begins a comment line, `#include file` takes in patterns of a file beside this one, each file once.

Other than Syncthing's: a class never matches `/`; `#include` does not leave the folder (the file may be a stranger's);
names are compared in NFC, whatever form the disk has; unknown prefixes are errors and not literal text. The folder's
own `.p2pignore` is never ignored, `.p2pignore.local` and Syncthing's `.stignore` in the root always are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from p2psync.errors import UserError
from p2psync.index.paths import Path, show
from p2psync.planner.globs import SLASH, Automaton, Glob, GlobError, State, fold, parse_glob

SHARED: Path = (b".p2pignore",)
"""Synced like any file."""
LOCAL: Path = (b".p2pignore.local",)
"""Stays on this device, and has the first say."""
FOREIGN: Path = (b".stignore",)
"""Syncthing's, which it never syncs either."""
SOURCES = (LOCAL, SHARED)

FILE_BYTES_MAX = 1 << 20
LINE_MAX = 1024
CHARACTERS_MAX = 64 * 1024
"""Of all patterns together: bounds the automaton and the dearest step through it (a few milliseconds)."""
FILES_MAX = 64
_DIRECTORIES_MAX = 4096
"""Directories whose state is remembered; files of one directory come together."""

Read = Callable[[Path], bytes | None]
"""The content of a file of the folder, None when there is none; IgnoreError when it cannot be read."""


class IgnoreError(UserError):
    """An ignore file that cannot be taken; names file and line. Reaction: keep the patterns there were, and say so."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. `text` is the line itself, `source` and `line` where it stands."""

    text: str
    source: str
    line: int
    negated: bool
    deletable: bool
    glob: Glob

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`descend`: something below could still be kept although this is ignored. `rule`: what decided, None if no rule."""

    ignored: bool
    deletable: bool = False
    descend: bool = False
    rule: Rule | None = None

    @property
    def skipped(self) -> bool:
        """Ignored with everything below."""
        return self.ignored and not self.descend


KEPT = Verdict(False, descend=True)
_ALWAYS = Verdict(True)


class Ignores:
    """A list of rules ready to judge paths. Safe to use from several threads."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._automaton = Automaton([rule.glob for rule in rules])
        self._keeping = [
            (number, self._automaton.places_of(number)) for number, rule in enumerate(rules) if rule.negated
        ]
        self._directories: dict[Path, State] = {}

    def same_as(self, other: Ignores) -> bool:
        return [rule.text for rule in self.rules] == [rule.text for rule in other.rules]

    def verdict(self, path: Path) -> Verdict:
        if len(path) < 2:
            if path in (LOCAL, FOREIGN):
                return _ALWAYS
            if path in (SHARED, ()):
                return KEPT
        if not self.rules:
            return KEPT
        state = self._automaton.read(self._below(path[:-1]), _characters(path[-1]))
        decisive = self._automaton.accepted(state)
        if decisive is None:
            return KEPT
        rule = self.rules[decisive]
        if rule.negated:
            return Verdict(False, descend=True, rule=rule)
        # Whatever an ignoring rule matches it matches with all that is below: only an earlier `!` can keep some of it.
        deeper = self._automaton.read(state, SLASH).places
        descend = any(deeper & places for number, places in self._keeping if number < decisive)
        return Verdict(True, rule.deletable, descend, rule)

    def _below(self, directory: Path) -> State:
        """The state behind `directory/`."""
        held = self._directories.get(directory)
        if held is not None:
            return held
        state = self._automaton.start
        if directory:
            state = self._automaton.read(self._below(directory[:-1]), _characters(directory[-1]) + SLASH)
        if len(self._directories) >= _DIRECTORIES_MAX:
            self._directories.clear()
        self._directories[directory] = state
        return state


def _characters(name: bytes) -> str:
    """A name as patterns see it; bytes that are no UTF-8 count as one character each."""
    text = name.decode("utf-8", "surrogateescape")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def parse_ignores(read: Read, sources: Sequence[Path] = SOURCES) -> Ignores:
    """The rules of these files, in their order; those that are not there have none. IgnoreError names file and line."""
    rules: list[Rule] = []
    room = CHARACTERS_MAX
    for source in sources:
        content = read(source)
        if content is None:
            continue
        for rule in _rules_of(source, content, read, {source}):
            room -= sum(map(len, rule.glob.sequences))
            if room < 0:
                raise IgnoreError(
                    f"{rule.source}, line {rule.line}: more than {CHARACTERS_MAX // 1024} KiB of patterns in all"
                )
            rules.append(rule)
    return Ignores(rules)


def _rules_of(source: Path, content: bytes, read: Read, seen: set[Path]) -> Iterator[Rule]:
    name = show(source)
    if len(content) > FILE_BYTES_MAX:
        raise IgnoreError(f"{name} is larger than {FILE_BYTES_MAX >> 20} MiB, which no list of patterns is")
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            raise IgnoreError(f"{name}, line {number}: is not UTF-8") from None
        if not line or line.startswith("//"):
            continue
        if len(line) > LINE_MAX:
            raise IgnoreError(f"{name}, line {number}: longer than {LINE_MAX} characters")
        if line.startswith(("#include", "#escape")):
            yield from _included(source, number, line, read, seen)
        else:
            yield parse_rule(line, name, number)


def _included(source: Path, number: int, line: str, read: Read, seen: set[Path]) -> Iterator[Rule]:
    place = f"{show(source)}, line {number}"
    word, _, target = line.partition(" ")
    if word != "#include" or not target.strip():
        raise IgnoreError(f"{place}: {word} is not understood here; `#include FILE` takes in the patterns of a file")
    path = _joined(source[:-1], target.strip(), place)
    if path in seen:
        raise IgnoreError(f"{place}: {show(path)} is included more than once")
    if len(seen) >= FILES_MAX:
        raise IgnoreError(f"{place}: more than {FILES_MAX} files are included")
    seen.add(path)
    content = read(path)
    if content is None:
        raise IgnoreError(f"{place}: there is no file {show(path)}")
    yield from _rules_of(path, content, read, seen)


def _joined(directory: Path, target: str, place: str) -> Path:
    path = list(directory)
    for name in target.split("/"):
        if name == ".." and not path:
            raise IgnoreError(f"{place}: {target} lies outside of the folder; copy it into it")
        if name == "..":
            path.pop()
        elif name not in ("", "."):
            path.append(name.encode())
    if not path or any("\0" in name for name in target):
        raise IgnoreError(f"{place}: {target} names no file")
    return tuple(path)


def parse_rule(line: str, source: str, number: int) -> Rule:
    """One pattern line, trimmed; IgnoreError when it is none."""
    text, prefixes = line, set[str]()
    while prefix := next((p for p in ("!", "(?i)", "(?d)") if text.startswith(p) and p not in prefixes), None):
        prefixes.add(prefix)
        text = text[len(prefix) :]
    place = f"{source}, line {number}"
    if text.startswith("(?"):
        raise IgnoreError(
            f"{place}: {text[: text.find(')') + 1] or text} is no prefix; there are `!`, `(?i)` and `(?d)`"
        )
    if not text:
        raise IgnoreError(f"{place}: there is no pattern behind {line}")
    folded = "(?i)" in prefixes
    try:
        glob = _glob(unicodedata.normalize("NFC", fold(text) if folded else text), folded)
    except GlobError as error:
        raise IgnoreError(f"{place}: {line}: {error}") from None
    return Rule(line, source, number, "!" in prefixes, "(?d)" in prefixes, glob)


def _glob(text: str, folded: bool) -> Glob:
    below = not text.endswith(("/", "/**"))
    if text.endswith("/"):
        text += "**"
    anywhere = not text.startswith("/")
    text = text.removeprefix("/") if not anywhere else text.removeprefix("**/")
    return Glob(tuple(parse_glob(text)), anywhere=anywhere, below=below, folded=folded)
