"""Laws of the command line's own code: what is shown is inert, what is typed is judged, what is searched is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.cli.main import report
from p2psync.cli.options import link_options, secret_variable
from p2psync.cli.progress import Rates, describe
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.cli.sightings import search
from p2psync.errors import NobodyReachable, TimedOut, UsageError, WrongCode
from p2psync.node.control import Json

UNITS = Path(__file__).parents[2] / "deploy"
FOLDER: Json = {
    "id": "00" * 16, "label": "photos", "path": "/p", "role": "admin", "state": "syncing", "local_bytes": 1024,
    "global_bytes": 0, "need_bytes": 4096, "need_files": 3, "upload_bytes": 0, "conflicts": 0, "error": None,
    "problems": [], "peers": [], "stores": [],
}  # fmt: skip


@given(st.text(max_size=200))
def test_nothing_shown_moves_the_cursor(text: str) -> None:
    assert clean(text).isprintable()


async def test_names_from_others_are_inert_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=False)
    await screen.say({"paired": True, "device": "ABC", "name": "\x1b]0;owned\x07\nroot# \u202e", "role": "writer"})
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and shown.count("\n") == 1


async def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    event = {"code": "7-a-b-c", "folder": "\n\u2028"}
    await screen.say(event)
    shown = capsys.readouterr().out
    assert json.loads(shown) == event and shown.count("\n") == 1 and shown.isascii()
    assert await screen.ask({"ask": "admit", "device": "A", "name": "b", "role": "writer"}) == "yes"
    assert await screen.ask({"ask": "invite", "relay": "x"}) is None


async def test_without_a_terminal_a_question_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--yes"):
        await Screen(as_json=False).ask({"ask": "admit", "device": "A", "name": "b", "role": "writer"})


@pytest.mark.parametrize("links", ["store", "direct", "splice", "direct,splice,store", " direct , store "])
def test_links_that_work_are_accepted(links: str) -> None:
    made = link_options(links, None, False)
    assert made.links == {kind.strip() for kind in links.split(",")} and made.lan


@pytest.mark.parametrize("links", ["", "carrier-pigeon,store"])
def test_links_that_cannot_work_are_said(links: str) -> None:
    with pytest.raises(UsageError):
        link_options(links, None, False)


@pytest.mark.parametrize(
    ("listen", "meant"),
    [
        (None, ("", 22400)), ("none", None), (":0", ("", 0)), ("0", ("", 0)), (":4000", ("", 4000)),
        ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9", ("::1", 9)), ("192.0.2.1", ("192.0.2.1", 22400)),
    ],
)  # fmt: skip
def test_where_to_listen_is_read(listen: str | None, meant: tuple[str, int] | None) -> None:
    made = link_options("direct", listen, True)
    assert made.listen == meant and not made.lan
    assert made.yielding is (listen is None), "only the default gives way when its port is taken"


@pytest.mark.parametrize("listen", ["here", "1.2.3.4:x", ":70000", "", "1.2.3.4:"])
def test_where_not_to_listen_is_said(listen: str) -> None:
    with pytest.raises(UsageError):
        link_options("direct", listen, False)


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2PSYNC_X", raising=False)
    assert secret_variable("P2PSYNC_X") is None
    monkeypatch.setenv("P2PSYNC_X", "direct")
    assert secret_variable("P2PSYNC_X") == "direct"
    (tmp_path / "secret").write_text("from file\n")
    monkeypatch.setenv("P2PSYNC_X_FILE", str(tmp_path / "secret"))
    assert secret_variable("P2PSYNC_X") == "from file"
    monkeypatch.setenv("P2PSYNC_X_FILE", str(tmp_path / "nothing"))
    with pytest.raises(UsageError):
        secret_variable("P2PSYNC_X")


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("u"), 2), (NobodyReachable("n"), 3), (TimedOut("t"), 4), (WrongCode("w"), 5)]
)
def test_errors_are_one_sentence_and_their_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("P2PSYNC_DEBUG", raising=False)
    assert report(ExceptionGroup("", [ExceptionGroup("", [error])])) == code
    assert capsys.readouterr().err == f"p2psync: {error}\n"


def test_a_bug_shows_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ExceptionGroup("", [UsageError("u"), ZeroDivisionError("inside")])) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_rates_and_sizes_are_readable() -> None:
    rates = Rates()
    assert describe(FOLDER, rates, 0.0) == "photos: syncing, 1.0 KiB, 4.0 KiB to fetch, 3 files to go"
    assert "2.0 KiB to fetch at 1.0 KiB/s" in describe(FOLDER | {"need_bytes": 2048}, rates, 2.0)
    assert "8.0 KiB to fetch," in describe(FOLDER | {"need_bytes": 8192}, rates, 2.5), "more work arrived"
    assert (
        describe(FOLDER | {"state": "idle", "need_bytes": 0, "need_files": 0}, rates, 3.0)
        == "photos: up to date, 1.0 KiB"
    )
    assert [bytes_text(n) for n in (0, 1023, 1024, 5 << 40)] == ["0 B", "1023 B", "1.0 KiB", "5.0 TiB"]


def test_the_search_finds_any_copied_stretch_and_any_name(tmp_path: Path) -> None:
    folder, stored = tmp_path / "folder", tmp_path / "stored"
    folder.mkdir()
    stored.mkdir()
    text = b"0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    (folder / "secret plan.txt").write_bytes(text)
    (stored / "object").write_bytes(bytes(1000))
    assert search(stored, folder).found == ()
    for start in range(16):
        (stored / "object").write_bytes(bytes(7) + text[start : start + 31] + bytes(9))
        assert any("content" in found for found in search(stored, folder).found), start
    (stored / "object").write_bytes(b"..secret plan.txt..")
    assert any("the name" in found for found in search(stored, folder).found)
    (stored / "object").write_bytes(b"")
    (stored / "secret plan.txt").write_bytes(b"")
    assert search(stored, folder).found


def test_every_command_has_help_and_a_wrong_one_is_usage() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "p2psync.cli.main", *arguments], capture_output=True, text=True, timeout=60
        )

    shown = run("--help").stdout
    for command in (
        "share",
        "join",
        "pair",
        "serve",
        "sync",
        "status",
        "device-id",
        "folder",
        "paths",
        "version",
        "demo",
    ):
        assert command in shown
    wrong = run("shair")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    assert run("share").returncode == 2
    bare = run("folder")
    assert bare.returncode == 2 and "\\n" not in bare.stdout and "add" in bare.stdout


@pytest.mark.parametrize("unit", ["p2psync.service", "p2psync@.service", "p2psync-relay.service"])
def test_service_units_are_valid(unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        warnings.simplefilter("default")
        pytest.skip("systemd-analyze is not installed: the units were NOT verified (Debian package systemd)")
    copy = tmp_path / unit.replace("@", "@someone")
    copy.write_text((UNITS / unit).read_text())
    user = ["--user"] if unit == "p2psync.service" else []
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = subprocess.run([tool, *user, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
