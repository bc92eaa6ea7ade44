"""A Syncthing of one folder for side-by-side benchmarks, from the package of the system: loopback only, alone, no watcher."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
import urllib.parse
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

_FOLDER = "bench"
_QUIET = {
    "globalAnnounceEnabled": "false", "localAnnounceEnabled": "false", "relaysEnabled": "false", "natEnabled": "false",
    "urAccepted": "-1", "autoUpgradeIntervalH": "0", "crashReportingEnabled": "false", "startBrowser": "false",
    "stunServer": "", "globalAnnounceServer": "", "urURL": "", "releasesURL": "", "crashReportingURL": "",
    "setLowPriority": "false",
}  # fmt: skip
"""It says nothing to anybody, and takes as much of the machine as p2psync does."""


class SyncthingNode:
    """Made with a fresh directory; `start`, then use it, then `stop`."""

    def __init__(self, directory: Path) -> None:
        self._home, self.root = directory / "home", directory / "tree"
        self.root.mkdir(parents=True)
        (self.root / ".stfolder").mkdir()
        self._environment = {
            name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
        } | {"HOME": str(directory), "STNORESTART": "1", "STNOUPGRADE": "1"}  # fmt: skip
        self._log = directory / "log"
        subprocess.run(
            ["syncthing", "generate", f"--home={self._home}", "--no-default-folder", "--skip-port-probing"],
            check=True, capture_output=True, env=self._environment,
        )  # fmt: skip
        self._configure()

    def _configure(self) -> None:
        file = self._home / "config.xml"
        tree = ElementTree.parse(file)
        top = tree.getroot()
        self._port = _free_port()
        _text(top, "gui/address", f"127.0.0.1:{self._port}")
        self._key = _text(top, "gui/apikey")
        options = top.find("options")
        device = top.find("device")
        assert options is not None and device is not None
        for name, value in {**_QUIET, "listenAddress": f"tcp://127.0.0.1:{_free_port()}"}.items():
            found = options.find(name)
            (ElementTree.SubElement(options, name) if found is None else found).text = value
        folder = ElementTree.SubElement(
            top, "folder", id=_FOLDER, label=_FOLDER, path=str(self.root), type="sendreceive",
            rescanIntervalS="604800", fsWatcherEnabled="false",
        )  # fmt: skip
        ElementTree.SubElement(folder, "device", id=device.attrib["id"], introducedBy="")
        tree.write(file)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["syncthing", "serve", f"--home={self._home}", "--no-browser", "--no-restart"],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        while True:
            assert self.process.poll() is None, self._log.read_text()
            with suppress(OSError, AssertionError, ValueError):
                self._ask("GET", "/rest/system/ping")
                return
            time.sleep(0.02)

    def scan(self) -> None:
        """Look at the whole folder; returns when that is done."""
        self._ask("POST", "/rest/db/scan", folder=_FOLDER)

    def until_idle(self, files: int) -> None:
        while True:
            status = self._ask("GET", "/rest/db/status", folder=_FOLDER)
            if status["localFiles"] >= files and status["state"] == "idle":
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """It writes everything down first."""
        self.process.terminate()
        self.process.wait(60)

    def _ask(self, method: str, path: str, **parameters: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=900)
        try:
            connection.request(method, f"{path}?{urllib.parse.urlencode(parameters)}", headers={"X-API-Key": self._key})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return json.loads(body) if body.strip() else None
        finally:
            connection.close()


def _text(top: ElementTree.Element, place: str, new: str | None = None) -> str:
    found = top.find(place)
    assert found is not None and found.text is not None, place
    if new is not None:
        found.text = new
    return found.text


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
