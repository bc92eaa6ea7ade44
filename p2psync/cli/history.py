"""The commands about the past: history, restore, undo; and for a folder: accept, limits.

Owns their options and how their answers look. What they do is `node.history`'s.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from p2psync.cli.moments import parse_duration, parse_moment, parse_size
from p2psync.cli.options import HomeOption, JsonOption, absolute
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.errors import UsageError
from p2psync.node.control import Json

_Path = Annotated[
    Path,
    typer.Argument(
        help="A file or directory of a folder; it need not exist any more.", metavar="PATH", show_default=False
    ),
]
_Folders = Annotated[
    list[str] | None, typer.Option("--folder", envvar="P2PSYNC_FOLDER", help="Label, path or id.", show_default=False)
]
_Limit = Annotated[
    int, typer.Option("--limit", envvar="P2PSYNC_LIMIT", min=1, max=10_000, help="Versions to list at most.")
]
_At = Annotated[
    str | None,
    typer.Option(
        "--at", envvar="P2PSYNC_AT", metavar="TIME", show_default=False,
        help="As it was then: 2026-03-14T09:30, or 90m, 1h, 2d (ago).",
    ),
]  # fmt: skip
_Version = Annotated[
    str | None,
    typer.Option(
        "--version", envvar="P2PSYNC_RESTORE_VERSION", metavar="ID", show_default=False,
        help="This version, as p2psync history names it.",
    ),
]  # fmt: skip
_To = Annotated[
    Path | None,
    typer.Option(
        "--to", envvar="P2PSYNC_TO", metavar="DIR", show_default=False, help="Write it there instead of to its place."
    ),
]  # fmt: skip
_Exact = Annotated[
    bool, typer.Option("--exact", envvar="P2PSYNC_EXACT", help="Of a directory: also delete what was made since.")
]
_Device = Annotated[
    str,
    typer.Option(
        "--device", envvar="P2PSYNC_DEVICE", metavar="D", show_default=False,
        help="Name or id of the device whose changes are taken back.",
    ),
]  # fmt: skip
_Since = Annotated[
    str,
    typer.Option(
        "--since", envvar="P2PSYNC_SINCE", metavar="TIME", show_default=False,
        help="What it changed since then, by its own clock: 1h, 2d, 2026-03-14T09:30.",
    ),
]  # fmt: skip
_BrakePercent = Annotated[
    int | None,
    typer.Option(
        "--brake-percent", envvar="P2PSYNC_BRAKE_PERCENT", min=0, max=100, show_default=False,
        help="Hold what takes more of the folder than this within an hour; 0: off.",
    ),
]  # fmt: skip
_BrakeFiles = Annotated[
    int | None,
    typer.Option(
        "--brake-files", envvar="P2PSYNC_BRAKE_FILES", min=0, max=1 << 40, show_default=False,
        help="Hold what takes more files than this within an hour; 0: off.",
    ),
]  # fmt: skip
_KeepFor = Annotated[
    str | None,
    typer.Option(
        "--keep-for", envvar="P2PSYNC_KEEP_FOR", metavar="TIME", show_default=False,
        help="How long old versions stay on this disk: 90d, 1y; 0: no limit.",
    ),
]  # fmt: skip
_KeepSize = Annotated[
    str | None,
    typer.Option(
        "--keep-size", envvar="P2PSYNC_KEEP_SIZE", metavar="SIZE", show_default=False,
        help="How much room they may take: 20G; 0: no limit.",
    ),
]  # fmt: skip
_PLACES = {"here": "here", "store": "store", "device": "perhaps another device", "nowhere": "nowhere reachable"}


def register(app: typer.Typer, folder_app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(name="history")(history)
    app.command(name="restore")(restore)
    app.command(name="undo")(undo)
    folder_app.command(name="accept")(accept)
    folder_app.command(name="limits")(limits)


def history(path: _Path, limit: _Limit = 100, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the versions of PATH (of a directory: of all below it), and where each can be restored from."""
    run_once(
        {"command": "history", "path": str(absolute(path)), "limit": limit},
        home,
        HistoryScreen(as_json=as_json),
    )


