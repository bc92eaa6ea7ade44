"""Laws of history on the command line, with real processes, a real relay and real disks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import SharedFolder
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow


def said(folder: SharedFolder, device: str, *command: str, code: int = 0) -> list[dict[str, Any]]:
    done = folder.machine.run(device, *command, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_was_lost_is_listed_and_comes_back_on_every_device(folder: SharedFolder) -> None:
    a, b = folder.root("a"), folder.root("b")
    (a / "d").mkdir()
    for number in range(30):
        (a / "d" / f"{number}").write_text(f"number {number}\n" * 1000)
    folder.share()
    folder.join()
    folder.sync()
    (a / "d" / "0").write_text("overwritten")
    (b / "d" / "1").unlink()
    folder.sync()
    listed = said(folder, "b", "history", str(b / "d" / "0"))
    assert [line["what"] for line in listed] == ["changed", "created"] and listed[0]["current"]
    assert {"version", "time", "device", "size", "where", "reachable"} <= listed[1].keys()
    words = folder.machine.run("b", "history", str(b / "d"))
    assert words.returncode == 0 and "deleted" in words.stdout and listed[1]["version"] in words.stdout
    said(folder, "b", "restore", str(b / "d" / "0"), "--version", listed[1]["version"])
    elsewhere = folder.machine.directory / "elsewhere"
    lost = said(folder, "a", "history", str(a / "d" / "1"))[1]
    assert lost["name"] and lost["device"] == folder.machine.status("a")["device"]
    said(folder, "a", "restore", str(a / "d" / "1"), "--version", lost["version"], "--to", str(elsewhere))
    assert (elsewhere / "1").read_text().startswith("number 1\n") and not (a / "d" / "1").exists()
    folder.sync()
    assert (a / "d" / "0").read_text() == "number 0\n" * 1000 and not (a / "d" / "1").exists()
    for target, reason in ((elsewhere / "1", "is no directory"), (Path("/proc/nowhere"), "cannot be written")):
        bad = folder.machine.run("a", "restore", str(a / "d"), "--at", "0s", "--to", str(target))
        assert bad.returncode == 1 and reason in bad.stderr and "--to" in bad.stderr
    missing = folder.machine.run("a", "restore", str(a / "never"), "--at", "1h")
    assert missing.returncode == 1 and "nothing" in missing.stderr and "Traceback" not in missing.stderr
    wrong = folder.machine.run("a", "restore", str(a / "d"), "--at", "yesterday noon")
    assert wrong.returncode == 2 and "is no time" in wrong.stderr
    outside = folder.machine.run("a", "history", "/")
    assert outside.returncode == 1 and "no folder of this device" in outside.stderr

    # A device that destroys much is held by the other, and taken back.
    since = datetime.now(UTC).isoformat()
    for path in (a / "d").iterdir():
        path.write_text("encrypted " + path.name)
    wait_until(lambda: folder.status("b")["state"] == "held", "the brake")
    held = folder.status("b")["held"]
    assert isinstance(held, list) and held[0]["files"] >= 20
    assert folder.machine.run("b", "sync", "--timeout", "20").returncode == 1
    shown = folder.machine.run("b", "status").stdout
    assert "p2psync folder accept" in shown and held[0]["device"][:7] in shown
    assert all(path.read_text().startswith("number") for path in (b / "d").iterdir())
    done = said(folder, "b", "undo", "--device", held[0]["device"][:7], "--since", since)
    assert done[-1]["left"] == 0 and done[-1]["restored"] >= 20
    wait_until(lambda: folder.status("a")["state"] == "held", "the brake on the device itself")
    assert said(folder, "a", "folder", "accept")[0]["accepted"] >= 20
    folder.sync()
    assert all(path.read_text().startswith("number") for path in (a / "d").iterdir())
    limits = said(folder, "a", "folder", "limits", "--keep-for", "90d", "--brake-percent", "50")
    assert limits[0] | {"brake_percent": 50, "keep_seconds": 90 * 86400} == limits[0]
    assert said(folder, "a", "folder", "limits") == limits
