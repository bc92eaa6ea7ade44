"""A folder with a past, with real processes and a real relay: who joins late need not read all of it."""

from __future__ import annotations

import random
import sqlite3
import string
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.folders import SharedFolder
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow

FILES, ROUNDS = 600, 6
"""With names as long as these their records are more than a MiB, from where on a feed is summed up."""


def catalog_value(folder: SharedFolder, device: str, query: str) -> int:
    (catalog,) = (folder.machine.home(device) / "folders").glob("*.db")
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as database:
        return int(database.execute(query).fetchone()[0])


NAMES = ["".join(random.Random(number).choices(string.ascii_letters + string.digits, k=200)) for number in range(FILES)]


def rewrite(root: Path, dice: random.Random) -> None:
    for name in NAMES:
        (root / name).write_bytes(dice.randbytes(100))


def test_who_joins_late_begins_at_a_snapshot_that_a_restarted_peer_wrote(folder: SharedFolder) -> None:
    dice = random.Random(1)
    rewrite(folder.root("a"), dice)
    folder.share()
    folder.sync("a")
    for _ in range(ROUNDS):
        rewrite(folder.root("a"), dice)
        folder.sync("a")
    folder.processes["a"].end()
    folder.share()
    newest = "SELECT coalesce(max(first), 0) FROM snapshot WHERE last > 0"
    wait_until(lambda: catalog_value(folder, "a", newest) > 0, "the device sums its feed up")
    folder.join()
    folder.sync()
    assert catalog_value(folder, "b", "SELECT min(seq) FROM entry WHERE length(data) > 10000") >= (
        catalog_value(folder, "a", newest)
    ), "what the snapshot stands for was not read"
    shown = folder.machine.run("b", "history", str(folder.root("b") / NAMES[0]))
    assert shown.returncode == 0, shown.stderr
