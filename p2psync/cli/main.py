"""The command `p2psync`: reads the command line and hands each command to the peer.

Owns flags, their variables, exit codes and how an error looks: one sentence on stderr, no traceback unless
`P2PSYNC_DEBUG=1`. What commands do is `node.commands`'. Source: architecture, "Command line".
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import trio
import typer

from p2psync.cli import conflicts
from p2psync.cli import demo as demonstration
from p2psync.cli import history as past
from p2psync.cli.device_address import device_address
from p2psync.cli.doctor import doctor
from p2psync.cli.explaining import explain
from p2psync.cli.options import (
    LINK_KINDS,
    AnnounceOption,
    GuiOption,
    HomeOption,
    JsonOption,
    LinksOption,
    ListenOption,
    NoLanOption,
    NoUpnpOption,
    PeerOptions,
    QrOption,
    RelayOption,
    RoleOption,
    TypeOption,
    YesOption,
    absolute,
    choose_home,
    link_options,
    secret_variable,
    type_option,
)
from p2psync.cli.running import run_command
from p2psync.cli.screen import Screen, clean
from p2psync.cli.scrubbing import scrub
from p2psync.cli.shaping import add_shape_commands
from p2psync.cli.showing import DeviceTable, FolderTable, StatusScreen, show_paths
from p2psync.cli.xattrs import folder_xattrs
from p2psync.errors import P2psyncError, UsageError
from p2psync.node.control import Json
from p2psync.node.failures import first_failure
from p2psync.node.home import Home
from p2psync.node.link_options import UNHEARD, LinkOptions
from p2psync.pairing.words import looks_like_code, parse_code
from p2psync.replica.failures import only_failure

app = typer.Typer(
    help="Keep folders in sync between your devices, end-to-end encrypted: directly, and through a relay that can read nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
folder_app = typer.Typer(help="The folders of this device.", no_args_is_help=True, rich_markup_mode=None)
add_shape_commands(folder_app)
folder_app.command(name="xattrs")(folder_xattrs)
app.add_typer(folder_app, name="folder")
device_app = typer.Typer(help="The devices of this device's folders.", rich_markup_mode=None)
app.add_typer(device_app, name="device")

SomeCode = Annotated[
    str | None, typer.Argument(help="The pairing code; asked for if absent.", show_default=False, metavar="CODE")
]
SomePath = Annotated[Path, typer.Argument(help="The directory.", show_default=False, metavar="PATH")]
_STORE = Annotated[
    list[str] | None, typer.Option("--store", envvar="P2PSYNC_STORE", help="A further store (relays only so far).")
]
_LABEL = Annotated[str | None, typer.Option("--label", envvar="P2PSYNC_LABEL", help="Name of the folder.")]
_NO_CODE = Annotated[bool, typer.Option("--no-code", envvar="P2PSYNC_NO_CODE", help="Make no pairing code.")]
_ALL_LINKS = ",".join(LINK_KINDS)


@app.command()
def share(
    path: SomePath, home: HomeOption = None, relay: RelayOption = None, label: _LABEL = None, store: _STORE = None,
    role: RoleOption = "writer", yes: YesOption = False, no_code: _NO_CODE = False, qr: QrOption = False,
    type: TypeOption = None,
    links: LinksOption = _ALL_LINKS, no_lan: NoLanOption = False, listen: ListenOption = None,
    announce: AnnounceOption = None, no_upnp: NoUpnpOption = False,
    gui_address: GuiOption = "none", as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make PATH a folder, print a code for another device, and keep it in sync.

    Without any relay the folder has no store, and the code works on the LAN.
    """
    linking = link_options(links, listen, no_lan, announce, no_upnp)
    if store:
        raise UsageError("--store is not there yet in this version: a folder's store is the relay given by --relay")
    invite = secret_variable("P2PSYNC_RELAY_INVITE")
    request: Json = {
        "command": "share", "path": str(absolute(path)), "label": label, "relay": relay, "role": role,
        "yes": yes or as_json, "code": not no_code, "invite": invite, "type": type_option(type),
    }  # fmt: skip
    _run(request, home, as_json, stay=True, qr=qr, invite=invite, links=linking)


