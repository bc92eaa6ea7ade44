"""What holds for every test: Hypothesis' profile, a clean environment, no silent skips, no process left behind.

Fixtures that only some tests need stand beside them or in `tests/support`.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "dev"))

MAY_SKIP = [
    r"queue is too large to fill here",
    r"network namespaces cannot be made in this container",
    r"this disk takes large extended attributes",
    r"^/dev/shm/.* keeps no extended attributes",
] + ([r"needs root"] if os.geteuid() else [])
"""Reasons that are facts of the machine. With CI=true any other skip fails the run."""

_MARK = "TEST_SESSION_MARK"
_LEAVING_SECONDS = 5.0
"""A process that was told to end may take this long to be gone."""

_skipped: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("P2PSYNC_")]:
        del os.environ[name]  # what the user set for the product must not steer its tests
    os.environ[_MARK] = secrets.token_hex(16)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped[report.nodeid] = _reason(report.longrepr)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped[report.nodeid] = _reason(report.longrepr)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist; the controller hears of all reports
    if path := os.environ.get("SKIPPED_TESTS_FILE"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{test}: {reason}\n" for test, reason in _skipped.items())
    if CI and refused_skips(_skipped) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CI and (refused := refused_skips(_skipped)):
        terminalreporter.section("skips that CI does not accept", red=True)
        for test, reason in refused.items():
            terminalreporter.line(f"{test}: {reason}")


def refused_skips(skipped: dict[str, str]) -> dict[str, str]:
    """Those of these tests whose reason is not one of MAY_SKIP."""
    return {
        test: reason for test, reason in skipped.items() if not any(re.search(allowed, reason) for allowed in MAY_SKIP)
    }


def _reason(longrepr: object) -> str:
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Processes inherit a mark in their environment, so that orphans are found too."""
    yield
    deadline = time.monotonic() + _LEAVING_SECONDS
    quiet = 0
    while quiet < 2:  # a process in the middle of its exec shows no environment: look twice
        left = _marked_processes(os.environ[_MARK])
        if left and time.monotonic() > deadline:
            pytest.fail(f"tests left processes behind: {left}")
        quiet = 0 if left else quiet + 1
        time.sleep(0.05)


def _marked_processes(mark: str) -> list[str]:
    if sys.platform != "linux":
        return []
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{process.name} {command.strip()}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is somebody else's
    return found
