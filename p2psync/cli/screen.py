"""The user's screen: what commands say as JSON lines or as words, and what they ask.

Everything that comes from elsewhere (names, labels, sentences) is escaped before it is shown: no control character
reaches the terminal. Knows no command; it is handed events.
"""

from __future__ import annotations

import getpass
import json
import sys
from typing import Any

import segno
import trio
from rich.console import Console as RichConsole
from rich.text import Text

from p2psync.errors import UsageError
from p2psync.index.paths import show

Json = dict[str, Any]


def clean(text: object) -> str:
    """Any text as printable characters."""
    return show((str(text).encode("utf-8", "surrogateescape"),))


class Screen:
    """Implements `node.control.Console` for a person or a program at stdout."""

    def __init__(self, *, as_json: bool, qr: bool = False, invite: str | None = None) -> None:
        self.as_json = as_json
        self.asking = False
        """A prompt is open: nothing else may write to the terminal now."""
        self._qr = qr or sys.stdout.isatty()
        self._invite = invite
        self.console = RichConsole(highlight=False, soft_wrap=True)

    async def say(self, event: Json) -> None:
        await trio.lowlevel.checkpoint()
        if self.as_json:
            self.print_json(event)
        elif "code" in event:
            self._show_code(event)
        elif event.get("paired"):
            self.line(f"{clean(event['name'])} ({clean(event['device'])[:7]}) is paired as {clean(event['role'])}")
        elif event.get("expired"):
            self.line(f"{clean(event['reason'])} (p2psync pair makes one for this folder)")
        elif "folder" in event:
            self.line(f"{clean(event['label'])} is at {clean(event['path'])} ({clean(event['role'])})")

    async def ask(self, question: Json) -> str | None:
        """A confirmation or a secret from the person at the terminal, read off the event loop."""
        if question["ask"] == "admit":
            if self.as_json:
                return "yes"
            name = f"{clean(question['name'])} ({clean(question['device'])[:7]})"
            answer = await self._read(f"Admit the device {name} as {clean(question['role'])}? [y/N] ", secret=False)
            return "yes" if answer.strip().lower() in ("y", "yes") else "no"
        if question["ask"] == "invite":
            if self._invite or not sys.stdin.isatty() or self.as_json:
                return None
            return (await self._read("Invite token of the relay: ", secret=True)).strip()
        return None

    async def ask_code(self) -> str:
        return await self._read("Pairing code: ", secret=False)

    async def _read(self, prompt: str, *, secret: bool) -> str:
        if not sys.stdin.isatty():
            raise UsageError("there is no terminal to ask on: pass --yes to admit, P2PSYNC_CODE to give the code")
        reader = getpass.getpass if secret else input
        self.asking = True
        try:
            return await trio.to_thread.run_sync(reader, prompt, abandon_on_cancel=True)
        except EOFError:
            return ""
        finally:
            self.asking = False

    def print_json(self, value: Json) -> None:
        print(json.dumps(value), flush=True)

    def line(self, text: str, style: str = "") -> None:
        """A line of our own words, escaped where they hold others'."""
        self.console.print(Text(text, style=style))

    def _show_code(self, event: Json) -> None:
        code = clean(event["code"])
        if self._qr:
            segno.make(code, error="m").terminal(compact=True)
        self.line("On the other device run:")
        self.line("")
        self.line(f"    p2psync join {code}", style="bold")
        self.line("")
        if event["relay"]:
            self.line(f"(with --relay '{clean(event['relay'])}' if it does not know this relay yet)")
        else:
            self.line("(on the same LAN: this folder has no relay)")
        self.line("The code works once, for ten minutes.")


def bytes_text(count: int) -> str:
    """A size for people, in powers of 1024."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
