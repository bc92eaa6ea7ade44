"""The commands `p2psync folder type|override|revert|changes|import-ignores`: what this device keeps of a folder.

Owns their words; what they do is `node/shaping.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2psync.cli.options import HomeOption, JsonOption, absolute
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, clean
from p2psync.node.control import Json
from p2psync.planner.shaping import parse_type

SomeFolder = Annotated[str, typer.Argument(help="Label, path or id.", show_default=False, metavar="FOLDER")]


class ShapeScreen(Screen):
    """Says in words what became of a folder's shape."""

    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
            return
        label = clean(event["label"])
        if "type" in event:
            self.line(f"{label} is {event['type']}")
        elif "overridden" in event:
            self.line(f"{label}: {_paths(event['overridden'])} published as they stand here")
        elif "reverted" in event:
            aside = f"; what stood there is in {clean(event['aside'])}" if event["aside"] else ""
            self.line(f"{label}: {_paths(event['reverted'])} given back to the folder's state{aside}")
        elif "imported" in event:
            self.line(f"{label}: {event['imported']} patterns of .stignore are in {clean(event['to'])} now")
        else:
            for change in event["changes"]:
                self.line(f"{change['difference']:13} {clean(change['path'])}")
            if not event["changes"]:
                self.line(f"{label}: nothing differs from the folder on purpose")


def _paths(count: int) -> str:
    return "1 path" if count == 1 else f"{count} paths"


def folder_type(
    folder: SomeFolder,
    type: Annotated[
        str | None,
        typer.Argument(
            help="sendreceive, sendonly, receiveonly or archive; shown if absent.", show_default=False, metavar="TYPE"
        ),
    ] = None,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Show or change which way changes go between this device and a folder."""
    wanted = None if type is None else parse_type(type).value
    run_once({"command": "folder-type", "folder": _called(folder), "type": wanted}, home, ShapeScreen(as_json=as_json))


def folder_override(folder: SomeFolder, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make a send-only folder's files here the folder's state, over what others changed."""
    run_once({"command": "folder-override", "folder": _called(folder)}, home, ShapeScreen(as_json=as_json))


def folder_revert(folder: SomeFolder, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Take the folder's state back where a receive-only folder was changed here; what stood there moves aside."""
    run_once({"command": "folder-revert", "folder": _called(folder)}, home, ShapeScreen(as_json=as_json))


def folder_changes(folder: SomeFolder, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List where this device's files differ from the folder on purpose."""
    run_once({"command": "folder-changes", "folder": _called(folder)}, home, ShapeScreen(as_json=as_json))


def folder_import_ignores(
    folder: SomeFolder,
    shared: Annotated[
        bool, typer.Option("--shared", envvar="P2PSYNC_SHARED", help="Into .p2pignore, for all devices, instead.")
    ] = False,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Take the patterns of Syncthing's .stignore over into .p2pignore.local."""
    run_once(
        {"command": "folder-import-ignores", "folder": _called(folder), "shared": shared},
        home,
        ShapeScreen(as_json=as_json),
    )


def add_shape_commands(app: typer.Typer) -> None:
    app.command(name="type")(folder_type)
    app.command(name="override")(folder_override)
    app.command(name="revert")(folder_revert)
    app.command(name="changes")(folder_changes)
    app.command(name="import-ignores")(folder_import_ignores)


def _called(name: str) -> str:
    """A path may be relative to where the command is run, not to where the peer runs."""
    return str(absolute(Path(name))) if name.startswith(("/", ".", "~")) else name
