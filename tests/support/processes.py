"""Real processes of the real commands for tests: a relay, devices, and one-shot commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WAIT_SECONDS = 60.0


LOOPBACK = {"P2PSYNC_LISTEN": "127.0.0.1:0", "P2PSYNC_NO_LAN": "1"}
"""Tests bind to loopback and announce nothing to a network."""


def clean_environment() -> dict[str, str]:
    return LOOPBACK | {name: value for name, value in os.environ.items() if not name.startswith("P2PSYNC_")}


class Process:
    """One running process; its stdout lines are read at once, JSON ones are kept."""

    def __init__(
        self, arguments: list[str], directory: Path, log: Path, wrapper: Sequence[str] = (), **variables: str
    ) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*wrapper, sys.executable, *arguments], env=clean_environment() | variables, cwd=directory,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def first_json(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first JSON line that `wanted` likes."""
        end = time.monotonic() + WAIT_SECONDS
        with self._said:
            while True:
                for line in self.lines:
                    value = json.loads(line) if line.startswith("{") else {}
                    if value and wanted(value):
                        return value
                if self._process.poll() is not None or not self._said.wait(max(end - time.monotonic(), 0.01)):
                    raise AssertionError(f"never said: {self.lines}, exit code {self._process.poll()}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        try:
            code = self._process.wait(WAIT_SECONDS)
        finally:
            if self._process.poll() is None:
                self._process.kill()
        self._reader.join(WAIT_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()
        self._process.poll()
        with self._said:
            self._said.notify_all()


class Machine:
    """A directory with a relay and devices; everything it started ends with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wrapper: Sequence[str] = ()
        """Put before the next processes' command lines: `setpriv …` to take a power from them."""
        self._processes: list[Process] = []

    def relay(self, *options: str, name: str = "relay", port: int = 0) -> str:
        """Start a relay; returns its URL."""
        data = self.directory / name
        (data / "url").unlink(missing_ok=True)
        arguments = ["-P", "-m", "relay", "serve", "--data", str(data), "--listen", f"127.0.0.1:{port}", *options]
        self.relay_process = self._start(arguments, name)
        end = time.monotonic() + WAIT_SECONDS
        while not ((data / "url").exists() and (data / "url").read_text().strip()):
            assert time.monotonic() < end, (self.directory / f"{name}.log").read_text()
            time.sleep(0.02)
        return (data / "url").read_text().strip()

    def device(self, name: str, *command: str, **variables: str) -> Process:
        """Start a device with a command that goes on running."""
        return self._start(
            ["-P", "-m", "p2psync.cli.main", *command], name, P2PSYNC_HOME=str(self.home(name)), **variables
        )

    def run(self, name: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a device to its end."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "p2psync.cli.main", *command], cwd=self.directory, stdin=subprocess.DEVNULL,
            env=clean_environment() | {"P2PSYNC_HOME": str(self.home(name))} | variables,
            capture_output=True, text=True, timeout=WAIT_SECONDS * 2,
        )  # fmt: skip

    def home(self, name: str) -> Path:
        return self.directory / f"home-{name}"

    def status(self, name: str) -> dict[str, Any]:
        done = self.run(name, "status", "--json")
        assert done.returncode == 0, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.end()

    def _start(self, arguments: list[str], name: str, **variables: str) -> Process:
        process = Process(arguments, self.directory, self.directory / f"{name}.log", self.wrapper, **variables)
        self._processes.append(process)
        return process


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its content; our own directory and temporary files left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".p2psync" not in path.parts and not path.name.startswith(".p2psync.")
    }


def wait_until(law: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Poll a condition of other processes."""
    end = time.monotonic() + seconds
    while not law():
        assert time.monotonic() < end, f"never became true: {what}"
        time.sleep(0.05)
