"""What commands and status say about a folder's shape, in words."""

from __future__ import annotations

import pytest
import trio

from p2psync.cli.main import main
from p2psync.cli.shaping import ShapeScreen
from p2psync.cli.showing import _shape

ORDINARY = {"type": "sendreceive", "differing": 0, "local_changes": 0, "kept": 0, "ignore_patterns": 0, "xattrs": False}


def test_an_ordinary_folder_has_nothing_to_say_and_others_say_what_ends_a_difference() -> None:
    assert _shape(ORDINARY) == _shape(ORDINARY | {"type": None}) == ""
    assert _shape(ORDINARY | {"type": "sendonly", "differing": 2}) == (
        "sendonly, 2 paths differ from the folder (p2psync folder override publishes them)"
    )
    assert _shape(ORDINARY | {"xattrs": True}) == "extended attributes synced"
    assert _shape(ORDINARY | {"local_changes": 3}) == "3 local changes (p2psync folder revert takes them back)"
    assert _shape(ORDINARY | {"kept": 1, "ignore_patterns": 4}) == "1 files kept that others deleted, 4 ignore patterns"


def test_names_of_others_reach_the_screen_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    screen = ShapeScreen(as_json=False)
    trio.run(screen.say, {"label": "x\x1b[2J", "changes": [{"path": "a\x1bb", "difference": "added here"}]})
    trio.run(screen.say, {"label": "x\x1b[2J", "reverted": 1, "aside": "/r\x1b"})
    trio.run(screen.say, {"label": "x\x1b[2J", "imported": 3, "to": ".p2pignore"})
    said = capsys.readouterr().out
    assert "\x1b" not in said and "added here" in said and "1 path given back" in said


def test_a_type_that_does_not_exist_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["folder", "type", "x", "sideways"], ["join", "--type", "sideways"]):
        monkeypatch.setattr("sys.argv", ["p2psync", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "choose one of sendreceive, sendonly, receiveonly, archive" in capsys.readouterr().err
