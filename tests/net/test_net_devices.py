"""Two devices behind NATs that let nothing in: they meet at the relay, which gets no content to keep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.namespaces import PUBLIC_ADDRESS, Nat, two_nats, within
from tests.support.processes import Machine, tree, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.stop()


def test_devices_behind_nats_share_a_folder_through_a_splice(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin:/sbin")
    source, target = machine.directory / "a", machine.directory / "b"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(3_000_000))
    links = ("--links", "direct,splice", "--listen", ":0", "--json")
    with two_nats(Nat.RANDOM) as hosts:
        try:
            machine.wrapper = within(hosts.public)
            url = machine.relay("--open", "--listen", f"{PUBLIC_ADDRESS}:22443")
            machine.wrapper = within(hosts.left)
            sharing = machine.device("a", "share", str(source), "--relay", url, *links)
            code = str(sharing.first_json(lambda line: "code" in line)["code"])
            machine.wrapper = within(hosts.right)
            machine.device("b", "join", str(target), "--relay", url, *links, P2PSYNC_CODE=code)
            wait_until(lambda: tree(target) == tree(source), "the first sync")
            (target / "back").write_text("from b")
            wait_until(lambda: tree(target) == tree(source), "a change of b")
            for name in ("a", "b"):
                (peer,) = machine.status(name)["folders"][0]["peers"]
                assert peer["reached"] == "spliced" and peer["reason"] is None
            kept = [
                path for path in (machine.directory / "relay").rglob("*") if path.is_file() and "packs" in path.parts
            ]
            assert kept == []
        finally:
            machine.stop()
