"""Devices behind real NATs of this machine's kernel: they open a link from both sides where that can work, and meet at
the relay where it cannot. The relay gets no content to keep."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.namespaces import (
    DOCUMENTATION,
    ORDINARY,
    PUBLIC_ADDRESS,
    Hosts,
    Nat,
    mapped_ports,
    refusing,
    two_nats,
    upnp_router,
    within,
)
from tests.support.processes import Machine, Process, tree, wait_until

pytestmark = pytest.mark.slow

LINKS = ("--listen", ":0", "--json")


def reached(machine: Machine, name: str) -> str:
    (peer,) = machine.status(name)["folders"][0]["peers"]
    return str(peer["reached"])


def until_reached(machine: Machine, way: str) -> None:
    """Wait until both devices say that they reach each other that way."""
    for name in ("a", "b"):
        wait_until(lambda name=name: reached(machine, name) == way, f"{name} being {way}")  # type: ignore[misc]


def change(machine: Machine, name: str) -> None:
    """Write a file on b, and wait until a has it."""
    (machine.directory / "b" / name).write_text("from b")
    wait_until(lambda: (machine.directory / "a" / name).exists(), "a change of b")


def relay(machine: Machine, hosts: Hosts, network: str = DOCUMENTATION) -> str:
    machine.wrapper = within(hosts.public)
    return machine.relay("--open", "--listen", f"{network}.1:22443")


def paired(machine: Machine, first: str, second: str, url: str, **variables: str) -> tuple[Process, Process]:
    """Devices `a` in namespace `first` and `b` in `second`, with a large file of a's that has come to b."""
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(3_000_000))
    machine.wrapper = within(first)
    sharing = machine.device("a", "share", str(source), "--relay", url, *LINKS, **variables)
    code = str(sharing.first_json(lambda line: "code" in line)["code"])
    machine.wrapper = within(second)
    joining = machine.device("b", "join", str(target), "--relay", url, *LINKS, P2PSYNC_CODE=code, **variables)
    wait_until(lambda: tree(target) == tree(source), "the first sync")
    return sharing, joining


def kept_packs(machine: Machine) -> list[Path]:
    return [path for path in (machine.directory / "relay").rglob("*") if path.is_file() and "packs" in path.parts]


@pytest.mark.parametrize(
    ("kind", "way"), [(Nat.MASQUERADE, "direct"), (Nat.RANDOM, "spliced")], ids=["port-keeping", "random"]
)
def test_two_devices_behind_nats(machine: Machine, kind: Nat, way: str) -> None:
    with two_nats(kind) as hosts:
        try:
            paired(machine, hosts.left, hosts.right, relay(machine, hosts), P2PSYNC_LINKS="direct,splice")
            until_reached(machine, way)
            if way == "direct":
                with refusing(hosts.nat_left, f"{DOCUMENTATION}.12"):
                    (machine.directory / "a" / "there").write_text("from a")  # both ends say something and are refused
                    change(machine, "here")
                    until_reached(machine, "spliced")
                until_reached(machine, "direct")
                machine.relay_process.end()  # what goes direct needs no relay
            change(machine, "back")
            for name in ("a", "b"):
                assert reached(machine, name) == way
            assert kept_packs(machine) == []
        finally:
            machine.stop()


def test_a_public_device_and_one_behind_a_nat_are_linked_directly(machine: Machine) -> None:
    with two_nats(Nat.RANDOM) as hosts:
        try:
            paired(machine, hosts.public, hosts.right, relay(machine, hosts), P2PSYNC_LINKS="direct")
            wait_until(lambda: reached(machine, "b") == "direct", "b being direct")
            assert reached(machine, "a") == "lan", "the other one's NAT is on the same network"
            assert kept_packs(machine) == []
        finally:
            machine.stop()


def test_a_port_of_the_router_lets_others_dial_a_device_behind_it(machine: Machine) -> None:
    """Both NATs are of the kind that cannot be passed from both sides, and no splice is allowed."""
    variables = {"P2PSYNC_LINKS": "direct", "P2PSYNC_NO_LAN": "0"}
    with two_nats(Nat.RANDOM, ORDINARY) as hosts, upnp_router(hosts.nat_left, machine.directory):
        try:
            url = relay(machine, hosts, ORDINARY)
            sharing, _ = paired(machine, hosts.left, hosts.right, url, **variables)
            status = machine.status("a")
            (rule,) = mapped_ports(hosts.nat_left)
            port = status["listening"][0].rpartition(":")[2]
            assert status["port_mapping"]["address"].startswith(f"{ORDINARY}.11:") and port in rule
            assert reached(machine, "a") == reached(machine, "b") == "direct"
            sharing.end()
            assert mapped_ports(hosts.nat_left) == [], "the port was given back"
        finally:
            machine.stop()


def test_an_address_given_by_hand_needs_neither_relay_nor_lan(machine: Machine) -> None:
    with two_nats(Nat.RANDOM) as hosts:
        try:
            for process in paired(
                machine, hosts.public, hosts.right, relay(machine, hosts), P2PSYNC_LINKS="direct"
            ):  # fmt: skip
                process.end()
            machine.relay_process.end()
            own = machine.run("a", "device-id").stdout.strip()
            done = machine.run("b", "device", "address", own[:7], f"{PUBLIC_ADDRESS}:22400")
            assert done.returncode == 0 and f"{PUBLIC_ADDRESS}:22400" in done.stdout, done.stderr
            for name, where, port in (("a", hosts.public, ":22400"), ("b", hosts.right, "none")):
                machine.wrapper = within(where)
                machine.device(name, "serve", "--json", P2PSYNC_LISTEN=port, P2PSYNC_LINKS="direct")
            change(machine, "back")
            assert reached(machine, "b") == "direct"
        finally:
            machine.stop()
