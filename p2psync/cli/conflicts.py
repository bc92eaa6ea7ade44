"""The commands about conflicts: conflicts; and for a folder: text-merge.

Owns their options, how their answers look, and running the user's merge tool. What they do is `node.conflicts`'.
"""

from __future__ import annotations

import os
import subprocess
from enum import Enum
from pathlib import Path
from typing import Annotated

import trio
import typer

from p2psync.cli.options import HomeOption, JsonOption, absolute
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.errors import UsageError
from p2psync.node.control import Json
from p2psync.planner.conflicts import Keep


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
_Merge = Annotated[
    bool, typer.Option("--merge", envvar="P2PSYNC_MERGE", help="Settle it with a merge tool, started on both sides.")
]
_Tool = Annotated[
    str | None,
    typer.Option(
        "--tool", envvar="P2PSYNC_MERGE_TOOL", metavar="COMMAND", show_default=False,
        help="meld, kdiff3, vimdiff, nvimdiff, code, or any shell command that reads $LOCAL, $REMOTE and $BASE and "
        "writes $MERGED. Default: that of git.",
    ),
]  # fmt: skip
_Switch = Annotated[
    Switch | None,
    typer.Argument(help="Merge texts in this folder, on this device; without it: show.", show_default=False),
]

_TOOLS = {
    "meld": 'meld --output "$MERGED" "$LOCAL" "$BASE" "$REMOTE"',
    "kdiff3": 'kdiff3 "$BASE" "$LOCAL" "$REMOTE" -o "$MERGED"',
    "vimdiff": 'vim -f -d "$MERGED" "$LOCAL" "$BASE" "$REMOTE"',
    "nvimdiff": 'nvim -f -d "$MERGED" "$LOCAL" "$BASE" "$REMOTE"',
    "code": 'code --wait --merge "$LOCAL" "$REMOTE" "$BASE" "$MERGED"',
}
_VARIABLES = {"LOCAL": "mine", "REMOTE": "theirs", "BASE": "base", "MERGED": "merged"}
"""As git calls them."""


def register(app: typer.Typer, folder_app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(name="conflicts")(conflicts)
    folder_app.command(name="text-merge")(text_merge)


def conflicts(
    path: _Path = None,
    keep: _Keep = None,
    merge: _Merge = False,
    tool: _Tool = None,
    folder: _Folders = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the conflicts; of PATH show how the sides differ, or settle it. What goes is kept in history."""
    if keep is not None and merge:
        raise UsageError("use --keep or --merge, not both")
    place = None if path is None else str(absolute(path))
    request: Json = {
        "command": "conflicts", "path": place, "keep": None if keep is None else keep.value, "merge": merge,
        "folders": folder or [],
    }  # fmt: skip
    run_once(request, home, ConflictScreen(as_json=as_json, tool=find_tool(tool) if merge else ""))


def text_merge(
    switch: _Switch = None, folder: _Folders = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show or set whether this device merges texts whose different lines were changed."""
    wanted = None if switch is None else switch is Switch.ON
    request: Json = {"command": "text-merge", "wanted": wanted, "folders": folder or []}
    run_once(request, home, ConflictScreen(as_json=as_json))


def find_tool(named: str | None) -> str:
    """The shell command of the user's merge tool: the one named here, or git's. UsageError when there is none."""
    tool = named or _git_setting("merge.tool")
    if not tool:
        raise UsageError("no merge tool is known: name one with --tool, P2PSYNC_MERGE_TOOL or git config merge.tool")
    return _git_setting(f"mergetool.{tool}.cmd") or _TOOLS.get(tool, tool)


def _git_setting(name: str) -> str:
    """The user's own settings alone: those of a repository may have come from somebody else with the folder."""
    try:
        done = subprocess.run(["git", "config", "--global", "--get", name], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class ConflictScreen(Screen):
    """Shows conflicts with their sides, differences and outcomes, and runs the merge tool when asked to merge."""

    def __init__(self, *, as_json: bool, tool: str = "") -> None:
        super().__init__(as_json=as_json)
        self._tool = tool

    async def ask(self, question: Json) -> str | None:
        if question["ask"] != "merge":
            return await super().ask(question)
        sides = {variable: question[side] for variable, side in _VARIABLES.items()}
        self.asking = True
        try:
            done = await trio.run_process(["sh", "-c", self._tool], check=False, stdin=None, env=os.environ | sides)
        finally:
            self.asking = False
        if done.returncode:
            return f"the merge tool ended with {done.returncode}; the conflict stays"
        return "merged"

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
