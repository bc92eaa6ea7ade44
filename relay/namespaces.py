"""The open namespaces: each one's store while somebody uses it, and the channels that lead to it.

A store is opened by the first login and closed some time after the last channel went, so that thousands of resting
folders cost no file handles. Revoking a key ends its channels at once. It knows no verbs and no messages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from p2psync.errors import AccessRefused, StorageError
from p2psync.ids import AccessKey, NamespaceId
from p2psync.seams import Clock, Workers
from p2psync.store.disk import open_disk_store
from p2psync.store.interface import BlindStore
from p2psync.wire.login import Right
from relay.directory import RelayDirectory

log = logging.getLogger(__name__)

LINGER_SECONDS = 30
"""A device that reconnects after a broken link finds its store still open."""


@dataclass(eq=False)
class Channel:
    """One login: what one connection may do in one namespace until it ends or the key is revoked."""

    namespace: NamespaceId
    key: AccessKey
    right: Right
    store: BlindStore
    revoked: bool = False
    _scopes: set[trio.CancelScope] = field(default_factory=set)

    @contextmanager
    def use(self, needed: Right) -> Iterator[None]:
        """Do something that needs a right; AccessRefused when it is lacking, or is taken away meanwhile."""
        self._check(needed)
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            self._check(needed)

    def change(self, right: Right | None) -> None:
        """The access list changed; whatever runs is stopped unless the key may do as much as before."""
        if right is not None and right.covers(self.right):
            return
        self.revoked, self.right = right is None, right or self.right
        for scope in self._scopes:
            scope.cancel()

    def _check(self, needed: Right) -> None:
        if self.revoked:
            raise AccessRefused("this device's access to the folder's store was taken away")
        if not self.right.covers(needed):
            raise AccessRefused(f"this device may only {self.right.value} here, which needs {needed.value}")


@dataclass(eq=False)
class _Open:
    store: BlindStore
    idle: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    channels: set[Channel] = field(default_factory=set)


class Namespaces:
    def __init__(
        self, directory: RelayDirectory, nursery: trio.Nursery, *, workers: Workers, clock: Clock, quota: int | None
    ) -> None:
        self._directory, self._nursery = directory, nursery
        self._workers, self._clock, self._quota = workers, clock, quota
        self._open: dict[NamespaceId, _Open] = {}
        self._opening: dict[NamespaceId, trio.Lock] = {}

    async def enter(self, namespace: NamespaceId, key: AccessKey, right: Right) -> Channel:
        """A channel to the namespace's store. StorageError when it cannot be opened."""
        lock = self._opening.setdefault(namespace, trio.Lock())
        async with lock:
            if namespace not in self._open:
                failure: StorageError | None = await self._nursery.start(self._keep_open, namespace)
                if failure is not None:
                    raise failure
            used = self._open[namespace]
            channel = Channel(namespace, key, right, used.store)
            used.channels.add(channel)
            return channel

    def leave(self, channel: Channel) -> None:
        used = self._open.get(channel.namespace)  # None while the whole relay stops
        if used is not None:
            used.channels.discard(channel)
            used.idle.unpark_all()

    def change(self, namespace: NamespaceId, key: AccessKey, right: Right | None) -> None:
        """Tell the live channels of `key` that the access list changed."""
        used = self._open.get(namespace)
        for channel in tuple(used.channels) if used else ():
            if channel.key == key:
                channel.change(right)

    async def _keep_open(
        self, namespace: NamespaceId, task_status: trio.TaskStatus[StorageError | None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        lock, opened, unused = self._opening[namespace], False, False
        try:
            async with open_disk_store(
                self._directory.namespace(namespace), workers=self._workers, clock=self._clock, quota=self._quota
            ) as store:
                used = self._open[namespace] = _Open(store)
                opened = True
                task_status.started()
                try:
                    await self._until_unused(used, lock)
                    unused = True
                finally:
                    del self._open[namespace]
        except StorageError as error:
            log.error("namespace %s: %s", namespace.hex()[:8], error)
            if not opened:
                task_status.started(error)
        finally:
            if unused:
                lock.release()

    async def _until_unused(self, used: _Open, lock: trio.Lock) -> None:
        """Return with `lock` held, so that nobody opens the store again before it is closed."""
        while True:
            while used.channels:
                await used.idle.park()
            await trio.sleep(LINGER_SECONDS)
            await lock.acquire()
            if not used.channels:
                return
            lock.release()
