"""What a device is while no peer runs: read from its keys and its registry alone."""

from __future__ import annotations

from pathlib import Path

from p2psync.catalog.keystore import Keystore
from p2psync.node.control import Json
from p2psync.node.home import Home
from p2psync.node.registry import DEVICE_NAME, RegisteredFolder, Registry
from p2psync.seams import SystemRandomness


def own_device_id(directory: Path) -> str:
    """This device's id; its keys are made if there are none yet."""
    return Keystore(Home(directory).keys).device(SystemRandomness()).device_id


def stopped_status(directory: Path) -> Json:
    """What the registry alone knows: no peer runs, so nothing is being synced."""
    home = Home(directory)
    registry = Registry(home.registry)
    try:
        folders = registry.folders()
        name = registry.setting(DEVICE_NAME)
    finally:
        registry.close()
    return {
        "device": own_device_id(directory),
        "name": name,
        "running": False,
        "folders": [_stopped_folder(folder) for folder in folders],
        "relays": [],
    }


def _stopped_folder(folder: RegisteredFolder) -> Json:
    return {
        "id": folder.folder.hex(), "label": folder.label, "path": str(folder.path), "role": folder.role.name.lower(),
        "state": "paused", "local_bytes": 0, "global_bytes": 0, "need_bytes": 0, "need_files": 0, "upload_bytes": 0,
        "conflicts": 0, "error": "no peer runs for this device", "problems": [], "held": [], "peers": [], "stores": [],
        "type": None, "differing": 0, "local_changes": 0, "kept": 0, "ignore_patterns": 0,
        "xattrs": None,
    }  # fmt: skip
