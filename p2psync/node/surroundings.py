"""The six seams as the node hands them down: everything a device needs of the outside world.

A test or a simulation hands in others: two peers and a relay then run in one process under a mock clock.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from p2psync.net.network import Network, TcpNetwork
from p2psync.net.workers import ThreadWorkers
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.inotify import watch_tree
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.watcher import Watcher
from p2psync.seams import Clock, Randomness, SystemClock, SystemRandomness, Workers

OpenFilesystem = Callable[[Path], Filesystem]
OpenWatcher = Callable[[Path, Workers], AbstractAsyncContextManager[Watcher]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    network: Network = field(default_factory=TcpNetwork)
    clock: Clock = field(default_factory=SystemClock)
    randomness: Randomness = field(default_factory=SystemRandomness)
    workers: Workers = field(default_factory=ThreadWorkers)
    open_filesystem: OpenFilesystem = LocalFilesystem
    open_watcher: OpenWatcher = watch_tree
