"""The relay's command line: serve, invite, version.

Owns what is printed and the exit codes; everything else is the server's. Every option has a P2PSYNC_RELAY_… variable,
and `--json` prints one object per line for programs.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import trio
import typer
from rich.console import Console

from p2psync.errors import P2psyncError, UsageError
from p2psync.net.memory import give_back_now_and_then
from p2psync.net.network import TcpNetwork
from p2psync.net.urls import DEFAULT_PORT, RelayUrl, parse_relay_url
from p2psync.net.workers import ThreadWorkers
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.store.sqlite import Database
from relay.access import MIGRATIONS, make_invite
from relay.directory import RelayDirectory
from relay.server import Running, Settings, run_relay

INVITE_FOLDERS = 10
WORKER_THREADS = 8

app = typer.Typer(
    help="A relay for p2psync: it keeps and passes on sealed folders and can read none of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="P2PSYNC_RELAY_DATA", help="Data directory [default: the user's state directory]."),
]
Json = Annotated[bool, typer.Option("--json", envvar="P2PSYNC_RELAY_JSON", help="Print JSON, one object per line.")]


@app.command()
def serve(
    data: Data = None,
    listen: Annotated[
        str, typer.Option("--listen", envvar="P2PSYNC_RELAY_LISTEN", help="ADDRESS:PORT; :PORT for all interfaces.")
    ] = f":{DEFAULT_PORT}",
    open_to_all: Annotated[
        bool,
        typer.Option(
            "--open/--invite-only", envvar="P2PSYNC_RELAY_OPEN", help="Take any new folder, or only invited ones."
        ),
    ] = False,
    quota: Annotated[
        int | None,
        typer.Option("--quota", envvar="P2PSYNC_RELAY_QUOTA", min=0, help="Bytes each folder may store."),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            envvar="P2PSYNC_RELAY_PUBLIC_URL",
            help="wss://HOST/PATH at which a web server passes devices on to this relay.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the relay in the foreground and print its URL."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    host, port = parse_listen(listen)
    settings = Settings(
        directory_of(data), host, port, open_to_all=open_to_all, quota=quota, public_url=parse_public_url(public_url)
    )
    trio.run(_serve_until_signal, settings, as_json)


@app.command()
def invite(
    data: Data = None,
    folders: Annotated[
        int, typer.Option("--folders", envvar="P2PSYNC_RELAY_FOLDERS", min=1, help="Folders the invite admits.")
    ] = INVITE_FOLDERS,
    as_json: Json = False,
) -> None:
    """Make an invite and print its token."""
    directory = RelayDirectory(directory_of(data))
    directory.make()
    database = Database(directory.database, MIGRATIONS)
    try:
        token = make_invite(database, folders, SystemRandomness(), SystemClock().now())
    finally:
        database.close()
    if as_json:
        _print_json({"invite": token, "folders": folders})
    else:
        _say(token)


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    number = importlib.metadata.version("p2psync")
    if as_json:
        _print_json({"version": number})
    else:
        _say(f"p2psync-relay {number}")


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[v6]:port`, `:port` or `host`. UsageError otherwise."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {text!r} must look like ADDRESS:PORT, for example 127.0.0.1:{DEFAULT_PORT}")
    return ("" if host == "*" else host), int(port)


def parse_public_url(text: str | None) -> RelayUrl | None:
    """UsageError unless it is a `wss` URL without a pin, which the relay puts there itself."""
    if text is None:
        return None
    url = parse_relay_url(text)
    if url.path is None or url.pin is not None:
        raise UsageError(f"--public-url {text!r} must look like wss://HOST/PATH")
    return url


def directory_of(data: Path | None) -> Path:
    return data or Path(platformdirs.user_state_dir("p2psync-relay", appauthor=False))


async def _serve_until_signal(settings: Settings, as_json: bool) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def serve_and_print() -> None:
                async with trio.open_nursery() as inner:
                    running: Running = await inner.start(_run, settings)
                    _print_running(running, as_json)

            nursery.start_soon(serve_and_print)
            nursery.start_soon(give_back_now_and_then)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


async def _run(settings: Settings, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
    await run_relay(
        settings, network=TcpNetwork(), clock=SystemClock(), randomness=SystemRandomness(),
        workers=ThreadWorkers(WORKER_THREADS), task_status=task_status,
    )  # fmt: skip


def _print_running(running: Running, as_json: bool) -> None:
    if as_json:
        _print_json({"url": str(running.url), "local_url": str(running.local), "invite": running.token})
        return
    _say(str(running.url))
    if running.everywhere:
        _note(
            "Devices must be able to reach the host name in this URL; put this machine's public name or address there."
        )
    if running.token is not None:
        _say(f"invite: {running.token}")
        _note("New folders need the invite: set P2PSYNC_RELAY_INVITE on the device that shares one.")


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="dim", markup=False)


def main() -> None:
    """Entry point: errors become one sentence and an exit code."""
    try:
        app()
    except BaseException as error:
        failure = _sole_failure(error)
        if failure is None:
            raise
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"p2psync-relay: {failure}", markup=False)
        sys.exit(failure.exit_code)


def _sole_failure(error: BaseException) -> P2psyncError | None:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, P2psyncError) else None
