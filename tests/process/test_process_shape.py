"""What a device keeps of a folder, through the real command line: types, override, revert, and what status says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Machine, wait_until

pytestmark = pytest.mark.slow


def _folder(machine: Machine, name: str) -> dict[str, Any]:
    folder: dict[str, Any] = machine.status(name)["folders"][0]
    return folder


def _said(machine: Machine, name: str, *command: str) -> dict[str, Any]:
    done = machine.run(name, *command, "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_folder_joined_receive_only_publishes_nothing_and_is_reverted_or_overridden_by_command(
    machine: Machine,
) -> None:
    url = machine.relay("--open")
    source, target = machine.directory / "a", machine.directory / "b"
    for root in (source, target):
        root.mkdir()
        (root / "both").write_text(f"stands in {root.name}")
    (target / "own").write_text("was here before")
    (source / ".stignore").write_text("*.bak\n")
    (source / "x.bak").write_text("not for others")
    code = machine.device("a", "share", str(source), "--relay", url, "--json").first_json(lambda line: "code" in line)
    joining = machine.device(
        "b", "join", str(target), "--type", "receiveonly", "--relay", url, "--json", P2PSYNC_CODE=str(code["code"])
    )
    joining.first_json(lambda line: "folder" in line)
    wait_until(lambda: _folder(machine, "b")["local_changes"] == 2, "both files are local changes")
    folder = _folder(machine, "b")
    assert (folder["type"], folder["need_files"], folder["error"]) == ("receiveonly", 0, None)
    assert _said(machine, "b", "folder", "changes", folder["label"])["changes"] == [
        {"path": "both", "difference": "added here"},
        {"path": "own", "difference": "added here"},
    ]
    assert sorted(path.name for path in source.iterdir() if path.name[0] != ".") == ["both", "x.bak"]
    reverted = _said(machine, "b", "folder", "revert", str(target))
    assert reverted["reverted"] == 2
    assert (Path(reverted["aside"]) / "own").read_text() == "was here before"
    wait_until(
        lambda: (target / "both").exists() and (target / "both").read_text() == "stands in a", "the folder's state"
    )
    assert not (target / "own").exists() and not (target / "x.bak").exists()
    imported = _said(machine, "a", "folder", "import-ignores", str(source), "--shared")
    assert (imported["imported"], imported["to"]) == (1, ".p2pignore")
    wait_until(lambda: (target / ".p2pignore").exists(), "the patterns reach b")

    assert _said(machine, "b", "folder", "type", str(target), "sendonly")["type"] == "sendonly"
    (source / "both").write_text("changed by a")
    wait_until(lambda: _folder(machine, "b")["differing"] == 1, "b knows of the change and leaves it")
    assert _said(machine, "b", "folder", "override", str(target))["overridden"] == 1
    wait_until(lambda: (source / "both").read_text() == "stands in a", "a shows what b says")
