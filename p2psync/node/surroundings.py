"""The six seams as the node hands them down: everything a device needs of the outside world.

A test or a simulation hands in others: two peers and a relay then run in one process under a mock clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from p2psync.net.addresses import FindInterfaces, interfaces
from p2psync.net.changes import WatchNetwork, watch_network
from p2psync.net.lan import OpenLan, open_lan
from p2psync.net.network import Network, TcpNetwork
from p2psync.net.proxy import ProxiedNetwork
from p2psync.net.punch import LocalPort, OpenPort
from p2psync.net.upnp import MapPort, UnmapPort, map_port, unmap_port
from p2psync.net.urls import RelayUrl
from p2psync.net.workers import ThreadWorkers
from p2psync.replica.inotify import watch_tree
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.replica import MakeFilesystem, MakeWatcher
from p2psync.seams import Clock, Randomness, SystemClock, SystemRandomness, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    network: Network = field(default_factory=TcpNetwork)
    clock: Clock = field(default_factory=SystemClock)
    randomness: Randomness = field(default_factory=SystemRandomness)
    workers: Workers = field(default_factory=ThreadWorkers)
    make_filesystem: MakeFilesystem = LocalFilesystem
    watcher: MakeWatcher = watch_tree
    interfaces: FindInterfaces = interfaces
    watch_network: WatchNetwork = watch_network
    open_lan: OpenLan = open_lan
    outside_ports: Callable[[RelayUrl], OpenPort | None] = lambda url: None
    """How a port is opened that can be dialled from both sides at once, the relay telling where it is; None: not at all."""
    map_port: MapPort = map_port
    unmap_port: UnmapPort = unmap_port
    relay_network: Network | None = None
    """How relays are reached, where that is another way: through a proxy."""

    @property
    def to_relays(self) -> Network:
        return self.relay_network or self.network


def system_surroundings() -> Surroundings:
    """The real ones, with the proxy that the environment names: what it hides, no port gives away."""
    relays = ProxiedNetwork(TcpNetwork(), os.environ)

    def outside_ports(url: RelayUrl) -> OpenPort | None:
        return LocalPort if relays.proxy_for(url.host, url.port) is None else None

    return Surroundings(relay_network=relays, outside_ports=outside_ports)
