"""Ignore patterns: Syncthing's rules one by one, and the automaton against a plain, slow reading of the same rules."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.index.paths import Path, split
from p2psync.planner.globs import Automaton, Glob, GlobError, parse_glob
from p2psync.planner.ignoring import (
    CHARACTERS_MAX,
    FILE_BYTES_MAX,
    FOREIGN,
    LINE_MAX,
    LOCAL,
    SHARED,
    IgnoreError,
    Ignores,
    parse_ignores,
)


def ignores(text: bytes, **files: bytes) -> Ignores:
    held = {SHARED: text, **{split(name.replace("__", "/").encode()): data for name, data in files.items()}}
    return parse_ignores(held.get)


def ignored(text: bytes, path: str) -> bool:
    return ignores(text).verdict(split(path.encode())).ignored


# The rules, one by one.


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("foo", ["foo", "sub/foo", "foo/below/it", "sub/foo/x"], ["foofoo", "xfoo", "sub/fo"]),
        ("/foo", ["foo", "foo/x"], ["sub/foo"]),
        ("foo/", ["foo/x", "sub/foo/x/y"], ["foo", "sub/foo"]),
        ("foo/**", ["foo/x", "a/foo/x/y"], ["foo"]),
        ("/a/b", ["a/b", "a/b/c"], ["x/a/b", "a"]),
        ("a/b", ["a/b", "x/a/b"], ["a", "b", "a/x/b"]),
        ("te*st", ["test", "sub/telerest"], ["tele/rest"]),
        ("te**st", ["test", "sub/telerest", "tele/sub/dir/rest"], ["tes"]),
        ("te??st", ["tebest"], ["teb/st", "test"]),
        ("**/foo", ["foo", "a/foo", "a/b/foo"], ["afoo"]),
        ("/**/foo", ["a/foo", "a/b/foo"], ["foo"]),
        ("[a-c]x[!0-9]", ["axy", "cxz"], ["dxy", "ax1", "ax/"]),
        ("[-x]", ["-", "x"], ["y"]),
        (r"[\]a]", ["]", "a"], ["b"]),
        ("*.{jpg,png}", ["a.jpg", "b/c.png"], ["a.gif", "a.jp"]),
        ("{a,b{c,d}}e", ["ae", "bce", "bde"], ["be", "ce"]),
        ("x{,y}", ["x", "xy"], ["xyy"]),
        (r"\*\{a\}\\", ["*{a}\\"], ["x{a}\\"]),
        ("a,b}", ["a,b}"], ["a"]),
        ("(?i)Müll*", ["MÜLLER", "müll", "x/mÜllx"], ["mull"]),
        ("ä?", ["äö"], ["ä"]),
        ("***", ["a", "a/b"], []),
        ("/", ["a", "a/b"], []),
        ("two words", ["two words"], ["two"]),
        ("#foo", ["#foo"], ["foo"]),
        ("(?d)(?i)A", ["a"], ["b"]),
        ("(?i)!a", [], ["a", "A"]),
    ],
)
def test_each_rule_of_the_syntax(pattern: str, matching: list[str], other: list[str]) -> None:
    for path in matching:
        assert ignored(pattern.encode(), path), f"{pattern} ignores {path}"
    for path in other:
        assert not ignored(pattern.encode(), path.rstrip("/")), f"{pattern} leaves {path}"


def test_the_example_of_syncthings_manual() -> None:
    """docs.syncthing.net/users/ignoring.html, "Example"."""
    rules = ignores(b"(?d).DS_Store\n!frobble\n!quuz\nfoo\n*2\nqu*\n(?i)my pictures\n")
    kept = ["foofoo", "bar", "bar/baz", "bar/quuz", "bar2/frobble"]
    gone = [".DS_Store", "foo", "bar/quux", "bar2/baz", "My Pictures", "My Pictures/Img15.PNG"]
    assert [path for path in kept if rules.verdict(split(path.encode())).ignored] == []
    assert [path for path in gone if not rules.verdict(split(path.encode())).ignored] == []
    assert rules.verdict((b".DS_Store",)).deletable and not rules.verdict((b"foo",)).deletable
    assert rules.verdict((b"bar2",)).descend


def test_the_first_match_decides() -> None:
    assert not ignored(b"!a\na", "a")
    assert ignored(b"a\n!a", "a")


def test_blank_lines_comments_spaces_line_ends_and_marks_mean_nothing() -> None:
    rules = ignores(b"\xef\xbb\xbf// first\r\n\n   \n  a  \r\n\t// more\n")
    assert [rule.text for rule in rules.rules] == ["a"]
    assert rules.rules[0].line == 4


def test_what_this_device_says_comes_before_what_all_say() -> None:
    rules = parse_ignores({LOCAL: b"!mine", SHARED: b"mine\nours"}.get)
    assert not rules.verdict((b"mine",)).ignored
    assert rules.verdict((b"ours",)).ignored
    assert str(rules.verdict((b"ours",)).rule) == ".p2pignore, line 2: ours"


def test_the_ignore_files_themselves_have_fixed_fates() -> None:
    rules = ignores(b"!.p2pignore.local\n!.stignore\n*\n")
    assert not rules.verdict(SHARED).ignored
    assert rules.verdict(LOCAL).skipped and rules.verdict(FOREIGN).skipped
    assert Ignores().verdict(LOCAL).skipped
    assert not Ignores().verdict((b"sub", *LOCAL)).ignored


def test_names_match_in_whatever_form_they_are_written() -> None:
    assert ignored("ü".encode(), "u\u0308")
    assert ignored("u\u0308".encode(), "ü")
    assert ignores(b"a?b").verdict((b"a\xffb",)).ignored, "a byte that is no UTF-8 is one character"


# Includes.


def test_included_patterns_stand_where_the_include_stands_and_mean_the_root() -> None:
    rules = ignores(b"#include sub/more\nb\n", sub__more=b"!b\n#include ../third\n", third=b"/c\n")
    assert [rule.text for rule in rules.rules] == ["!b", "/c", "b"]
    assert str(rules.rules[1]) == "third, line 1: /c"
    assert not rules.verdict((b"b",)).ignored and rules.verdict((b"c",)).ignored


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a\n#include nowhere", ".p2pignore, line 2: there is no file nowhere"),
        (b"#include", ".p2pignore, line 1: #include is not understood"),
        (b"#escape=|", "#escape=| is not understood"),
        (b"#include one\n#include one", ".p2pignore, line 2: one is included more than once"),
        (b"#include .p2pignore", "more than once"),
        (b"#include ../outside", "outside of the folder"),
        (b"#include one/../../etc/passwd", "outside of the folder"),
        (b"#include bad", "bad, line 2: "),
        (b"a[", "line 1: a[: a `[` is not closed"),
        (b"a[]", "empty"),
        (b"[b-a]", "backwards"),
        (b"\n{a", "line 2: {a: a `{` is not closed"),
        (b"a\\", "escapes nothing"),
        (b"!", "no pattern behind !"),
        (b"(?r)a", "(?r) is no prefix"),
        (b"(?di)a", "(?di) is no prefix"),
        (b"!!", "line 1"),
        (b"\xff", "line 1: is not UTF-8"),
        (b"{" * 9 + b"}" * 9, "nested"),
        (b"{a,b}" * 30, "multiply"),
        (b"x" * (LINE_MAX + 1), "longer than"),
        (b"\n".join(b"%d" % n + b"x" * (LINE_MAX - 9) for n in range(CHARACTERS_MAX // LINE_MAX + 2)), "in all"),
        (b"//" + b"x" * FILE_BYTES_MAX, "larger than"),
    ],
)
def test_an_error_names_its_file_and_line(text: bytes, says: str) -> None:
    if text == b"!!":
        assert ignores(text).rules[0].negated, "the second ! is a name"
        return
    with pytest.raises(IgnoreError) as caught:
        ignores(text, one=b"x", bad=b"ok\n[")
    assert says in str(caught.value)


# Against a plain reading.

NAMES = st.text("ab.A", min_size=1, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(["a", "b", ".", "A", "/", "*", "**", "?", "[ab]", "[!a]", "{a,b*}", "{a/,**,}", "\\*"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=7).map("".join)
PREFIXES = st.sampled_from(["", "", "!", "(?i)", "(?d)", "(?i)!"])
LINES = st.lists(st.tuples(PREFIXES, PATTERNS).map("".join), min_size=1, max_size=5)


def choices(text: str) -> Iterator[str]:
    """A pattern with its (not nested) braces multiplied out; `|` keeps apart what they kept apart."""
    opened = text.find("{")
    if opened < 0:
        yield text
        return
    closed = text.index("}", opened)
    for branch in text[opened + 1 : closed].split(","):
        yield from choices(f"{text[:opened]}|{branch}|{text[closed + 1 :]}")


def slowly(glob: str, path: str) -> bool:
    """Whether a pattern without braces matches: the definition, by trying everything."""
    if not glob:
        return not path
    if glob[0] == "|":
        return slowly(glob[1:], path)
    if glob.startswith("**"):
        return any(slowly(glob[2:], path[n:]) for n in range(len(path) + 1))
    if glob[0] == "*":
        end = (path + "/").index("/")
        return any(slowly(glob[1:], path[n:]) for n in range(end + 1))
    if not path:
        return False
    head, size = glob[0] == path[0], 1
    if glob[0] == "?":
        head = path[0] != "/"
    elif glob[0] == "[":
        size = glob.index("]") + 1
        members = glob[1 : size - 1]
        head = path[0] != "/" and ((path[0] in members) is not members.startswith("!"))
    elif glob[0] == "\\":
        head, size = glob[1] == path[0], 2
    return head and slowly(glob[size:], path[1:])


def plainly(lines: list[str], path: str) -> str | None:
    """The line that decides, read as Syncthing's parser does: each line stands for up to four globs."""
    for line in lines:
        text, name = line, path
        for prefix in ("(?i)", "(?d)", "!"):
            text = text.removeprefix(prefix)
        if line.startswith("(?i)"):
            text, name = text.lower(), path.lower()
        if text.endswith("/"):
            variants = [text + "**"]
        elif text.endswith("/**"):
            variants = [text]
        else:
            variants = [text, text + "/**"]
        for variant in variants:
            rooted = variant.startswith("/")
            globs = [variant[1:]] if rooted else [variant, "**/" + variant]
            if variant.startswith("**/"):
                globs = [variant, variant[3:]]
            if any(slowly(choice, name) for glob in globs for choice in choices(glob)):
                return line
    return None


