"""Through real NATs of this machine's kernel: simultaneous open where it can work, a splice where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.namespaces import PUBLIC_ADDRESS, Nat, two_nats, within
from tests.support.processes import Process
from tests.support.traveller import BYTES

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seconds", "way"),
    [(Nat.MASQUERADE, 10, "direct"), (Nat.RANDOM, 3, "splice")],
    ids=["port-keeping", "random"],
)
def test_two_devices_behind_nats_find_a_way(tmp_path: Path, kind: Nat, seconds: float, way: str) -> None:
    path = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    with two_nats(kind) as hosts:
        listen = f"{PUBLIC_ADDRESS}:22443"
        relay = Process(
            ["-m", "relay", "serve", "--open", "--json", "--data", str(tmp_path / "relay"), "--listen", listen],
            tmp_path, tmp_path / "relay.log", within(hosts.public), **path,
        )  # fmt: skip
        devices = {}
        try:
            url = relay.first_json(lambda said: "url" in said)["url"]
            for side, host in (("dials", hosts.left), ("answers", hosts.right)):
                devices[side] = Process(
                    ["-m", "tests.support.traveller", url, side, str(seconds)],
                    tmp_path, tmp_path / f"{side}.log", within(host), **path,
                )  # fmt: skip
            for side, other in (("dials", "a"), ("answers", "d")):
                said = devices[side].first_json(lambda said: "way" in said)
                assert said == {"way": way, "letters": [other], "bytes": BYTES}, (tmp_path / f"{side}.log").read_text()
        finally:
            for process in (*devices.values(), relay):
                process.end()
