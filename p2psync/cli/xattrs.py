"""The command `p2psync folder xattrs`: whether extended attributes are synced on this device.

Owns its words; what it does is `node/shaping.py`'s.
"""

from __future__ import annotations

from typing import Annotated

import typer

from p2psync.cli.conflicts import Switch
from p2psync.cli.options import HomeOption, JsonOption
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, clean
from p2psync.node.control import Json

_Folders = Annotated[
    list[str] | None, typer.Option("--folder", envvar="P2PSYNC_FOLDER", help="Label, path or id.", show_default=False)
]
_Switch = Annotated[
    Switch | None,
    typer.Argument(
        help="Sync them in this folder, on this device; without it: show. On again: try again what the disk refused.",
        show_default=False,
    ),
]


def folder_xattrs(
    switch: _Switch = None, folder: _Folders = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show or set whether this device syncs the extended attributes (user.*) of files and directories."""
    wanted = None if switch is None else switch is Switch.ON
    run_once(
        {"command": "folder-xattrs", "wanted": wanted, "folders": folder or []}, home, _XattrsScreen(as_json=as_json)
    )


class _XattrsScreen(Screen):
    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
        else:
            synced = "synced" if event["xattrs"] else "not synced here, and passed on as they are"
            self.line(f"{clean(event['label'])}: extended attributes are {synced}")