@given(LINES, PATHS)
def test_the_automaton_says_what_the_rules_say(lines: list[str], path: str) -> None:
    verdict = ignores("\n".join(lines).encode()).verdict(split(path.encode()))
    line = plainly(lines, path)
    assert (verdict.rule.text if verdict.rule else None) == line
    assert verdict.ignored == (line is not None and "!" not in line.partition("[")[0])
    assert verdict.deletable == (verdict.ignored and "(?d)" in str(line))


@given(LINES, PATHS, PATHS)
def test_below_a_skipped_directory_nothing_is_kept(lines: list[str], directory: str, below: str) -> None:
    """The law that lets scanner and watcher leave it out."""
    rules = ignores("\n".join(lines).encode())
    if rules.verdict(split(directory.encode())).skipped:
        assert rules.verdict(split(f"{directory}/{below}".encode())).skipped


@given(st.text("a*?[]!-{},\\/", max_size=12))
def test_any_text_is_a_pattern_or_names_its_fault(text: str) -> None:
    try:
        found = parse_glob(text)
    except GlobError as error:
        assert str(error)
        return
    assert found
    Automaton([Glob(tuple(found))])


def test_a_directory_is_descended_only_where_something_kept_can_be() -> None:
    rules = ignores(b"!/keep/this/file\n/keep\n/big\n")
    assert rules.verdict((b"keep",)).descend and rules.verdict((b"keep", b"this")).descend
    assert rules.verdict((b"keep", b"that")).skipped and rules.verdict((b"big",)).skipped


# Bounds.


@pytest.mark.parametrize("pattern", [b"*a" * 500, b"**a" * 300, b"{,a}" * 8, b"?*" * 500, b"(?i)[!b]*" * 80])
def test_no_pattern_takes_long(pattern: bytes) -> None:
    """The naive matcher needs longer than the universe for the first of these."""
    text = b"\n".join(pattern[: LINE_MAX - 4] + b"%d" % number for number in range(8))
    path: Path = ((b"a" * 255,) * 12) + (b"b",)
    rules = ignores(text)
    started = time.process_time()
    rules.verdict(path)
    assert time.process_time() - started < 1.0


def test_what_the_automaton_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2psync.planner.globs._REMEMBERED_MAX", 20_000)
    rules = ignores(b"*a????????????????????b")
    for number in range(3000):
        name = f"{number:012b}".replace("0", "a").replace("1", "c").encode() * 2
        assert rules.verdict((name + b"b",)).ignored == (name[-21:-20] == b"a")
    assert rules._automaton._remembered <= 20_000
    assert len(rules._automaton._states) < 200