def restore(
    path: _Path, at: _At = None, version: _Version = None, to: _To = None, exact: _Exact = False,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Bring back PATH as it was, as a new version: what it replaces goes to history too."""
    if (at is None) == (version is None):
        raise UsageError("say what to restore with --at TIME or --version ID, one of them")
    request: Json = {
        "command": "restore", "path": str(absolute(path)), "version": version, "exact": exact,
        "at_ms": None if at is None else parse_moment(at, time.time()),
        "to": None if to is None else str(absolute(to)),
    }  # fmt: skip
    run_once(request, home, HistoryScreen(as_json=as_json))


def undo(
    device: _Device, since: _Since, folder: _Folders = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Take back what one device changed, as new versions; what others changed since is left and named."""
    since_ms = parse_moment(since, time.time())
    run_once(
        {"command": "undo", "device": device, "since_ms": since_ms, "folders": folder or []},
        home,
        HistoryScreen(as_json=as_json),
    )


def accept(folder: _Folders = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Let through what the brake holds: that a device deletes or rewrites much."""
    run_once({"command": "accept", "folders": folder or []}, home, HistoryScreen(as_json=as_json))


def limits(
    folder: _Folders = None, brake_percent: _BrakePercent = None, brake_files: _BrakeFiles = None,
    keep_for: _KeepFor = None, keep_size: _KeepSize = None, home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Show or set a folder's brake, and how long this device keeps old versions."""
    request: Json = {
        "command": "limits", "folders": folder or [], "percent": brake_percent, "files": brake_files,
        "seconds": None if keep_for is None else parse_duration(keep_for),
        "size": None if keep_size is None else parse_size(keep_size),
    }  # fmt: skip
    run_once(request, home, HistoryScreen(as_json=as_json))


class HistoryScreen(Screen):
    """Shows versions and outcomes, one a line."""

    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
        elif "where" in event:
            self._show_version(event)
        elif "outcome" in event:
            reason = f": {clean(event['reason'])}" if event["reason"] else ""
            self.line(f"{event['outcome']:8} {clean(event['path'])}{reason}")
        elif "left" in event:
            left = f", {event['left']} left as they are" if event["left"] else ""
            self.line(f"{event['restored']} restored{left}")
        elif "accepted" in event:
            self.line(f"let through: {event['accepted']} files" if event["accepted"] else "nothing is held")
        elif "brake_percent" in event:
            self._show_limits(event)

    def _show_version(self, event: Json) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time_ms"] / 1000))
        device = clean(event["name"] or (event["device"] or "unknown")[:7])
        place = (
            ("waits to come here" if event["waiting"] else "stands now")
            if event["current"]
            else _PLACES[event["where"]]
        )
        if event["where"] == "store" and not event["reachable"] and not event["current"]:
            place = "store (not connected now)"
        size = bytes_text(event["size"]) if event["kind"] == "file" else event["kind"]
        self.line(
            f"{event['version']:16} {when}  {device:12} {size:>10}  {clean(event['path'])}  {clean(event['what'])}; {place}"
        )

    def _show_limits(self, event: Json) -> None:
        percent = f"{event['brake_percent']} % of the folder" if event["brake_percent"] else ""
        files = f"{event['brake_files']} files" if event["brake_files"] else ""
        brake = " or ".join(part for part in (percent, files) if part)
        keep = f"{event['keep_seconds'] / 86400:g} days" if event["keep_seconds"] else "without end"
        size = f", at most {bytes_text(event['keep_bytes'])}" if event["keep_bytes"] else ""
        self.line(f"{clean(event['label'])}", style="bold")
        self.line(f"  brake    {f'holds more than {brake} within an hour' if brake else 'off'}")
        self.line(f"  history  local versions are kept {keep}{size}")
