"""Bad networks between real devices: loss and long ways, outages short and long, silence in one direction, sleep."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from p2psync.session.link import DEAD_SECONDS, IDLE_SECONDS
from tests.support.namespaces import move_host, one_lan, one_switch, silence, two_hosts
from tests.support.pairs import DIRECT, join_in, reached, relay_in, share_in
from tests.support.processes import Machine, tree, wait_until
from tests.support.wire import wire

pytestmark = pytest.mark.slow
LOSSY_MIB = int(os.environ.get("LOSSY_MIB", "8"))
"""What passes a line of 200 ms that loses 5 %; LOSSY_MIB=1024 takes some five minutes."""

BACK_SECONDS = 15.0
"""What "within seconds of the network returning" may mean on a loaded machine; the longest pause inside is 8 s."""


def trees(machine: Machine) -> tuple[Path, Path]:
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "first").write_text("of a")
    return source, target


def pair(machine: Machine, left: str, right: str, address: str) -> tuple[Path, Path]:
    """Two devices in sync, linked directly; the relay that they met at stands beside the first."""
    source, target = trees(machine)
    url = relay_in(machine, left, address)
    _, code = share_in(machine, left, "a", source, url, *DIRECT)
    join_in(machine, right, "b", target, url, code, *DIRECT)
    wait_until(lambda: tree(target) == tree(source), "the first sync")
    return source, target


def another_code(machine: Machine) -> str:
    return str(machine.device("a", "pair", "--json").first_json(lambda line: "code" in line)["code"])


def ways(machine: Machine, name: str) -> set[str]:
    return {peer["reached"] for peer in machine.status(name)["folders"][0]["peers"]}


def test_five_percent_loss_on_a_long_way_slows_but_does_not_stop_a_transfer(machine: Machine) -> None:
    """The kernel's own default would take minutes for 8 MiB (28 kB/s): BBR is asked for by the device."""
    source, target = trees(machine)
    with (source / "large").open("wb") as file:
        for _ in range(LOSSY_MIB):
            file.write(os.urandom(1 << 20))
    with two_hosts() as (left, right), wire((left, "10.7.0.1/24"), (right, "10.7.0.2/24"), delay_ms=100, loss=0.05):
        try:
            url = relay_in(machine, left, "10.7.0.1")
            _, code = share_in(machine, left, "a", source, url, *DIRECT)
            join_in(machine, right, "b", target, url, code, *DIRECT)
            wait_until(lambda: tree(target) == tree(source), "a file over a bad line", 60 + LOSSY_MIB)
            assert reached(machine, "b")["reached"] in ("lan", "direct")
        finally:
            machine.stop()


def test_edits_of_both_sides_of_an_outage_meet_within_seconds_of_its_end(machine: Machine) -> None:
    with one_lan() as (left, right):
        try:
            source, target = pair(machine, left, right, "10.5.0.1")
            with silence(right, "input", "output"):
                (source / "only here").write_text("a")
                (target / "only there").write_bytes(os.urandom(300_000))
                (source / "first").write_text("changed by a")
                (target / "first").write_text("changed by b")
                time.sleep(14)  # real time of real kernels: left to themselves they would retry 11 s after the end
                assert not (target / "only here").exists()
            wait_until(lambda: tree(target) == tree(source) and len(tree(source)) == 4, "equal", 9)
            assert {b"changed by a", b"changed by b"} <= set(tree(source).values()), "both edits are kept"
        finally:
            machine.stop()


def test_a_device_that_moves_to_another_address_is_linked_within_seconds(machine: Machine) -> None:
    with one_lan() as (left, right):
        try:
            source, target = pair(machine, left, right, "10.5.0.1")
            for number, moved in ((7, right), (8, left)):
                (source / f"before {number}").write_text("x")
                wait_until(lambda: tree(target) == tree(source), "in sync before the move")
                move_host(moved, f"10.5.0.{number}/24")
                (source / f"after {number}").write_text("x")
                wait_until(lambda: tree(target) == tree(source), "in sync after the move", BACK_SECONDS)
        finally:
            machine.stop()


def test_silence_in_one_direction_and_sleep_are_noticed_in_time_and_overcome_at_once(machine: Machine) -> None:
    source, sleeper, mute = (machine.directory / name for name in ("a", "b", "c"))
    source.mkdir()
    (source / "first").write_text("of a")
    with one_switch(3) as (one, two, three):
        try:
            url = relay_in(machine, one, "10.6.0.1")
            _, code = share_in(machine, one, "a", source, url, *DIRECT)
            stopped = join_in(machine, two, "b", sleeper, url, code, *DIRECT)
            stopped.first_json(lambda line: "folder" in line)
            code = another_code(machine)
            join_in(machine, three, "c", mute, url, code, *DIRECT)
            wait_until(lambda: tree(sleeper) == tree(source) == tree(mute), "the first sync")
            with silence(three, "output"):
                os.kill(stopped.pid, signal.SIGSTOP)
                began = time.monotonic()
                (source / "meanwhile a").write_text("a")
                (mute / "meanwhile c").write_text("c")
                wait_until(
                    lambda: ways(machine, "a") <= {"unreachable", "store only"}, "both noticed", DEAD_SECONDS + 20
                )
                assert time.monotonic() - began < DEAD_SECONDS + IDLE_SECONDS
            os.kill(stopped.pid, signal.SIGCONT)
            wait_until(
                lambda: tree(sleeper) == tree(source) == tree(mute) and len(tree(source)) == 3, "equal", BACK_SECONDS
            )
        finally:
            machine.stop()
