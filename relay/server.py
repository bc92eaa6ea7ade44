"""The relay itself: its directory, its listeners, and the connections it holds at once.

Owns start-up and shutdown. When it is full, the stranger who has been here longest makes room: devices that have logged
in are never pushed out by people who have not.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.ids import RelayKey
from p2psync.net.network import Network, bound_port
from p2psync.net.tls import make_certificate, server_context
from p2psync.net.urls import RelayUrl, pin_of
from p2psync.seams import Clock, Randomness, Workers
from p2psync.store.sqlite import Database
from relay.access import FIRST_INVITE_FOLDERS, MIGRATIONS, AccessList, make_invite
from relay.addresses import caller_of
from relay.connection import Connection, Services
from relay.directory import RelayDirectory, write_private
from relay.mailboxes import Mailboxes, first_after_restart
from relay.namespaces import Namespaces
from relay.presence import Presence
from relay.splices import Splices
from relay.verbs import Memory

CONNECTIONS_MAX = 5_000
LEAVING = 64
"""Connections that were told to go and have not gone yet."""
WILDCARDS = ("", "0.0.0.0", "::")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator chose. `host` may be empty: all interfaces. `quota` bounds each namespace in bytes."""

    directory: Path
    host: str
    port: int
    open_to_all: bool = False
    quota: int | None = None
    public_url: RelayUrl | None = None
    """Where a web server before this relay is reached, `wss://…`. Devices that came by another name are refused."""


@dataclass(frozen=True, slots=True)
class Running:
    """A relay that accepts connections. `token` is set when this start made the first invite."""

    url: RelayUrl
    """What devices are given: the public URL where there is one."""
    local: RelayUrl
    everywhere: bool
    token: str | None


async def run_relay(
    settings: Settings,
    *,
    network: Network,
    clock: Clock,
    randomness: Randomness,
    workers: Workers,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. UserError when the directory or the address is taken."""
    directory = RelayDirectory(settings.directory)
    directory.make()
    with directory.locked():
        first = first_after_restart(randomness) if directory.database.exists() else 1
        key = directory.key(randomness)
        database = Database(directory.database, MIGRATIONS)
        try:
            listeners = await network.listen(settings.host, settings.port)
            running = _announce(settings, directory, key, database, listeners, clock, randomness)
            tls = server_context(key.seed, make_certificate(key.seed, "p2psync relay", randomness))
            async with trio.open_nursery() as nursery:
                services = Services(
                    key=key, tls=tls, access=AccessList(database, workers, clock, RelayKey(key.public)),
                    namespaces=Namespaces(directory, nursery, workers=workers, clock=clock, quota=settings.quota),
                    mailboxes=Mailboxes(first), presence=Presence(), splices=Splices(),
                    memory=Memory(), clock=clock, randomness=randomness,
                    open_to_all=settings.open_to_all,
                    origin=settings.public_url.origin if settings.public_url else None,
                )  # fmt: skip
                task_status.started(running)
                log.info("serving at %s", running.url)
                await trio.serve_listeners(Reception(services).receive, list(listeners))
        finally:
            database.close()


def _announce(
    settings: Settings,
    directory: RelayDirectory,
    key: SigningKey,
    database: Database,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    clock: Clock,
    randomness: Randomness,
) -> Running:
    everywhere = settings.host in WILDCARDS
    host = platform.node() or "localhost" if everywhere else settings.host
    local = RelayUrl(host, bound_port(listeners[0]), pin_of(RelayKey(key.public)))
    # The pin in a public URL spares devices the trust at first contact.
    url = dataclasses.replace(settings.public_url, pin=local.pin) if settings.public_url else local
    write_private(directory.url, f"{url}\n".encode())
    token = None
    if not settings.open_to_all and not database.query_one("SELECT 1 FROM invite LIMIT 1"):
        token = make_invite(database, FIRST_INVITE_FOLDERS, randomness, clock.now())
        write_private(directory.invite, f"{token}\n".encode())
    return Running(url, local, everywhere and settings.public_url is None, token)


class Reception:
    """Lets connections in."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._strangers: dict[Connection, None] = {}
        self._count = 0

    async def receive(self, transport: trio.abc.Stream) -> None:
        """Serve one connection; nothing a client does ends more than its own connection."""
        connection = Connection(self._services, transport, caller_of(transport))
        if self._count >= CONNECTIONS_MAX:
            self._make_room()
        if self._count >= CONNECTIONS_MAX + LEAVING:
            await trio.aclose_forcefully(transport)
            return
        self._count += 1
        self._strangers[connection] = None
        try:
            await connection.run()
        except Exception:
            log.exception("a connection failed through a fault of this relay")
        finally:
            self._count -= 1
            self._strangers.pop(connection, None)

    def _make_room(self) -> None:
        for connection in list(self._strangers):
            del self._strangers[connection]
            if not connection.logged_in:
                connection.life.cancel()
                return
