"""Laws of direct links, with real processes, real sockets and a relay that gets no content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow

DIRECT = ("--links", "direct", "--no-lan", "--listen", "127.0.0.1:0", "--json")


def packs(machine: Machine) -> list[Path]:
    return [path for path in (machine.directory / "relay").rglob("*") if path.is_file() and "packs" in path.parts]


def start(machine: Machine) -> tuple[Path, Path]:
    """Two devices that share a tree of 3 MiB directly."""
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    for number in range(30):
        (source / f"file {number}").write_bytes(os.urandom(100_000))
    url = machine.relay("--open")
    sharing = machine.device("a", "share", str(source), "--relay", url, *DIRECT)
    code = str(sharing.first_json(lambda line: "code" in line)["code"])
    joining = machine.device("b", "join", str(target), "--relay", url, *DIRECT, P2PSYNC_CODE=code)
    joining.first_json(lambda line: "folder" in line)
    return source, target


def test_a_tree_syncs_with_direct_links_alone_and_goes_on_without_the_relay(machine: Machine) -> None:
    source, target = start(machine)
    wait_until(lambda: tree(target) == tree(source), "the first sync")
    assert packs(machine) == []
    (peer,) = machine.status("a")["folders"][0]["peers"]
    assert peer["reached"] in ("lan", "direct") and peer["sent_bytes"] > 3_000_000
    machine.relay_process.end()
    (target / "from b").write_bytes(os.urandom(200_000))
    wait_until(lambda: tree(target) == tree(source), "a change of b, without any relay")
    assert machine.run("b", "sync", "--timeout", "30").returncode == 0


def test_the_devices_of_a_folder_are_listed_and_named(machine: Machine) -> None:
    start(machine)
    renamed = machine.run("b", "device", "rename", "kitchen")
    assert renamed.returncode == 0, renamed.stderr

    def names() -> set[str]:
        return {peer["name"] for peer in machine.status("a")["folders"][0]["peers"]}

    wait_until(lambda: names() == {"kitchen"}, "the name arrives")
    shown = machine.run("a", "device", "list")
    assert shown.returncode == 0 and "kitchen" in shown.stdout and "this device" in shown.stdout
    assert machine.run("a", "device").stdout.split() == shown.stdout.split()
    said = machine.run("a", "status").stdout
    assert "kitchen, lan since" in said or "kitchen, direct since" in said


def test_a_port_that_was_asked_for_and_is_taken_is_said(machine: Machine) -> None:
    first = machine.device("a", "serve", *DIRECT)
    port = first.first_json(lambda line: "listening" in line)["listening"][0].rpartition(":")[2]
    second = machine.run("b", "serve", "--listen", f"127.0.0.1:{port}", "--json")
    assert second.returncode == 1 and "--listen" in second.stderr
