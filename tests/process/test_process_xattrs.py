"""Extended attributes through the real command line: off unless asked for, passed on by who does not want them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devices import xattrs_of
from tests.support.processes import Machine, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.stop()


def _xattrs(machine: Machine, name: str, *options: str) -> bool:
    done = machine.run(name, "folder", "xattrs", *options, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["label"] == "a" and said["id"]
    return bool(said["xattrs"])


def test_they_travel_once_both_devices_ask_for_them(machine: Machine) -> None:
    url = machine.relay("--open")
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "file").write_text("content")
    os.setxattr(source / "file", "user.xdg.comment", b"a comment")
    code = machine.device("a", "share", str(source), "--relay", url, "--json").first_json(lambda line: "code" in line)
    joining = machine.device("b", "join", str(target), "--relay", url, "--json", P2PSYNC_CODE=str(code["code"]))
    joining.first_json(lambda line: "folder" in line)
    wait_until(lambda: (target / "file").exists(), "the file comes")
    assert not _xattrs(machine, "a") and not _xattrs(machine, "b") and xattrs_of(target / "file") == {}
    assert machine.status("b")["folders"][0]["xattrs"] is False

    assert _xattrs(machine, "a", "on") and _xattrs(machine, "a", "--folder", str(source))
    assert "extended attributes are synced" in machine.run("a", "folder", "xattrs").stdout
    assert "shape    extended attributes synced" in machine.run("a", "status").stdout
    (target / "file").write_text("edited by the device that does not sync them")
    wait_until(lambda: (source / "file").read_text().startswith("edited"), "the edit comes")
    assert xattrs_of(source / "file") == {"user.xdg.comment": b"a comment"}

    assert _xattrs(machine, "b", "on")
    wait_until(lambda: xattrs_of(target / "file") == {"user.xdg.comment": b"a comment"}, "the comment comes")
    os.setxattr(target / "file", "user.xdg.comment", b"another")
    wait_until(lambda: xattrs_of(source / "file") == {"user.xdg.comment": b"another"}, "and goes back changed")
    assert not _xattrs(machine, "b", "off")
    assert machine.run("b", "folder", "xattrs", "sideways").returncode == 2
