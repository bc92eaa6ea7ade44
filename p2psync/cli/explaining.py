"""The command `explain`: why one path is as it is. Owns its option and how the answer looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2psync.cli.options import HomeOption, JsonOption, absolute
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.node.control import Json

_Path = Annotated[
    Path, typer.Argument(help="A path in a folder; nothing need be there.", metavar="PATH", show_default=False)
]


def explain(path: _Path, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say which version of PATH is where, what is missing, from whom, and why."""
    request: Json = {"command": "explain", "path": str(absolute(path))}
    run_once(request, home, ExplainScreen(as_json=as_json))


class ExplainScreen(Screen):
    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
            return
        self.line(f"{clean(event['path']) or clean(event['label'])}  {event['verdict']}", style="bold")
        self.line(f"  {clean(event['sentence'])}")
        for version in event["versions"]:
            self._show_version(version)
        if event["missing_chunks"]:
            self.line(
                f"  missing  {event['missing_chunks']} of {event['chunks']} chunks "
                f"({bytes_text(event['missing_bytes'])}), {event['missing_in_stores']} of them known in a store"
            )
        if event["upload_bytes"]:
            self.line(f"  upload   {bytes_text(event['upload_bytes'])} wait to go to a store")
        for device in event["devices"]:
            name = clean(device["name"] or device["device"][:7])
            knows = "knows of this version" if device["knows"] else "has not said that it knows of it"
            reason = f" ({clean(device['reason'])})" if device["reason"] else ""
            self.line(f"  member   {name}: {knows}; {device['reached']}{reason}")
        for store in event["stores"]:
            state = "connected" if store["connected"] else "not connected"
            reason = f" ({clean(store['error'])})" if store["error"] else ""
            holds = "holds its entry" if store["knows"] else "has not shown its entry"
            self.line(f"  store    {clean(store['url']).split('#')[0]}: {holds}; {state}{reason}")

    def _show_version(self, version: Json) -> None:
        name = clean(version["name"] or (version["device"] or "unknown")[:7])
        what = bytes_text(version["size"]) if version["kind"] == "file" else version["kind"]
        when = f", of {version['modified'][:19].replace('T', ' ')} UTC" if version["kind"] == "file" else ""
        place = "on this disk" if version["here"] else "not on this disk"
        beside = "" if version["stands_at"] is None else f", at {clean(version['stands_at'])}"
        self.line(f"  version  {version['version']} by {name}: {what}{when}{beside}; {place}")
