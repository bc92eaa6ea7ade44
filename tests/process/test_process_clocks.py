"""Clocks that are wrong decide nothing: devices years apart pair, find each other, and sync both ways."""

from __future__ import annotations

import os

import pytest

from tests.support.clocks import years
from tests.support.pairs import reached
from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("off", [1, -20])
def test_devices_years_apart_pair_find_each_other_and_sync(machine: Machine, off: int) -> None:
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "first").write_bytes(os.urandom(200_000))
    direct = ("--links", "direct", "--no-lan", "--listen", "127.0.0.1:0", "--json")
    url = machine.relay("--open")
    sharing = machine.device("a", "share", str(source), "--relay", url, *direct)
    code = str(sharing.first_json(lambda line: "code" in line)["code"])
    machine.wrapper = years(off)
    machine.device("b", "join", str(target), "--relay", url, *direct, P2PSYNC_CODE=code)
    wait_until(lambda: tree(target) == tree(source), "the first sync")
    (target / "first").write_bytes(os.urandom(200_000))
    (target / "second").write_text("from b")
    wait_until(lambda: tree(target) == tree(source), "a change of b")
    for name in ("a", "b"):
        peer = reached(machine, name)
        assert peer["reached"] in ("lan", "direct") and peer["reason"] is None
