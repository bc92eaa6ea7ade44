"""What a command loads: one that asks the running peer, or only shows its help, does without what runs a peer."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    "p2psync.catalog",
    "p2psync.session",
    "p2psync.vault",
    "p2psync.node.peer",
    "p2psync.replica.replica",
    "cryptography",
)


def loaded_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_command_line_loads_no_peer() -> None:
    assert not loaded_by("p2psync.cli.main").intersection(HEAVY)


def test_what_runs_a_peer_loads_all_of_that() -> None:
    assert loaded_by("p2psync.cli.hosting").issuperset(HEAVY)
