"""The admin's part of a pairing, as the node carries it out: save steps, ask the user, admit, let in at every relay.

Owns the order at admission: the `add` is committed, then the newcomer's access keys stand at the relays, then the entry
is uploaded, and only then do the secrets leave. Every step may be done again after a restart. The dialogue and its
mailbox are `pairing`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import trio

from p2psync.errors import AccessRefused, LinkLost, NobodyReachable, UserError
from p2psync.ids import AccessKey, FolderId
from p2psync.index.membership import Newcomer, Role
from p2psync.node.registry import Registry, SavedPairing
from p2psync.node.running import RunningFolder
from p2psync.pairing.admission import seal_secrets
from p2psync.pairing.dialogue import Admitted, Offered
from p2psync.pairing.offers import Admission, Request, StoreLocation
from p2psync.seams import Randomness, Workers
from p2psync.vault.device_keys import DeviceKeys
from p2psync.wire.login import Right

STORE_SECONDS = 30.0
"""How long one relay may take to let a newcomer in, or to take an entry, before the pairing goes on without it."""

Confirm = Callable[[Request], Awaitable[bool]]
OFFERED, ADMITTED = "offered", "admitted"


class Folders(Protocol):
    def running(self, folder: FolderId) -> RunningFolder: ...


class Admitting:
    """Implements `pairing.driver.AdminHost` for one code."""

    def __init__(
        self, device: DeviceKeys, folders: Folders, registry: Registry, randomness: Randomness, workers: Workers,
        saved: SavedPairing, offered: tuple[FolderId, ...], confirm: Confirm,
    ) -> None:  # fmt: skip
        """`offered`: the folders in the order of the offer, which is that of the request's newcomers."""
        self.device = device
        self._folders, self._registry = folders, registry
        self._randomness, self._workers = randomness, workers
        self._saved, self._offered, self._confirm = saved, offered, confirm

    def settle(self, place: str) -> None:
        self._saved = replace(self._saved, place=place)

    async def save(self, step: Offered | Admitted) -> None:
        name = OFFERED if isinstance(step, Offered) else ADMITTED
        self._saved = replace(self._saved, step=name, state=step.encode())
        await self._workers.run(self._registry.save_pairing, self._saved)

    async def confirm(self, request: Request) -> bool:
        return self._saved.agreed or await self._confirm(request)

    async def admit(self, request: Request) -> tuple[Admission, ...]:
        return tuple([await self._admit_to(*pair) for pair in self._by_folder(request)])

    async def forget(self) -> None:
        await self._workers.run(
            self._registry.forget_pairing, self._saved.place, self._saved.nameplate, self._saved.side
        )

    def _by_folder(self, request: Request) -> list[tuple[RunningFolder, Newcomer]]:
        return [
            (self._folders.running(folder), newcomer)
            for folder, newcomer in zip(self._offered, request.newcomers, strict=True)
        ]

    async def _admit_to(self, folder: RunningFolder, newcomer: Newcomer) -> Admission:
        head = await folder.replica.admit(newcomer)
        right = Right.OWN if newcomer.role is Role.ADMIN else Right.PUT
        keys = dict(newcomer.access)
        opened = 0
        for store in folder.stores:
            opened += await self._let_in(folder, store, keys[store.relay_key], right)
        if folder.stores and not opened:
            raise NobodyReachable("no relay of the folder could let the new device in; try again when one is reachable")
        with trio.move_on_after(STORE_SECONDS) as waiting:
            await folder.replica.uploaded(head)
        if waiting.cancelled_caught:
            raise NobodyReachable("no relay of the folder took the admission; try again when one is reachable")
        sealed = seal_secrets(folder.replica.secrets, newcomer.credentials, self._randomness.bytes(32))
        return Admission(sealed, head)

    async def _let_in(self, folder: RunningFolder, store: StoreLocation, key: AccessKey, right: Right) -> bool:
        """Put the newcomer on one relay's access list; False when that relay cannot be reached now."""
        with trio.move_on_after(STORE_SECONDS):
            while True:
                link = await folder.link(store)
                try:
                    await link.login(store.namespace, folder.access_key(store), Right.OWN)
                    await link.grant(store.namespace, key, right)
                    return True
                except LinkLost:
                    await trio.sleep(1)
                except AccessRefused as error:
                    raise UserError(f"the relay does not let this device admit others: {error}") from None
        return False
