"""`doctor`: looks at everything outside p2psync that it depends on, and says what to do about what is wrong.

Gathers the figures: limits of the system, clocks, disks, ports, permissions, relays. `findings` judges them.
"""

from __future__ import annotations

import os
import resource
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from p2psync.errors import NobodyReachable, P2psyncError, UserError
from p2psync.net.addresses import DEFAULT_PEER_PORT
from p2psync.node.control import Console, Json
from p2psync.node.findings import (
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
from p2psync.node.peer import Peer
from p2psync.node.relays import RelayKeeper
from p2psync.node.status import build_status

REACH_SECONDS = 10.0
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")


async def examine(peer: Peer, request: Json, console: Console) -> None:
    """The command: one JSON object a finding. UserError at the end when something is bad."""
    workers, bad = peer.surroundings.workers, 0
    await _reach_relays(peer)
    status = await build_status(peer)
    found = [
        await workers.run(_permissions, peer.home.directory),
        *await workers.run(_disks, peer.home.directory, status["folders"]),
        judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        judge_watches(await _directories(peer), await workers.run(_allowed_watches), _limited(status)),
        await _ports(peer),
        *_relays(peer, status),
        await _clock(peer),
        *(judge_folder(each["label"], each["error"], len(each["problems"])) for each in status["folders"]),
    ]
    for finding in found:
        bad += finding.grade is Grade.BAD
        await console.say(asdict(finding))
    if bad:
        raise UserError(f"{bad} of {len(found)} checks failed; the lines above say what to do")


async def _reach_relays(peer: Peer) -> None:
    """Give relays that are not connected a moment; what they say meanwhile is in their keepers."""
    peer.hurry()

    async def reach(keeper: RelayKeeper) -> None:
        try:
            await keeper.link_within(REACH_SECONDS)
        except NobodyReachable:
            return

    async with trio.open_nursery() as nursery:
        for keeper in peer.keepers():
            nursery.start_soon(reach, keeper)


def _permissions(home: Path) -> Finding:
    found = [(path, path.lstat()) for path in (home, *home.rglob("*"))]
    foreign = [str(path) for path, status in found if status.st_uid != os.getuid()]
    loose = [str(path) for path, status in found if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode)]
    return judge_private(str(home), loose, foreign)


def _disks(home: Path, folders: list[dict[str, Any]]) -> list[Finding]:
    needs: dict[str, int] = {str(home): 0}
    for folder in folders:
        needs[folder["path"]] = folder["need_bytes"]
    return [_disk(path, need) for path, need in needs.items() if os.path.isdir(path)]


def _disk(path: str, need: int) -> Finding:
    room = os.statvfs(path)
    return judge_disk(
        path, free=room.f_bavail * room.f_frsize, need=need, read_only=bool(room.f_flag & os.ST_RDONLY),
        writable=os.access(path, os.W_OK | os.X_OK),
    )  # fmt: skip


async def _directories(peer: Peer) -> int:
    """How many directories all folders have to watch."""
    return sum([await folder.replica.directories() for folder in list(peer.folders.values())])


def _allowed_watches() -> int | None:
    try:
        return int(_WATCHES.read_text())
    except (OSError, ValueError):
        return None


def _limited(status: dict[str, Any]) -> str | None:
    """What a watcher of the running peer complains of."""
    problems = (each for folder in status["folders"] for each in folder["problems"])
    return next((each["reason"] for each in problems if each["path"] == "watcher"), None)


async def _ports(peer: Peer) -> Finding:
    links = peer.links
    if links.options.listen is not None or links.listening:
        return judge_ports([str(each) for each in links.listening], running=True, wanted=None, free=False)
    free = True
    try:
        for listener in await peer.surroundings.network.listen("", DEFAULT_PEER_PORT):
            await listener.aclose()
    except P2psyncError:
        free = False
    return judge_ports([], running=False, wanted=DEFAULT_PEER_PORT, free=free)


def _relays(peer: Peer, status: dict[str, Any]) -> list[Finding]:
    refused = {
        store["url"]: store["error"]
        for folder in status["folders"]
        for store in folder["stores"]
        if not store["connected"]
    }
    return [
        judge_relay(
            keeper.url.place, None if keeper.connected else keeper.error or "it does not answer",
            refused.get(str(keeper.url)),
        )
        for keeper in peer.keepers()
    ]  # fmt: skip


async def _clock(peer: Peer) -> Finding:
    for keeper in peer.keepers():
        if keeper.connected:
            try:
                theirs = await (await keeper.link_within(REACH_SECONDS)).clock()
            except P2psyncError:
                continue
            return judge_clock(peer.surroundings.clock.now() - theirs)
    return judge_clock(None)
