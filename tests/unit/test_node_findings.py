"""What the doctor says: every figure that keeps sync from working well is named with a line that mends it."""

from __future__ import annotations

import pytest

from p2psync.node.findings import (
    CLOCK_SECONDS,
    ROOM_BYTES,
    Finding,
    Grade,
    judge_clock,
    judge_disk,
    judge_files,
    judge_folder,
    judge_ports,
    judge_private,
    judge_relay,
    judge_watches,
)

GIB = 1 << 30


def disk(free: int = 10 * GIB, need: int = 0, *, read_only: bool = False, writable: bool = True) -> Finding:
    return judge_disk("/srv/it's", free=free, need=need, read_only=read_only, writable=writable)


GOOD = [
    judge_watches(800, 1000, None), judge_clock(None), judge_clock(CLOCK_SECONDS), judge_clock(-CLOCK_SECONDS), disk(),
    disk(GIB, GIB), disk(ROOM_BYTES), judge_private("/home/a", [], []), judge_files(1024),
    judge_ports(["127.0.0.1:22400"], running=True, wanted=None, free=False),
    judge_ports([], running=False, wanted=22400, free=True), judge_relay("relay.example:22443", None, None),
    judge_folder("photos", None, 0),
]  # fmt: skip
WRONG = [
    (judge_watches(801, 1000, None), Grade.WARNING, "max_user_watches=524288"),
    (judge_watches(400_000, 300_000, None), Grade.WARNING, "max_user_watches=800000"),
    (judge_watches(10, 1000, "too few watches"), Grade.BAD, "max_user_watches"),
    (judge_clock(CLOCK_SECONDS + 1), Grade.WARNING, "set-ntp"),
    (judge_clock(-86_400 * 365), Grade.WARNING, "set-ntp"),
    (disk(GIB, GIB + 1), Grade.BAD, "free 256 MiB"),
    (disk(ROOM_BYTES - 1), Grade.WARNING, "room"),
    (disk(read_only=True), Grade.BAD, "remount,rw '/srv/it'\"'\"'s'"),
    (disk(writable=False), Grade.BAD, "chown"),
    (judge_private("/home/a", ["/home/a/keys"], []), Grade.BAD, "chmod -R go= /home/a"),
    (judge_private("/home/a", [], ["/home/a/keys"]), Grade.BAD, "chown"),
    (judge_files(256), Grade.WARNING, "ulimit"),
    (judge_ports([], running=True, wanted=None, free=False), Grade.WARNING, "--listen"),
    (judge_ports([], running=False, wanted=22400, free=False), Grade.WARNING, "firewall"),
    (judge_relay("relay.example:22443", "refused", None), Grade.BAD, "nc -vz relay.example 22443"),
    (judge_relay("relay.example:22443", None, "revoked"), Grade.BAD, "whoever runs the relay"),
    (judge_folder("photos", "its marker is missing", 0), Grade.BAD, "as it says"),
    (judge_folder("photos", None, 2), Grade.WARNING, "p2psync status"),
]


@pytest.mark.parametrize("finding", GOOD, ids=lambda each: each.sentence)
def test_what_is_well_needs_no_mending(finding: Finding) -> None:
    assert finding.grade is Grade.OK and finding.fix is None


@pytest.mark.parametrize(("finding", "grade", "fix"), WRONG, ids=lambda each: getattr(each, "sentence", None))
def test_what_is_wrong_comes_with_a_line_that_mends_it(finding: Finding, grade: Grade, fix: str) -> None:
    assert finding.grade is grade
    assert finding.fix is not None and fix in finding.fix


def test_a_clock_s_error_is_told_in_words() -> None:
    assert "365 days behind" in judge_clock(-86_400 * 365).sentence
    assert "3 hours ahead of" in judge_clock(3 * 3600).sentence
    assert "90 seconds ahead of" in judge_clock(90).sentence
