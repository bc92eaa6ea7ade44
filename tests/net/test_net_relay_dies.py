"""A relay that dies in the middle: what runs directly does not notice, what runs through it resumes without loss."""

from __future__ import annotations

import os
import signal

import pytest

from p2psync.limits import CHUNK_MAX, MIB
from tests.support.namespaces import PUBLIC_ADDRESS, Nat, one_lan, received_bytes, two_nats
from tests.support.pairs import DIRECT, join_in, reached, relay_in, share_in
from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow

SPLICED = ("--links", "direct,splice", "--no-lan", "--json")
SIZE = 48 * MIB
HEADERS = 1.06
"""What packets, TLS and frames add to content on a cable of 1500-byte packets, answers included."""


def test_a_relay_killed_while_it_carries_costs_at_most_one_chunk(machine: Machine) -> None:
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "first").write_text("x")
    with two_nats(Nat.RANDOM) as hosts:
        try:
            url = relay_in(machine, hosts.public, PUBLIC_ADDRESS)
            _, code = share_in(machine, hosts.left, "a", source, url, *SPLICED)
            join_in(machine, hosts.right, "b", target, url, code, *SPLICED)
            wait_until(lambda: reached(machine, "b")["reached"] == "spliced" and tree(target) != {}, "spliced")
            before = received_bytes(hosts.right)
            (source / "large").write_bytes(os.urandom(SIZE))
            wait_until(lambda: received_bytes(hosts.right) - before > SIZE // 4, "well on its way")
            machine.relay_process.end(signal.SIGKILL)
            assert not (target / "large").exists(), "the test must cut a transfer that runs"
            relay_in(machine, hosts.public, PUBLIC_ADDRESS)
            wait_until(lambda: tree(target) == tree(source), "complete after the relay's return", 40)
            assert received_bytes(hosts.right) - before <= SIZE * HEADERS + CHUNK_MAX
            assert reached(machine, "b")["reached"] == "spliced"
        finally:
            machine.stop()


def test_a_relay_killed_while_devices_are_linked_directly_interrupts_nothing(machine: Machine) -> None:
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "first").write_text("x")
    with one_lan() as (left, right):
        try:
            url = relay_in(machine, left, "10.5.0.1")
            _, code = share_in(machine, left, "a", source, url, *DIRECT)
            join_in(machine, right, "b", target, url, code, *DIRECT)
            wait_until(lambda: tree(target) == tree(source), "the first sync")
            since, before = reached(machine, "b")["since"], received_bytes(right)
            (source / "large").write_bytes(os.urandom(SIZE))
            wait_until(lambda: received_bytes(right) - before > SIZE // 4, "well on its way")
            machine.relay_process.end(signal.SIGKILL)
            wait_until(lambda: tree(target) == tree(source), "complete without the relay")
            peer = reached(machine, "b")
            assert peer["since"] == since and peer["reason"] is None, "it is the same session as before"
            assert received_bytes(right) - before <= SIZE * HEADERS
        finally:
            machine.stop()
