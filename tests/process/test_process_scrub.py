"""`p2psync scrub` with real processes, a real relay and a real disk."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.replica.test_replica_scrub import rotten_on_disk
from tests.support.folders import SharedFolder

pytestmark = pytest.mark.slow


def catalog_of(folder: SharedFolder, device: str) -> Path:
    (found,) = (folder.machine.home(device) / "folders").glob("*.db")
    return found


def scrub(folder: SharedFolder, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    done = folder.machine.run("b", "scrub", *arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_scrub_mends_a_rotten_file_and_tells_of_a_damaged_catalog(folder: SharedFolder) -> None:
    right = os.urandom(200_000)
    (folder.root("a") / "photo.raw").write_bytes(right)
    folder.share()
    folder.join()
    folder.sync()
    assert scrub(folder)[-1]["mended"] == 0  # through the peer that runs
    folder.processes["b"].end()
    path = folder.root("b") / "photo.raw"
    wrong = rotten_on_disk(path, catalog_of(folder, "b"), b"photo.raw")
    assert path.read_bytes() == wrong != right
    file, summary = scrub(folder, str(folder.root("b")))  # in a peer of its own
    assert (summary["files"], summary["mended"], summary["left"]) == (1, 1, 0)
    assert file["path"] == "photo.raw" and Path(file["kept"]).read_bytes() == wrong
    assert path.read_bytes() == right
    words = folder.machine.run("b", "scrub")
    assert words.returncode == 0 and "all of them sound" in words.stdout

    rotten_on_disk(path, catalog_of(folder, "b"), b"photo.raw")
    for pack in folder.packs():
        pack.unlink()
    folder.processes["a"].end()
    file, summary = scrub(folder, code=1)
    assert file["left"] and summary["left"] == 1 and path.exists()

    connection = sqlite3.connect(catalog_of(folder, "b"))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'file_chunk_placed'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with catalog_of(folder, "b").open("r+b") as database:
        database.seek((page - 1) * size + 3)
        database.write(b"\xff\xff\xff\xff")
    words = folder.machine.run("b", "scrub")
    assert words.returncode == 1 and "is damaged" in words.stdout and "join the folder again" in words.stderr
