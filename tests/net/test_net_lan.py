"""Devices on one LAN, with real multicast over a real cable between two network namespaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.namespaces import one_lan, take_v4, within
from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow

OPEN = {"P2PSYNC_LISTEN": ":0", "P2PSYNC_NO_LAN": "0"}
"""The namespaces are closed: here devices may listen on all interfaces and call out."""


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_paired_devices_find_each_other_on_the_lan_without_any_relay(machine: Machine, family: str) -> None:
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "before").write_text("paired")
    with one_lan() as (left, right):
        try:
            machine.wrapper = within(left)
            url = machine.relay("--open", "--listen", "10.5.0.1:22443")
            sharing = machine.device("a", "share", str(source), "--relay", url, "--json", **OPEN)
            code = str(sharing.first_json(lambda line: "code" in line)["code"])
            machine.wrapper = within(right)
            joining = machine.device("b", "join", str(target), "--relay", url, "--json", P2PSYNC_CODE=code, **OPEN)
            wait_until(lambda: tree(target) == tree(source), "the first sync")
            for process in (sharing, joining, machine.relay_process):
                process.end()
            if family == "IPv6":
                take_v4(left)
                take_v4(right)
            (source / "after").write_bytes(os.urandom(500_000))
            for name, side in (("a", left), ("b", right)):
                machine.wrapper = within(side)
                machine.device(name, "serve", "--json", **OPEN)
            wait_until(lambda: tree(target) == tree(source), "found on the LAN")
            (peer,) = machine.status("a")["folders"][0]["peers"]
            assert peer["reached"] == "lan"
        finally:
            machine.stop()


def test_a_device_told_to_keep_off_the_lan_is_not_found_there(machine: Machine) -> None:
    with one_lan() as (left, _):
        machine.wrapper = within(left)
        machine.device("a", "serve", "--no-lan", "--json", **OPEN).first_json(lambda line: "device" in line)
        machine.device("b", "serve", "--json", **OPEN).first_json(lambda line: "device" in line)
        open_ports = Path(f"/proc/{_pid(machine, 'a')}/net/udp").read_text()
        inodes = {line.split()[9] for line in open_ports.splitlines()[1:] if line.split()[1].endswith(":5232")}
        assert inodes and not inodes & _sockets(_pid(machine, "a")) and inodes & _sockets(_pid(machine, "b"))
        machine.stop()


def _pid(machine: Machine, name: str) -> int:
    return int((machine.home(name) / "lock").read_text().split()[0])


def _sockets(pid: int) -> set[str]:
    targets = (os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return {target.removeprefix("socket:[").removesuffix("]") for target in targets if target.startswith("socket:")}
