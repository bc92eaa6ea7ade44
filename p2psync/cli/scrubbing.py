"""The command `scrub`: reads what is on this disk again. Owns its option and how the answer looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2psync.cli.options import HomeOption, JsonOption, absolute
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.node.control import Json

_Folder = Annotated[
    str | None, typer.Argument(help="Label, path or id; all folders if absent.", show_default=False, metavar="FOLDER")
]


def scrub(folder: _Folder = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Read every file here again, and mend those that went bad on the disk (bit rot) from other devices and stores."""
    called = str(absolute(Path(folder))) if folder and folder.startswith(("/", ".", "~")) else folder
    request: Json = {"command": "scrub", "folders": [called] if called else []}
    run_once(request, home, ScrubScreen(as_json=as_json))


class ScrubScreen(Screen):
    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
        elif "path" in event:
            path = clean(event["path"])
            if event["kept"]:
                self.line(f"{path} had gone bad and is right again; what it held is in {clean(event['kept'])}")
            else:
                self.line(f"{path} has gone bad and stays as it is: {clean(event['left'])}")
        else:
            self._show_summary(event)

    def _show_summary(self, event: Json) -> None:
        label = clean(event["label"])
        if event["catalog_damage"]:
            self.line(f"{label}: its catalog {clean(event['catalog'])} is damaged: {clean(event['catalog_damage'][0])}")
            return
        bad = event["mended"] + event["left"]
        unchecked = f", {event['unchecked']} changing just now were left out" if event["unchecked"] else ""
        self.line(
            f"{label}: {event['files']} files ({bytes_text(event['bytes'])}) read{unchecked}; "
            + (f"{bad} had gone bad, {event['mended']} of them mended" if bad else "all of them sound")
        )
