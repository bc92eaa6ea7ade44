"""The commands about conflicts: conflicts; and for a folder: text-merge.

Owns their options and how their answers look. What they do is `node.conflicts`'.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import trio
import typer

from p2psync.cli.options import HomeOption, JsonOption, PeerOptions, choose_home
from p2psync.cli.running import run_command
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.node.control import Json
from p2psync.replica.conflicts import Keep


class Switch(Enum):
    ON = "on"
    OFF = "off"


_Path = Annotated[
    Path | None,
    typer.Argument(help="A file with conflict copies, or one of its copies.", metavar="PATH", show_default=False),
]
_Folders = Annotated[
    list[str] | None, typer.Option("--folder", envvar="P2PSYNC_FOLDER", help="Label, path or id.", show_default=False)
]
_Keep = Annotated[
    Keep | None,
    typer.Option(
        "--keep", envvar="P2PSYNC_KEEP_SIDE", show_default=False,
        help="Settle it: mine (what this device wrote), theirs, or both, each under a name of its own.",
    ),
]  # fmt: skip
_Switch = Annotated[
    Switch | None,
    typer.Argument(help="Merge texts in this folder, on this device; without it: show.", show_default=False),
]


def register(app: typer.Typer, folder_app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(name="conflicts")(conflicts)
    folder_app.command(name="text-merge")(text_merge)


def conflicts(
    path: _Path = None,
    keep: _Keep = None,
    folder: _Folders = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the conflicts; of PATH show how the sides differ, or settle it. What goes is kept in history."""
    place = None if path is None else os.path.abspath(path.expanduser())
    request: Json = {
        "command": "conflicts", "path": place, "keep": None if keep is None else keep.value, "folders": folder or [],
    }  # fmt: skip
    _run(request, home, as_json)


def text_merge(
    switch: _Switch = None, folder: _Folders = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show or set whether this device merges texts whose different lines were changed."""
    wanted = None if switch is None else switch is Switch.ON
    _run({"command": "text-merge", "wanted": wanted, "folders": folder or []}, home, as_json)


class ConflictScreen(Screen):
    """Shows conflicts with their sides, differences and outcomes."""

    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
        elif "conflict" in event:
            self.line(clean(event["conflict"]), style="bold")
            for side in [event["standing"], *event["copies"]]:
                self._show_side(side)
        elif "difference" in event:
            for line in event["difference"]:
                self.line(clean(line))
        elif "settled" in event:
            self.line(f"settled: {clean(event['settled'])} (kept: {event['kept']})")
        elif "text_merge" in event:
            self.line(f"{clean(event['label'])}: texts are {'merged' if event['text_merge'] else 'not merged'}")

    def _show_side(self, side: Json | None) -> None:
        if side is None:
            self.line("  nothing stands there any more")
            return
        whose = "this device" if side["own"] else clean(side["name"] or (side["device"] or "unknown")[:7])
        size = bytes_text(side["size"]) if side["size"] is not None else side["kind"]
        self.line(f"  {size:>10}  {side['modified'][:19]}  {whose:12}  {clean(side['path'])}")


def _run(request: Json, home: Path | None, as_json: bool) -> None:
    options = PeerOptions(choose_home(home), as_json, None)
    screen = ConflictScreen(as_json=as_json)

    async def work() -> None:
        await run_command(options, request, screen, stay=False)

    trio.run(work)
