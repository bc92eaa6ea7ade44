"""Pairing with no relay at all, with real multicast over a real cable between network namespaces."""

from __future__ import annotations

import json
import os

import pytest

from p2psync.catalog.keystore import Keystore
from p2psync.seams import SystemRandomness
from tests.support.capture import captured
from tests.support.namespaces import one_lan, take_v4, within
from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow

OPEN = {"P2PSYNC_LISTEN": ":0", "P2PSYNC_NO_LAN": "0"}
"""The namespaces are closed: here devices may listen on all interfaces and call out."""


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_devices_pair_and_sync_on_a_lan_with_no_relay_at_all(machine: Machine, family: str) -> None:
    first, second, third = (machine.directory / name for name in "abc")
    first.mkdir()
    (first / "before").write_text("was here")
    with one_lan() as (left, right):
        try:
            if family == "IPv6":
                take_v4(left)
                take_v4(right)
            machine.wrapper = within(left)
            sharing = machine.device("a", "share", str(first), "--json", **OPEN)
            said = sharing.first_json(lambda line: "code" in line)
            assert said["relay"] is None
            machine.wrapper = within(right)
            joining = machine.device("b", "join", str(second), "--json", P2PSYNC_CODE=str(said["code"]), **OPEN)
            wait_until(lambda: tree(second) == tree(first), "the first sync")
            (second / "answer").write_bytes(os.urandom(500_000))
            wait_until(lambda: tree(second) == tree(first), "the way back")
            for process in (sharing, joining):
                assert process.end() == 0
            machine.wrapper = within(left)
            sharing = machine.device("a", "serve", "--json", **OPEN)
            machine.wrapper = within(right)
            machine.device("b", "serve", "--json", **OPEN)
            (first / "later").write_text("after both were started again")
            wait_until(lambda: tree(second) == tree(first), "found again")
            made = machine.run("a", "pair", "--no-wait", "--json")
            code = str(json.loads(made.stdout)["code"])
            machine.device("c", "join", str(third), "--json", P2PSYNC_CODE=code, **OPEN)
            wait_until(lambda: tree(third) == tree(first), "a third device")
        finally:
            machine.stop()


def test_the_lan_sees_a_number_and_neither_words_nor_names_nor_keys(machine: Machine) -> None:
    """All frames of a pairing and a sync, multicast and TCP, as anybody on the cable can record them."""
    first, second, record = (machine.directory / name for name in ("taxes", "b", "record"))
    first.mkdir()
    (first / "payslip-of-may").write_text("one thousand and eleven crowns")
    for name in "ab":
        assert machine.run(name, "device", "rename", f"kitchen-{name}").returncode == 0
    with one_lan() as (left, right):
        try:
            with captured(within(left), record):
                machine.wrapper = within(left)
                sharing = machine.device("a", "share", str(first), "--json", **OPEN)
                said = sharing.first_json(lambda line: "code" in line)
                number, *words = str(said["code"]).split("-")
                machine.wrapper = within(right)
                machine.device("b", "join", str(second), "--json", P2PSYNC_CODE=str(said["code"]), **OPEN)
                newcomer = sharing.first_json(lambda line: "paired" in line)
                wait_until(lambda: tree(second) == tree(first), "the first sync")
        finally:
            machine.stop()
    seen = record.read_bytes()
    for call in (b"p2psync 1 pair?\n", b"p2psync 1 pair!\n"):
        assert call + int(number).to_bytes(4, "big") in seen
    folder = bytes.fromhex(str(said["folder"]))
    devices = [Keystore(machine.home(name) / "keys").device(SystemRandomness()) for name in "ab"]
    assert (newcomer["device"], newcomer["name"]) == (devices[1].device_id, "kitchen-b")
    secrets = [
        *(word.encode() for word in words), b"taxes", b"payslip", b"thousand", b"kitchen", folder,
        folder.hex().encode(), *(each.device_id[:7].encode() for each in devices), *(each.identity_key for each in devices),
        *(each.box.public for each in devices), *(each.certificate for each in devices),
    ]  # fmt: skip
    assert not [secret for secret in secrets if secret in seen]
