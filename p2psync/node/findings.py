"""What a check of this machine found: judgements over plain figures, each with a line that says what to do.

Pure: figures in, finding out. Gathering the figures is `doctor`'s.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum

WATCHES_SHARE = 0.8
"""Other programs watch too: from this share of the system's limit on it is close."""
ROOM_BYTES = 256 << 20
"""Less room than this on a disk is worth a word: catalogs grow, and a replaced file stands twice for a moment."""
CLOCK_SECONDS = 60.0
FILES_LOW = 512


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is one word; `fix` a line to type or do, None when all is well."""

    check: str
    grade: Grade
    sentence: str
    fix: str | None = None


def judge_watches(directories: int, allowed: int | None, limited: str | None) -> Finding:
    """`directories` of all folders are watched; `allowed` is the system's limit, None where it has none."""
    wanted = max(2 * directories, 524_288)
    fix = f"sudo sysctl fs.inotify.max_user_watches={wanted} fs.inotify.max_user_instances=1024, then restart p2psync"
    if limited is not None:
        return Finding("watches", Grade.BAD, limited, fix)
    if allowed is None:
        return Finding("watches", Grade.WARNING, "this system tells of no changes: they are found by scans only")
    if directories > allowed * WATCHES_SHARE:
        sentence = f"folders need {directories:,} of the {allowed:,} watches that the system allows in all"
        return Finding("watches", Grade.WARNING, sentence, fix)
    return Finding("watches", Grade.OK, f"folders need {directories:,} of the {allowed:,} that the system allows")


def judge_clock(ahead: float | None) -> Finding:
    """`ahead`: seconds by which this clock is before the relay's; None when there is none to compare with."""
    if ahead is None:
        return Finding("clock", Grade.OK, "not compared: no relay is connected (nothing is decided by clocks)")
    if abs(ahead) <= CLOCK_SECONDS:
        return Finding("clock", Grade.OK, f"within {CLOCK_SECONDS:.0f} s of the relay's")
    way = "ahead of" if ahead > 0 else "behind"
    sentence = f"this device's clock is {_duration(abs(ahead))} {way} the relay's: sync works, times in history are off"
    return Finding("clock", Grade.WARNING, sentence, "sudo timedatectl set-ntp true, or find out whose clock is wrong")


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def judge_disk(path: str, *, free: int, need: int, read_only: bool, writable: bool) -> Finding:
    """A disk that must take `need` more bytes and has `free`."""
    here = shlex.quote(path)
    if read_only:
        return Finding(
            "disk", Grade.BAD, f"{path} is on a file system that is read-only", f"sudo mount -o remount,rw {here}"
        )
    if not writable:
        return Finding("disk", Grade.BAD, f"{path} may not be written by this user", f"sudo chown -R $USER {here}")
    if need > free:
        sentence = f"{path} has {_megabytes(free)} free and {_megabytes(need)} are still to come"
        return Finding(
            "disk", Grade.BAD, sentence, f"free {_megabytes(need - free + ROOM_BYTES)} there; sync goes on by itself"
        )
    if free < ROOM_BYTES:
        return Finding("disk", Grade.WARNING, f"{path} has only {_megabytes(free)} free", "make some room there")
    return Finding("disk", Grade.OK, f"{path} has {_megabytes(free)} free")


def _megabytes(count: int) -> str:
    return f"{count / (1 << 30):,.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):,.0f} MiB"


def judge_private(home: str, open_to_others: list[str], foreign: list[str]) -> Finding:
    """Names in the home that others may read or change, and names of other owners."""
    if foreign:
        sentence = f"{foreign[0]} belongs to another user ({len(foreign)} in all)"
        return Finding("permissions", Grade.BAD, sentence, f"sudo chown -R $USER {shlex.quote(home)}")
    if open_to_others:
        sentence = (
            f"{open_to_others[0]} can be read or changed by others ({len(open_to_others)} in all); keys are in there"
        )
        return Finding("permissions", Grade.BAD, sentence, f"chmod -R go= {shlex.quote(home)}")
    return Finding("permissions", Grade.OK, f"{home} is this user's alone")


def judge_files(allowed: int) -> Finding:
    if allowed < FILES_LOW:
        sentence = f"this process may have only {allowed} files open at once"
        return Finding(
            "files", Grade.WARNING, sentence, "ulimit -n 4096 before p2psync serve, or LimitNOFILE=4096 in its unit"
        )
    return Finding("files", Grade.OK, f"{allowed:,} files may be open at once")


def judge_ports(listening: list[str], *, running: bool, wanted: int | None, free: bool) -> Finding:
    """`running`: a peer serves and listens there; else whether the `wanted` port could be taken now."""
    if running and listening:
        return Finding("ports", Grade.OK, f"devices can dial {', '.join(listening)}")
    if running or wanted is None:
        sentence = "this peer listens nowhere: other devices cannot dial it, it dials them"
        return Finding("ports", Grade.WARNING, sentence, "p2psync serve --listen :22400")
    if free:
        return Finding("ports", Grade.OK, f"port {wanted} is free; no peer is running now")
    sentence = f"port {wanted} is taken by another program; a peer would take a free one, which firewalls may close"
    return Finding("ports", Grade.WARNING, sentence, "p2psync serve --listen :PORT, and open that port in the firewall")


def judge_relay(place: str, error: str | None, refused: str | None) -> Finding:
    if error is not None:
        fix = (
            f"see that the relay runs and its port is open: nc -vz {place.rsplit(':', 1)[0]} {place.rsplit(':', 1)[-1]}"
        )
        return Finding("relay", Grade.BAD, f"{place} is not reached: {error}", fix if place.count(":") == 1 else None)
    if refused is not None:
        return Finding(
            "relay", Grade.BAD, f"{place} answers, and refuses this device: {refused}", "ask whoever runs the relay"
        )
    return Finding("relay", Grade.OK, f"{place} is connected")


def judge_folder(label: str, error: str | None, problems: int) -> Finding:
    if error is not None:
        return Finding(
            "folder", Grade.BAD, f"{label} is stopped: {error}", "do as it says; the folder goes on by itself"
        )
    if problems:
        sentence = f"{label} has {problems} {'path' if problems == 1 else 'paths'} that cannot be synced"
        return Finding("folder", Grade.WARNING, sentence, "p2psync status names them")
    return Finding("folder", Grade.OK, f"{label} has no problems")
