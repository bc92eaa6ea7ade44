"""A device takes content from several others at once: from each what it has."""

from __future__ import annotations

import os

import pytest

from p2psync.limits import MIB
from tests.support.namespaces import one_switch, silence, within
from tests.support.pairs import DIRECT, OPEN_LAN, join_in, relay_in, share_in
from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow

HALF = 16 * MIB


def test_a_device_with_half_of_a_file_feeds_another_while_a_third_feeds_the_rest(machine: Machine) -> None:
    whole, target, partial = (machine.directory / name for name in ("a", "b", "c"))
    whole.mkdir()
    (whole / "first").write_text("x")
    halves = os.urandom(HALF), os.urandom(HALF)
    with one_switch(3) as (one, two, three):
        try:
            url = relay_in(machine, two, "10.6.0.2")
            _, code = share_in(machine, one, "a", whole, url, *DIRECT)
            joined = join_in(machine, two, "b", target, url, code, *DIRECT)
            joined.first_json(lambda line: "folder" in line)
            code = str(machine.device("a", "pair", "--json").first_json(lambda line: "code" in line)["code"])
            join_in(machine, three, "c", partial, url, code, *DIRECT)
            wait_until(lambda: tree(whole) == tree(target) == tree(partial), "all three in sync")
            joined.end()
            with silence(three, "input", "output", other="10.6.0.1"):
                (partial / "half").write_bytes(halves[0])
                (whole / "whole").write_bytes(halves[0] + halves[1])
                for name in ("a", "c"):
                    assert machine.run(name, "rescan").returncode == 0
                machine.wrapper = within(two)
                machine.device("b", "serve", *DIRECT, **OPEN_LAN)
                wait_until(lambda: tree(target).keys() == {"first", "half", "whole"}, "everything came")
                assert tree(target)["whole"] == halves[0] + halves[1] and tree(target)["half"] == halves[0]
                peers = {each["device"]: each for each in machine.status("b")["folders"][0]["peers"]}
                from_a, from_c = (peers[device_id(machine, name)]["received_bytes"] for name in ("a", "c"))
                assert from_c > HALF // 8 and from_a > HALF, "both sources were used"
                assert from_a + from_c < 2 * HALF * 1.05, "and nothing was sent twice"
        finally:
            machine.stop()


def device_id(machine: Machine, name: str) -> str:
    return machine.run(name, "device-id").stdout.strip()
