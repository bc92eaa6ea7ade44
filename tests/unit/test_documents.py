"""The documents tell the truth: commands, options, variables, numbers, links and exit codes they name exist as named.

What they say in prose is for people to check.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from p2psync import errors, limits
from p2psync.cli.main import app as device_app
from p2psync.index.body import ALL_HEADS_EVERY
from p2psync.net.urls import DEFAULT_PORT
from p2psync.node.home import PRIVATE_DIRECTORY, PRIVATE_FILE
from p2psync.pairing.words import looks_like_code
from p2psync.planner.fetching import GAP, SEGMENT_MAX
from p2psync.replica.uploading import PACK_TARGET
from p2psync.store.retention import DELETE_GRACE_SECONDS
from relay.cli import app as relay_app

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
Command = Any
"""typer's, which brings its own copy of click or uses another, depending on its version."""
PROGRAMS: dict[str, Command] = {
    "p2psync": typer.main.get_command(device_app),
    "p2psync-relay": typer.main.get_command(relay_app),
}
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"(?<![\w./@-])(p2psync(?:-relay)?) ([a-z[-][^\n`]*)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _spoken_commands(text: str) -> Iterator[str]:
    """Every command line: lines after `$ ` in blocks, and whole spans of inline code."""
    for block in FENCE.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                yield line[2:].partition(" # ")[0].strip()
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        if COMMAND.match(span) and span != "p2psync replica 1":  # the first line of a marker
            yield span


def _find_command(line: str) -> tuple[Command, list[str]] | None:
    """The command a line calls and the words behind its name; None when the line calls none of ours."""
    found = COMMAND.search(line.replace("$(", " ").replace("[", "").replace("]", ""))
    if found is None:
        return None
    words = shlex.split(found[2].removesuffix("&"))
    command = PROGRAMS[found[1]]
    while hasattr(command, "commands"):
        assert words, f"{line!r} names no command"
        assert words[0] in command.commands, f"{line!r}: there is no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    return command, words


def _options(command: Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def _all_commands(command: Command) -> Iterator[Command]:
    if hasattr(command, "commands"):
        for inner in command.commands.values():
            yield from _all_commands(inner)
    else:
        yield command


ALL = [command for program in PROGRAMS.values() for command in _all_commands(program)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_command_a_document_shows_exists_with_its_options(document: Path) -> None:
    for line in _spoken_commands(document.read_text(encoding="utf-8")):
        called = _find_command(line)
        if called is None:
            continue
        command, words = called
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in {*_options(command), "--help"}, f"{line!r}: no option {word}"


def test_the_readme_shows_commands_at_all() -> None:
    called = [_find_command(line) for line in _spoken_commands(README.read_text(encoding="utf-8"))]
    assert len([found for found in called if found is not None]) > 20


def test_the_readme_names_every_command_of_a_device() -> None:
    text = README.read_text(encoding="utf-8")
    spoken = {id(found[0]) for line in _spoken_commands(text) if (found := _find_command(line))}
    unnamed = [c.name for c in _all_commands(PROGRAMS["p2psync"]) if id(c) not in spoken]
    assert unnamed == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_option_a_document_names_in_prose_exists(document: Path) -> None:
    prose = FENCE.sub("", document.read_text(encoding="utf-8"))
    known = set().union(*map(_options, ALL), {"--help"})
    for span in re.findall(r"`(--[a-z-]+)[^`\n]*`", prose):
        assert span in known, f"{_name(document)} names {span}, which no command has"


def test_the_readme_names_exactly_the_variables_there_are() -> None:
    declared = {
        str(parameter.envvar) for command in ALL for parameter in command.params if getattr(parameter, "envvar", None)
    }
    secrets = {name + suffix for name in ("P2PSYNC_CODE", "P2PSYNC_RELAY_INVITE") for suffix in ("", "_FILE")}
    named = set(re.findall(r"P2PSYNC_[A-Z_]+", README.read_text(encoding="utf-8")))
    assert named == declared | secrets | {"P2PSYNC_DEBUG"}


def test_the_readme_lists_exactly_the_exit_codes_there_are() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.exit_code for kind in classes if issubclass(kind, errors.P2psyncError)} | {0, 130}
    table = README.read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == codes


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (document.parent / file).resolve() if file else document
        assert linked.exists(), f"{_name(document)} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_source_file_a_document_names_exists(document: Path) -> None:
    for name in re.findall(r"`([a-z_/.-]+\.(?:py|sh|service|default|json|sql))`", document.read_text(encoding="utf-8")):
        places = (ROOT / name, ROOT / "p2psync" / name, ROOT / "deploy" / name)
        assert any(place.exists() for place in places), f"{_name(document)} names {name}"


KIB, MIB = limits.KIB, limits.MIB


@pytest.mark.parametrize(
    ("document", "sentence", "value", "unit"),
    [
        ("README.md", r"TCP port (\d+)", DEFAULT_PORT, 1),
        ("README.md", r"new content up to (\d+) KiB", limits.INLINE_MAX, KIB),
        ("README.md", r"entries in powers of two from (\d+) KiB", limits.ENTRY_STEP, KIB),
        ("README.md", r"padded to (\d+) KiB·2\^k", limits.ENTRY_STEP, KIB),
        ("docs/architecture.md", r"New content of up to (\d+) KiB", limits.INLINE_MAX, KIB),
        ("docs/threat-model.md", r"they get (\d+) seconds", limits.UNAUTHENTICATED_SECONDS, 1),
        ("docs/threat-model.md", r"bodies\s+of at most (\d+) KiB", limits.MAILBOX_BYTES, KIB),
        ("docs/decisions/0006-packs-are-closed-at-6-mib.md", r"once it has (\d+) MiB", PACK_TARGET, MIB),
        ("docs/decisions/0006-packs-are-closed-at-6-mib.md", r"Chunks are at most (\d+) MiB", limits.CHUNK_MAX, MIB),
        ("docs/decisions/0006-packs-are-closed-at-6-mib.md", r"its bound of (\d+) MiB", limits.PACK_MAX, MIB),
        ("docs/decisions/0007-range-reads-are-exact.md", r"the gap is at most (\d+) KiB", GAP, KIB),
        ("docs/decisions/0007-range-reads-are-exact.md", r"up to (\d+) MiB\s+a request", SEGMENT_MAX, MIB),
    ],
)
def test_a_number_in_a_document_is_the_constant_in_the_code(
    document: str, sentence: str, value: int, unit: int
) -> None:
    found = re.search(sentence, (ROOT / document).read_text(encoding="utf-8"))
    assert found is not None, "the sentence was reworded: change it here too"
    assert int(found[1]) * unit == value


def test_what_the_documents_say_in_words_holds() -> None:
    assert limits.MAILBOX_SECONDS == 10 * 60
    assert DELETE_GRACE_SECONDS == 30 * 24 * 3600
    assert ALL_HEADS_EVERY == 256
    assert (PRIVATE_FILE, PRIVATE_DIRECTORY) == (0o600, 0o700)
    assert looks_like_code("7-crossover-clockwork-aztec")


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_no_document_names_a_machine_of_ours(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"/(?:root|work|build)/|/home/(?!you/)\w", text)
    hosts = re.findall(r"(?:p2p|https?|wss)://([\w.-]+)", text)
    assert {host for host in hosts if "." in host} <= {"relay.example.org", "127.0.0.1"}
