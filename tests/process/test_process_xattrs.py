"""Extended attributes through the real command line: off unless asked for, passed on by who does not want them."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.devices import xattrs_of
from tests.support.folders import SharedFolder
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow

COMMENT = {"user.xdg.comment": b"a comment"}


def _switch(folder: SharedFolder, device: str, *options: str) -> bool:
    done = folder.machine.run(device, "folder", "xattrs", *options, "--json")
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout)["xattrs"])


def test_they_travel_once_both_devices_ask_for_them(folder: SharedFolder) -> None:
    source, target = folder.root("a") / "d" / "file", folder.root("b") / "d" / "file"
    source.parent.mkdir()
    source.write_text("content")
    os.setxattr(source, "user.xdg.comment", b"a comment")
    folder.share()
    folder.join()
    wait_until(target.exists, "the file comes")
    assert not _switch(folder, "a") and xattrs_of(target) == {}
    assert _switch(folder, "a", "on", "--folder", str(folder.root("a"))) and folder.status("b")["xattrs"] is False
    shown = folder.machine.run("a", "status")
    assert "shape    extended attributes synced" in shown.stdout
    target.write_text("edited by the device that does not sync them")
    wait_until(lambda: source.read_text().startswith("edited"), "the edit comes")
    assert xattrs_of(source) == COMMENT

    assert _switch(folder, "b", "on")
    wait_until(lambda: xattrs_of(target) == COMMENT, "the comment comes")
    os.setxattr(target, "user.xdg.comment", b"another")
    os.setxattr(target.parent, "user.xdg.tags", b"of a directory")
    wait_until(lambda: xattrs_of(source) == {"user.xdg.comment": b"another"}, "and goes back changed")
    wait_until(lambda: xattrs_of(source.parent) == {"user.xdg.tags": b"of a directory"}, "a directory's too")
