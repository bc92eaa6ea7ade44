"""`p2psync device address`: where another device is, said by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from p2psync.cli.options import HomeOption, JsonOption
from p2psync.cli.running import run_once
from p2psync.cli.screen import Screen, clean
from p2psync.errors import UsageError
from p2psync.node.control import Json


class AddressScreen(Screen):
    async def say(self, event: Json) -> None:
        if self.as_json or "addresses" not in event:
            await super().say(event)
            return
        name = f"{clean(event['name'])} " if event["name"] else ""
        known = ", ".join(map(clean, event["addresses"])) or "no address given by hand"
        self.line(f"{name}({clean(event['device'])[:7]}): {known}")


def device_address(
    device: Annotated[str, typer.Argument(help="Its name, or the first 7 characters of its id.", show_default=False)],
    addresses: Annotated[
        list[str] | None,
        typer.Argument(help="Where it is: host:port, names allowed. None: show it.", show_default=False, metavar="ADDR"),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", envvar="P2PSYNC_CLEAR", help="Forget what was given.")] = False,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Say where another device is: there it is dialled first, without a relay or LAN too. The latest word counts."""
    if clear and addresses:
        raise UsageError("--clear forgets all addresses of the device: give none with it")
    request: Json = {"command": "address", "device": device, "addresses": addresses or [], "clear": clear}
    run_once(request, home, AddressScreen(as_json=as_json))
