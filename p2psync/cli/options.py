"""Options that several commands share, each with its `P2PSYNC_…` variable, and what they mean together.

Secrets are no options: a code or an invite token comes from its variable or a prompt, so that it stands in no argv
(the code may, because it dies with its first use).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from p2psync.errors import UsageError
from p2psync.net.addresses import parse_announced, parse_listen
from p2psync.node.home import default_home
from p2psync.node.link_options import SERVING, UNHEARD, LinkOptions
from p2psync.planner.shaping import parse_type
from p2psync.planner.sources import ALL_LINKS

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="P2PSYNC_HOME", help="State directory of this device.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", envvar="P2PSYNC_JSON", help="One JSON object per line.")]
RelayOption = Annotated[
    str | None,
    typer.Option("--relay", envvar="P2PSYNC_RELAY", help="Relay URL, p2p://host:port/#pin, or none.", metavar="URL"),
]
LinksOption = Annotated[
    str, typer.Option("--links", envvar="P2PSYNC_LINKS", help="Kinds of link to use: direct,splice,store.")
]
NoLanOption = Annotated[
    bool, typer.Option("--no-lan", envvar="P2PSYNC_NO_LAN", help="Do not look for devices on the LAN.")
]
ListenOption = Annotated[
    str | None,
    typer.Option(
        "--listen", envvar="P2PSYNC_LISTEN", metavar="ADDR", show_default=False,
        help="Address for direct links (host:port, :port) or none. Default: port 22400 of all interfaces, or a free one.",
    ),
]  # fmt: skip
AnnounceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--announce", envvar="P2PSYNC_ANNOUNCE", metavar="ADDR", show_default=False,
        help="An address from which a port is forwarded to this device: IP:port, or :port of the address relays see.",
    ),
]  # fmt: skip
NoUpnpOption = Annotated[
    bool, typer.Option("--no-upnp", envvar="P2PSYNC_NO_UPNP", help="Do not ask the router for a port.")
]
GuiOption = Annotated[
    str,
    typer.Option(
        "--gui-address", envvar="P2PSYNC_GUI_ADDRESS", help="Address of the web page, or none.", metavar="ADDR"
    ),
]
RoleOption = Annotated[
    str, typer.Option("--role", envvar="P2PSYNC_ROLE", help="Role of the new device: admin, writer or reader.")
]
TypeOption = Annotated[
    str | None,
    typer.Option(
        "--type", envvar="P2PSYNC_TYPE", metavar="TYPE", show_default=False,
        help="What this device does with the folder: sendreceive (default), sendonly, receiveonly or archive.",
    ),
]  # fmt: skip
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", envvar="P2PSYNC_YES", help="Admit the device that knows the code without asking.")
]
QrOption = Annotated[
    bool, typer.Option("--qr", envvar="P2PSYNC_QR", help="Show the code as QR even if not on a terminal.")
]

LINK_KINDS = tuple(sorted(ALL_LINKS))


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """What `serve`, `share` and `join` know about running the peer."""

    home: Path
    json: bool
    relay: str | None
    verbose: bool = True
    links: LinkOptions = UNHEARD


def absolute(path: Path) -> Path:
    """A path as it is called from /, its own name resolved no further than `..`: the peer may run elsewhere."""
    return Path(os.path.abspath(path.expanduser()))


def choose_home(given: Path | None) -> Path:
    return given or default_home()


def link_options(
    links: str, listen: str | None, no_lan: bool, announce: list[str] | None = None, no_upnp: bool = False
) -> LinkOptions:
    """What `--links`, `--listen`, `--no-lan`, `--announce` and `--no-upnp` mean together. UsageError unless the kinds
    are known. A device that keeps quiet on the LAN does not look for a router there."""
    kinds = [kind.strip() for kind in links.split(",") if kind.strip()]
    if strange := [kind for kind in kinds if kind not in LINK_KINDS]:
        raise UsageError(f"--links knows {', '.join(LINK_KINDS)}, not {strange[0]!r}")
    if not kinds:
        raise UsageError(f"--links names at least one of {', '.join(LINK_KINDS)}")
    where = SERVING.listen if listen is None else parse_listen(listen)
    announced = tuple(map(parse_announced, announce or ()))
    if announced and where is None:
        raise UsageError("--announce says where this device can be dialled, and --listen none that it cannot")
    return LinkOptions(
        links=frozenset(kinds), listen=where, yielding=listen is None, lan=not no_lan, announced=announced,
        map_port=not (no_upnp or no_lan) and where is not None,
    )  # fmt: skip


def type_option(given: str | None) -> str | None:
    """UsageError unless it is a folder type."""
    return None if given is None else parse_type(given).value


def secret_variable(name: str) -> str | None:
    """A secret from the environment, `NAME` or the file that `NAME_FILE` names."""
    if file := os.environ.get(f"{name}_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise UsageError(f"{name}_FILE names {file}, which cannot be read: {error.strerror}") from None
    return os.environ.get(name) or None
