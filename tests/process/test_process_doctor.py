"""`p2psync doctor` on a real machine: all well, a relay that is down, a clock that is wrong, keys that others can read."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from tests.support.clocks import years
from tests.support.processes import Machine, clean_environment

pytestmark = pytest.mark.slow


def examined(machine: Machine) -> tuple[int, dict[str, dict[str, Any]], str]:
    """(exit code, finding by check, what stderr said)."""
    done = machine.run("a", "doctor", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {each["check"]: each for each in found}, done.stderr


def test_what_is_wrong_is_found_with_and_without_a_running_peer(machine: Machine) -> None:
    root = machine.directory / "tree"
    root.mkdir()
    machine.wrapper = years(-3)
    url = machine.relay("--open", "--json")
    machine.wrapper = ()
    assert machine.run("a", "folder", "add", str(root), "--relay", url).returncode == 0
    code, found, _ = examined(machine)
    assert code == 0 and set(found) == {
        "permissions", "disk", "files", "watches", "ports", "relay", "clock", "folder"
    }  # fmt: skip
    assert found["clock"]["grade"] == "warning" and "days ahead" in found["clock"]["sentence"]
    assert {each["grade"] for check, each in found.items() if check not in ("clock", "ports")} == {"ok"}
    serving = machine.device("a", "serve", "--listen", "127.0.0.1:0", "--no-lan", "--json")
    serving.first_json(lambda said: "listening" in said)
    machine.relay_process.end()
    (machine.home("a") / "keys").chmod(0o755)
    code, found, error = examined(machine)
    assert code == 1 and "2 of" in error and "127.0.0.1" in found["ports"]["sentence"]
    assert found["relay"]["grade"] == found["permissions"]["grade"] == "bad"
    words = machine.run("a", "doctor")
    assert words.returncode == 1 and "FAIL" in words.stdout and "→ chmod -R go=" in words.stdout


def test_a_reader_that_has_seen_enough_is_no_fault(machine: Machine) -> None:
    command = shlex.join([sys.executable, "-P", "-m", "p2psync.cli.main", "doctor", "--json"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60,
        env=clean_environment() | {"P2PSYNC_HOME": str(machine.home("a"))},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
