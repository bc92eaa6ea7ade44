"""The command `doctor`: what on this machine keeps sync from working well. Owns how findings look."""

from __future__ import annotations

from p2psync.cli.options import HomeOption, JsonOption
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, clean
from p2psync.node.control import Json

_MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "bad": ("FAIL", "bold red")}


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check limits, clock, disks, ports, permissions and relays; say how to mend what is wrong."""
    run_once({"command": "doctor"}, home, DoctorScreen(as_json=as_json))


class DoctorScreen(Screen):
    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
            return
        mark, style = _MARKS.get(event["grade"], ("?   ", ""))
        self.line(
            f"{mark}  {event['check']:11}  {clean(event['sentence'])}", style="" if event["grade"] == "ok" else style
        )
        if event["fix"]:
            self.line(f"      {'':11}  → {clean(event['fix'])}")
