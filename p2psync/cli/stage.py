"""Real processes for the demonstration: a relay and devices, each with its own home, all in one directory.

Owns starting, reading what they print first, and ending them; every process it starts is ended with it. The devices are
driven through the command line only, as any user would.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from p2psync.errors import TimedOut
from p2psync.store.sqlite import Database

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class Stage:
    """A directory with the processes of one demonstration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[tuple[str, subprocess.Popen[str]]] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def relay_directory(self) -> Path:
        return self.directory / "relay"

    def start_relay(self) -> str:
        """Start a relay on a free port of this machine; returns its URL."""
        arguments = [
            "-P",
            "-m",
            "relay",
            "serve",
            "--data",
            str(self.relay_directory),
            "--open",
            "--listen",
            "127.0.0.1:0",
        ]
        self._start("relay", arguments, {})
        url = self.relay_directory / "url"
        end = time.monotonic() + START_SECONDS
        while not (url.exists() and url.read_text().strip()):
            self._check("relay")
            if time.monotonic() > end:
                raise TimedOut(f"the relay did not start; see {self.directory / 'relay.log'}")
            time.sleep(0.05)
        return url.read_text().strip()

    def start_device(self, name: str, command: list[str], **variables: str) -> dict[str, Any]:
        """Start a device with a command that goes on as its peer; returns its first JSON line that names a folder."""
        process = self._start(name, ["-P", "-m", "p2psync.cli.main", *command, "--json"], self._home(name) | variables)
        said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=_read_lines, args=(process, said), daemon=True).start()
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                line = said.get(timeout=max(end - time.monotonic(), 0.01))
            except queue.Empty:
                line = None
            if line is None:
                raise TimedOut(f"the device {name} did not get ready: {self._last_words(name)}")
            if "folder" in line:
                return line

    def ask(self, name: str, *command: str) -> dict[str, Any]:
        """Run a command of a device; what it says, in one object."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "p2psync.cli.main", *command, "--json"],
            env=_clean_environment() | self._home(name), cwd=self.directory, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise TimedOut(f"the device {name} does not answer: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stored_objects(self) -> list[tuple[str, int]]:
        """Names and sizes of all objects the relay stores."""
        objects: list[tuple[str, int]] = []
        for path in sorted(self.relay_directory.glob("namespaces/*/objects.db")):
            database = Database(path, "p2psync.store.sql")
            try:
                objects += [(str(row[0]), int(row[1])) for row in database.query("SELECT key, size FROM object")]
            finally:
                database.close()
        return objects

    def stop(self) -> None:
        """End every process, politely first."""
        for _, process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()

    def _home(self, name: str) -> dict[str, str]:
        # Everything through the relay, so that there is something to look for there; nothing beyond this machine.
        return {
            "P2PSYNC_HOME": str(self.directory / f"home-{name}"),
            "P2PSYNC_LINKS": "store",
            "P2PSYNC_LISTEN": "none",
            "P2PSYNC_NO_LAN": "1",
        }

    def _start(self, name: str, arguments: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], env=_clean_environment() | variables, cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if variables else log, stderr=log, text=True,
            )  # fmt: skip
        self._processes.append((name, process))
        return process

    def _check(self, name: str) -> None:
        for known, process in self._processes:
            if known == name and process.poll() is not None:
                raise TimedOut(f"the {name} ended at once: {self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        lines = (self.directory / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _clean_environment() -> dict[str, str]:
    """Ours, without variables that would steer the commands of the demonstration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("P2PSYNC_")}


def _read_lines(process: subprocess.Popen[str], said: queue.Queue[dict[str, Any] | None]) -> None:
    """Runs in a thread until the process closes its output, so that it never blocks on writing."""
    for line in process.stdout or ():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            said.put(value)
    said.put(None)
