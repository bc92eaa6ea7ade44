"""What `p2psync explain` says of a path, with real processes, a real relay and real disks."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.support.folders import SharedFolder
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow


def explained(folder: SharedFolder, device: str, name: str) -> dict[str, Any]:
    done = folder.machine.run(device, "explain", str(folder.root(device) / name), "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_each_state_of_a_path_has_its_sentence(folder: SharedFolder) -> None:
    a, b = folder.root("a"), folder.root("b")
    (a / "notes.txt").write_text("notes")
    (a / "old").write_text("old")
    folder.share()
    folder.join()
    folder.sync()
    settled = explained(folder, "b", "notes.txt")
    assert settled["verdict"] == "in sync" and settled["versions"][0]["here"]
    assert all(each["knows"] for each in settled["devices"] + settled["stores"])
    (a / "old").unlink()
    folder.processes["a"].end()
    (b / "notes.txt").write_text("of b")
    folder.machine.run("b", "sync", "--timeout", "60")
    folder.processes["b"].end()
    (a / "notes.txt").write_text("of a")
    folder.start("a")
    folder.machine.run("a", "sync", "--timeout", "60")
    folder.start("b")
    folder.sync()
    os.mkfifo(b / "pipe")
    folder.machine.run("b", "rescan")
    conflict = explained(folder, "b", "notes.txt")
    assert conflict["verdict"] == "conflict" and len(conflict["versions"]) == 2
    (copy,) = (each for each in conflict["versions"] if each["stands_at"] != "notes.txt")
    assert (b / copy["stands_at"]).exists()
    assert explained(folder, "b", "old")["verdict"] == "deleted"
    assert explained(folder, "b", "never")["verdict"] == "unknown"
    assert explained(folder, "b", "pipe")["verdict"] == "not synced"
    assert explained(folder, "b", ".p2psync/replica")["verdict"] == "not synced"
    words = folder.machine.run("b", "explain", str(b / "notes.txt"))
    assert words.returncode == 0 and "conflict" in words.stdout and "store" in words.stdout
    outside = folder.machine.run("b", "explain", "/")
    assert outside.returncode == 1 and "no folder of this device" in outside.stderr


def test_a_file_that_cannot_come_says_what_is_missing_and_why(folder: SharedFolder) -> None:
    folder.share()
    folder.join()
    folder.sync()
    folder.processes["b"].end()
    (folder.root("a") / "big.bin").write_bytes(os.urandom(3 << 20))
    folder.machine.run("a", "sync", "--timeout", "60")
    for pack in folder.packs():
        pack.unlink()
    folder.processes["a"].end(signal.SIGTERM)
    folder.start("b")
    wait_until(lambda: explained(folder, "b", "big.bin")["missing_chunks"] > 0, "the entry is there, the content not")
    missing = explained(folder, "b", "big.bin")
    assert missing["verdict"] == "waiting" and missing["missing_bytes"] == 3 << 20
    assert missing["missing_in_stores"] == missing["chunks"] and not missing["versions"][0]["here"]
    wait_until(lambda: "is missing" in explained(folder, "b", "big.bin")["sentence"], "the store's trouble is told")
    words = folder.machine.run("b", "explain", str(folder.root("b") / "big.bin")).stdout
    assert "knows of this version" in words and "chunks (3.0 MiB)" in words
