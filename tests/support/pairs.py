"""Two devices with one folder, each in a namespace of its own: the start of most tests of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.namespaces import within
from tests.support.processes import Machine, Process

OPEN_LAN = {"P2PSYNC_LISTEN": ":0", "P2PSYNC_NO_LAN": "0"}
"""The namespaces are closed: here devices may listen on all interfaces and call out."""
DIRECT = ("--links", "direct", "--json")


def relay_in(machine: Machine, namespace: str, address: str, port: int = 22443) -> str:
    """Start a relay there; its URL."""
    machine.wrapper = within(namespace)
    return machine.relay("--open", "--listen", f"{address}:{port}")


def share_in(
    machine: Machine, namespace: str, name: str, source: Path, url: str, *options: str, **variables: str
) -> tuple[Process, str]:
    """A device that shares `source`, and the code it says."""
    machine.wrapper = within(namespace)
    sharing = machine.device(name, "share", str(source), "--relay", url, *options, **(OPEN_LAN | variables))
    return sharing, str(sharing.first_json(lambda line: "code" in line)["code"])


def join_in(
    machine: Machine, namespace: str, name: str, target: Path, url: str, code: str, *options: str, **variables: str
) -> Process:
    machine.wrapper = within(namespace)
    variables = OPEN_LAN | {"P2PSYNC_CODE": code} | variables
    return machine.device(name, "join", str(target), "--relay", url, *options, **variables)


def reached(machine: Machine, name: str) -> dict[str, Any]:
    """How the only other device of the only folder is reached, as status says it."""
    folders = machine.status(name)["folders"]
    peers: list[dict[str, Any]] = folders[0]["peers"] if folders else []
    return peers[0] if peers else {"reached": "not known yet", "reason": None}