@app.command()
def join(
    code: SomeCode = None,
    path: Annotated[Path | None, typer.Argument(help="Where the folder goes.", show_default=False, metavar="PATH")] = None,
    home: HomeOption = None, relay: RelayOption = None, links: LinksOption = _ALL_LINKS, no_lan: NoLanOption = False,
    listen: ListenOption = None, announce: AnnounceOption = None, no_upnp: NoUpnpOption = False,
    gui_address: GuiOption = "none", type: TypeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Redeem a pairing code from another device, and keep its folder in sync at PATH (default: ./LABEL).

    The other device is looked for on the LAN, and at the relay if one is known.
    """
    linking, wanted = link_options(links, listen, no_lan, announce, no_upnp), type_option(type)
    if path is None and code is not None and not looks_like_code(code):
        path, code = Path(code), None
    typed = code or secret_variable("P2PSYNC_CODE") or trio.run(Screen(as_json=as_json).ask_code)
    request: Json = {
        "command": "join", "code": str(parse_code(typed)), "relay": relay, "exact": path is not None,
        "path": str(absolute(path or Path())), "type": wanted,
    }  # fmt: skip
    _run(request, home, as_json, stay=True, links=linking)


@app.command(name="serve")
def serve_command(
    home: HomeOption = None, relay: RelayOption = None, links: LinksOption = _ALL_LINKS, no_lan: NoLanOption = False,
    listen: ListenOption = None, announce: AnnounceOption = None, no_upnp: NoUpnpOption = False,
    gui_address: GuiOption = "none", as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Run this device's folders in the foreground (what service units start)."""
    from p2psync.cli.hosting import serve  # noqa: PLC0415 (see running.py)

    linking = link_options(links, listen, no_lan, announce, no_upnp)
    trio.run(serve, PeerOptions(choose_home(home), as_json, relay, links=linking), Screen(as_json=as_json))


@app.command()
def pair(
    folder: Annotated[list[str] | None, typer.Option("--folder", envvar="P2PSYNC_FOLDER", help="Label, path or id.")] = None,
    home: HomeOption = None, role: RoleOption = "writer", yes: YesOption = False, qr: QrOption = False,
    links: LinksOption = _ALL_LINKS, no_lan: NoLanOption = False, listen: ListenOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", envvar="P2PSYNC_NO_WAIT", help="Print the code and return.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Print a fresh code for another device, for folders this one already has."""
    if no_wait and not (yes or as_json):
        raise UsageError("--no-wait leaves nobody to ask: add --yes to admit the device that knows the code")
    request: Json = {
        "command": "pair", "folders": folder or [], "role": role, "yes": yes or as_json, "wait": not no_wait,
    }  # fmt: skip
    _run(request, home, as_json, stay=False, qr=qr, links=link_options(links, listen, no_lan))


@app.command()
def sync(
    home: HomeOption = None, as_json: JsonOption = False,
    timeout: Annotated[float | None, typer.Option("--timeout", envvar="P2PSYNC_TIMEOUT", help="Seconds to wait at most.")] = None,
    links: LinksOption = _ALL_LINKS, no_lan: NoLanOption = False, listen: ListenOption = None,
) -> None:  # fmt: skip
    """Get in sync with whoever is reachable, then exit."""
    linking = link_options(links, listen, no_lan)
    _run({"command": "sync", "timeout": timeout}, home, as_json, stay=False, links=linking)


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the folders of this device and how far they are in sync."""
    screen = StatusScreen(as_json=as_json)
    trio.run(screen.show, PeerOptions(choose_home(home), as_json, None))


@app.command()
def rescan(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Look at every file again now."""
    _run({"command": "rescan"}, home, as_json, stay=False)


@app.command()
def stop(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End the running peer of this device."""
    screen = StatusScreen(as_json=as_json)
    trio.run(screen.stop, PeerOptions(choose_home(home), as_json, None))


past.register(app, folder_app)
conflicts.register(app, folder_app)
app.command()(explain)
app.command()(scrub)
app.command()(doctor)


@folder_app.command(name="list")
def folder_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the folders of this device."""
    screen = FolderTable(as_json=as_json)
    trio.run(screen.show, PeerOptions(choose_home(home), as_json, None))


@folder_app.command(name="add")
def folder_add(path: SomePath, home: HomeOption = None, relay: RelayOption = None, label: _LABEL = None,
               type: TypeOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    """Make PATH a folder without a code and without staying in the foreground."""
    request: Json = {
        "command": "share", "path": str(absolute(path)), "label": label, "relay": relay, "code": False,
        "invite": secret_variable("P2PSYNC_RELAY_INVITE"), "type": type_option(type),
    }  # fmt: skip
    _run(request, home, as_json, stay=False)


@device_app.callback(invoke_without_command=True)
def device(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The devices of this device's folders."""
    if context.invoked_subcommand is None:
        device_list(home, as_json)


@device_app.command(name="list")
def device_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the devices of this device's folders and how they are reached."""
    screen = DeviceTable(as_json=as_json)
    trio.run(screen.show, PeerOptions(choose_home(home), as_json, None))


@device_app.command(name="rename")
def device_rename(
    name: Annotated[str, typer.Argument(help="What others call this device.", show_default=False)],
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Give this device a name that other members see."""
    _run({"command": "rename", "name": name}, home, as_json, stay=False)


device_app.command(name="address")(device_address)


@app.command(name="device-id")
def device_id(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print this device's id."""
    from p2psync.cli.at_rest import own_device_id  # noqa: PLC0415 (see running.py)

    own = own_device_id(choose_home(home))
    screen = Screen(as_json=as_json)
    if as_json:
        screen.print_json({"device": own})
    else:
        screen.line(own)


@app.command()
def paths(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show where this device keeps its state."""
    show_paths(Home(choose_home(home)), Screen(as_json=as_json))


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    screen = Screen(as_json=as_json)
    number = metadata.version("p2psync")
    if as_json:
        screen.print_json({"version": number})
    else:
        screen.line(f"p2psync {number}")


@app.command()
def demo(
    path: Annotated[
        Path | None, typer.Argument(help="A directory to show it with (copied first).", metavar="PATH")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", envvar="P2PSYNC_KEEP", help="Leave everything in place afterwards.")
    ] = False,
) -> None:
    """Two devices and a relay on this machine: sync both ways, then search what the relay saw."""
    demonstration.run(path, keep=keep)


def _run(
    request: Json, home: Path | None, as_json: bool, *, stay: bool, qr: bool = False, invite: str | None = None,
    links: LinkOptions = UNHEARD,
) -> None:  # fmt: skip
    screen = Screen(as_json=as_json, qr=qr, invite=invite)
    options = PeerOptions(choose_home(home), as_json, request.get("relay"), links=links)
    work: Callable[[], Awaitable[None]] = lambda: run_command(options, request, screen, stay=stay)  # noqa: E731
    trio.run(work)


def main() -> None:
    """Entry point: runs the command and turns errors into a sentence and an exit code."""
    try:
        code = _run_command_line()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`p2psync status | head`); nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _run_command_line() -> int:
    try:
        app(standalone_mode=False)
    except typer.Exit as finished:
        return finished.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BaseException as error:
        if only_failure(error, BrokenPipeError) is not None:
            raise BrokenPipeError from None
        return report(error)
    return 0


def report(error: BaseException) -> int:
    """Show an error and return the exit code. Our own bugs, and `P2PSYNC_DEBUG=1`, show a traceback."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if type(error).__name__ == "NoArgsIsHelpError" and hasattr(error, "format_message"):
        print(error.format_message())  # typer's help for a command without arguments: our own text
        return UsageError.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a wrong command line, found by typer
        print(f"p2psync: {clean(error.format_message()).rstrip('.')}; see p2psync --help", file=sys.stderr)
        return int(error.exit_code)
    failure = first_failure(error)
    if failure is None or os.environ.get("P2PSYNC_DEBUG") == "1":
        traceback.print_exception(error)
    sentence = (
        str(failure) if isinstance(failure, P2psyncError) else "this is a fault of p2psync itself; please report it"
    )
    print(f"p2psync: {clean(sentence)}", file=sys.stderr)
    return 70 if failure is None else failure.exit_code


if __name__ == "__main__":
    main()
