"""Progress of a foreground peer: a live line per busy folder on a terminal, else a plain line now and then.

Reads status only; it decides nothing and may be missing without harm.
"""

from __future__ import annotations

import sys

import trio
from rich.live import Live
from rich.text import Text

from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.node.control import Json
from p2psync.node.peer import Peer
from p2psync.node.status import build_status

REFRESH_SECONDS = 0.25
PLAIN_SECONDS = 10.0
SHARE = 20
"""A status of a large folder takes a while to count: looking may cost at most about one part in twenty of the time."""
RATE_SECONDS = 3.0
"""Rates are taken over this span, so that they can be read."""


class Rates:
    """Bytes per second of a falling number, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, int]]] = {}

    def rate(self, name: str, left: int, now: float) -> float:
        seen = self._seen.setdefault(name, [])
        if seen and left > seen[-1][1]:
            seen.clear()  # more work arrived
        seen.append((now, left))
        while len(seen) > 2 and seen[0][0] < now - RATE_SECONDS:
            del seen[0]
        span = seen[-1][0] - seen[0][0]
        return (seen[0][1] - left) / span if span > 0 else 0.0


def describe(folder: Json, rates: Rates, now: float) -> str:
    """One folder in one line."""
    label, state = clean(folder["label"]), str(folder["state"])
    parts = []
    for key, word in (("need_bytes", "to fetch"), ("upload_bytes", "to upload")):
        if left := int(folder[key]):
            rate = rates.rate(f"{folder['id']} {key}", left, now)
            parts.append(f"{bytes_text(left)} {word}" + (f" at {bytes_text(int(rate))}/s" if rate > 0 else ""))
    if folder["need_files"]:
        parts.append(f"{folder['need_files']} files to go")
    if folder["error"]:
        parts.append(clean(folder["error"]))
    parts += [f"{clean(s['url']).split('#')[0]}: {clean(s['error'])}" for s in folder["stores"] if s["error"]]
    total = f"{bytes_text(int(folder['local_bytes']))}"
    state = "up to date" if state == "idle" and not parts else state
    return f"{label}: {state}, {total}" + ("".join(f", {part}" for part in parts))


async def follow(peer: Peer, screen: Screen) -> None:
    """Show the peer's progress until cancelled."""
    if sys.stdout.isatty():
        await _follow_live(peer, screen)
    else:
        await _follow_plain(peer, screen)


async def _follow_live(peer: Peer, screen: Screen) -> None:
    """A live block while something is under way; otherwise the terminal belongs to what else is said."""
    rates = Rates()
    live: Live | None = None
    try:
        while True:
            began = trio.current_time()
            folders = (await build_status(peer))["folders"]
            busy = [folder for folder in folders if folder["state"] != "idle" or folder["upload_bytes"]]
            text = Text("\n".join(describe(folder, rates, trio.current_time()) for folder in busy))
            if live is not None and (screen.asking or not busy):
                live.stop()
                live = None
                for folder in () if busy else folders:
                    screen.line(describe(folder, rates, trio.current_time()))
            elif live is None and busy and not screen.asking:
                live = Live(text, console=screen.console, auto_refresh=False, transient=True)
                live.start(refresh=True)
            elif live is not None:
                live.update(text, refresh=True)
            await trio.sleep(max(REFRESH_SECONDS, SHARE * (trio.current_time() - began)))
    finally:
        if live is not None:
            live.stop()


async def _follow_plain(peer: Peer, screen: Screen) -> None:
    """A line when a folder's state changes, and every ten seconds while it is busy."""
    rates = Rates()
    shown: dict[str, tuple[object, float]] = {}
    while True:
        now = trio.current_time()
        for folder in (await build_status(peer))["folders"]:
            key = (folder["state"], folder["error"], bool(folder["upload_bytes"]))
            old, at = shown.get(folder["id"], (None, now))
            if key != old or (folder["state"] == "syncing" and now - at >= PLAIN_SECONDS):
                screen.line(describe(folder, rates, now))
                shown[folder["id"]] = (key, now)
        await trio.sleep(max(1.0, SHARE * (trio.current_time() - now)))
