"""A replica: one folder on this disk, kept as wanted.

It composes the parts: catalog and keys, watching and publishing, applying, and an exchange with every connected store.
A folder that must not be touched (marker or root missing) stops, shows why, and goes on by itself when that has passed.
Who connects the stores is the node's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path as FilePath

import trio

from p2psync.catalog.brake import Held
from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import Keystore
from p2psync.errors import AccessRefused, FolderStopped, LinkLost, NotFound, P2psyncError, StorageError, UserError
from p2psync.ids import FeedId, FolderId, IdentityKey
from p2psync.index.body import FeedHead
from p2psync.index.membership import Member, Newcomer, Role, encode_add
from p2psync.index.paths import Path, show
from p2psync.index.versions import Dot
from p2psync.planner.sources import ALL_LINKS
from p2psync.replica.applying import Applying
from p2psync.replica.attendance import Attending, silences
from p2psync.replica.collecting import Collecting
from p2psync.replica.conflicts import Conflicts
from p2psync.replica.context import Context, Signal
from p2psync.replica.exchange import StoreExchange
from p2psync.replica.explaining import Explained, explain
from p2psync.replica.failures import only_failure
from p2psync.replica.filesystem import Filesystem
from p2psync.replica.folder_status import HELD, FolderStatus
from p2psync.replica.forking import settle_forks
from p2psync.replica.founding import introduced
from p2psync.replica.incarnation import resume_incarnation
from p2psync.replica.inotify import watch_tree
from p2psync.replica.joined import admitted, reconciled
from p2psync.replica.local_filesystem import LocalFilesystem
from p2psync.replica.marker import check_marker
from p2psync.replica.peer_exchange import PeerExchange
from p2psync.replica.publisher import EntryWriter
from p2psync.replica.recovery import recover
from p2psync.replica.reshaping import Reshaping
from p2psync.replica.restoring import Restoring
from p2psync.replica.scrubbing import Scrubbing
from p2psync.replica.upkeep import Upkeep
from p2psync.replica.watcher import Skips, Watcher
from p2psync.replica.watching import Watching
from p2psync.replica.xattrs import flaws
from p2psync.seams import Clock, Randomness, Workers
from p2psync.session.peer_link import PeerLink
from p2psync.store.interface import BlindStore
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.secrets import FolderSecrets

MakeFilesystem = Callable[[FilePath], Filesystem]
MakeWatcher = Callable[[FilePath, Workers, Skips], AbstractAsyncContextManager[Watcher]]

_STOPPED_RETRY_SECONDS = 5.0


class Replica:
    """Made by `open_replica`."""

    def __init__(self, context: Context, root: FilePath, make_filesystem: MakeFilesystem, watcher: MakeWatcher) -> None:
        self._context, self._root, self._make_filesystem = context, root, make_filesystem
        self._exchanges: dict[str, StoreExchange] = {}
        self._peers: list[PeerExchange] = []
        """With one device there are two for a while, on links that follow each other."""
        self._stopped: str | None = None
        self._applying = Applying(context)
        self._watching = Watching(
            context, context.catalog.require("replica"), lambda: watcher(root, context.workers, context.shape.skips),
            places=lambda: self._applying.busy,
        )  # fmt: skip
        self.past = Restoring(context, self.rescan)
        self.conflicts = Conflicts(context, self.rescan)
        self.reshaping = Reshaping(context, self._watching)
        self.scrubbing = Scrubbing(context)

    @property
    def folder(self) -> FolderId:
        return self._context.folder

    @property
    def genesis(self) -> bytes:
        return self._context.catalog.require("genesis")

    @property
    def secrets(self) -> FolderSecrets:
        return self._context.secrets

    def role(self) -> Role | None:
        """This device's role; None until its admission has arrived."""
        return self._context.membership.role_of(self._context.device.identity_key)

    def members(self) -> list[Member]:
        return list(self._context.membership.members.values())

    def other_devices(self) -> dict[IdentityKey, bytes]:
        """Identity → certificate (DER) of whom this device may meet."""
        known = [member.credentials for member in self.members()]
        if self.role() is None:
            known += introduced(self._context.catalog)
        own = self._context.device.identity_key
        return {each.identity: each.certificate for each in known if each.identity != own}

    @property
    def grew(self) -> Signal:
        """Entries have come: members, among others, may be others now."""
        return self._context.feeds_grew

    @property
    def changed(self) -> Signal:
        """Anything a status shows has changed."""
        return self._context.changed

    # Running.

    async def run(self) -> None:
        """Scan, publish, fetch and materialise until cancelled."""
        context = self._context
        while True:
            try:
                await self._run_once()
            except* (FolderStopped, StorageError) as group:
                self._stopped = str(only_failure(group, (FolderStopped, StorageError)))
                context.changed.notify()
                await trio.sleep(_STOPPED_RETRY_SECONDS)

    async def _run_once(self) -> None:
        """Until the folder must stop, or begin again because a new incarnation began."""
        context = self._context
        renewed = context.renewed.count
        filesystem = await context.workers.run(self._make_filesystem, self._root)
        context.opened = filesystem
        try:
            replica = context.catalog.require("replica")
            await context.workers.run(check_marker, filesystem, context.folder, replica)
            await context.workers.run(recover, context)
            await context.workers.run(self._begin_shape)
            self._stopped = None
            await admitted(context)
            if context.unsure:
                await reconciled(context, self._has_heard)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watching.run)
                nursery.start_soon(self._applying.run)
                nursery.start_soon(Collecting(context).run)
                nursery.start_soon(Attending(context, self._has_heard).run)
                nursery.start_soon(Upkeep(context).run)
                await context.renewed.wait(renewed)
                nursery.cancel_scope.cancel()
        finally:
            context.opened = None
            filesystem.close()

    def _begin_shape(self) -> None:
        with self._context.tree:
            self._context.shape.begin(self._context.filesystem)

    def _has_heard(self) -> bool:
        """Whether everything some store or device showed at its last word was taken in."""
        connected: list[StoreExchange | PeerExchange] = [*self._exchanges.values(), *self._peers]
        return any(each.heard for each in connected)

    @property
    def links(self) -> frozenset[str]:
        """The kinds of link (`direct`, `splice`, `store`) that carry this folder's changes and content."""
        return self._context.links

    def limit_links(self, links: frozenset[str]) -> None:
        """Use only these kinds from now on: for connections made later. A folder without any store leaves `store` out."""
        self._context.links = links
        self._context.changed.notify()

    async def serve_store(self, name: str, store: BlindStore) -> None:
        """Pull from and push to one connected store until its link is lost (LinkLost, AccessRefused, …).

        Where `store` is no allowed kind of link nothing passes: the link is there for pairing and presence alone.
        """
        if "store" not in self._context.links:
            await trio.sleep_forever()
        exchange = StoreExchange(self._context, name, store)
        self._exchanges[name] = exchange
        try:
            await _run_bare(exchange.run)
        finally:
            if self._exchanges.get(name) is exchange:
                del self._exchanges[name]
            self._context.changed.notify()

    async def serve_peer(self, name: str, link: PeerLink) -> None:
        """Exchange with one other device until its link is lost (LinkLost; PeerError when it broke the protocol).

        Both devices call it for every folder they may have in common: the folder opens once both serve it and each
        takes the other for a member. `name` is what status shows, usually the device id.
        """
        if link.kind not in self._context.links:
            await link.closed()
            raise link.lost()
        exchange = PeerExchange(self._context, name, link)
        self._peers.append(exchange)
        try:
            await _run_bare(exchange.run)
        finally:
            self._peers.remove(exchange)
            self._context.changed.notify()

    async def rescan(self) -> None:
        """Look at the whole tree once; returns when that is done and published."""
        await self._watching.whole_pass()

    # What others ask.

    async def status(self) -> FolderStatus:
        """How things stand now."""
        return await self._context.workers.run(self._status)

    def _status(self) -> FolderStatus:
        context = self._context
        catalog = context.catalog
        wanted, local, conflicts = catalog.totals.get()
        files, size = catalog.totals.needed()
        shape = self.reshaping.figures(files)
        if not shape.type.writes:
            files = size = 0
        upload = catalog.locations.upload_bytes() if "store" in context.links else 0
        heads = self._heads()
        troubles = [(subject, sentence) for subject, sentence in sorted(context.trouble.items())]
        delayed = [(f"feed {state.feed.hex()[:8]}", state.held) for state in catalog.feeds.states() if state.held]
        held = [(catalog.feeds.state(each.feed).identity, each) for each in catalog.brake.held()]
        problems = [
            (show(path), reason) for path, reason in (*catalog.placed.problems(), *list(context.refused.items()))
        ]
        problems += flaws(context)
        if self._watching.limited is not None:
            troubles.append(("watcher", self._watching.limited))
        return FolderStatus(
            state=self._state(files, upload, bool(held)), local_bytes=local, global_bytes=wanted, need_bytes=size,
            need_files=files, upload_bytes=upload, conflicts=conflicts, error=self._stopped,
            stores={name: exchange.has(heads) for name, exchange in list(self._exchanges.items())},
            problems=[*troubles, *delayed, *problems],
            peers={each.name: each.has(heads) for each in list(self._peers) if each.active},
            fetched={name: replace(count) for name, count in list(context.fetched.items())}, shape=shape,
            held=held, silences=silences(context),
        )  # fmt: skip

    async def directories(self) -> int:
        """How many directories this disk holds, the root counted: each needs a watch."""
        return 1 + await self._context.workers.run(self._context.catalog.placed.directories)

    async def explain(self, path: Path) -> Explained:
        """Everything known of one path inside the folder."""
        return await self._context.workers.run(explain, self._context, path, self._knowing)

    def _knowing(self, dot: Dot) -> frozenset[str]:
        head = {dot.feed: dot.seq}
        connected: list[StoreExchange | PeerExchange] = [*self._exchanges.values(), *self._peers]
        return frozenset(each.name for each in connected if each.has(head))

    def _state(self, need_files: int, upload: int, held: bool) -> str:
        if self._stopped is not None:
            return "error"
        if self._context.opened is None or self._context.unsure or self._watching.scanning or self._watching.settling:
            return "scanning"
        if held:
            return "held"
        if self._context.shape.settling:
            return "scanning"
        return "syncing" if need_files or upload or self._applying.busy else "idle"

    def _heads(self) -> dict[FeedId, int]:
        return {state.feed: state.seq for state in self._context.catalog.feeds.states()}

    async def accept_held(self) -> list[Held]:
        """Let the changes through that the brake holds; returns what it was."""
        accepted = await self._context.workers.run(self._applying.braking.accept)
        self._context.work_arrived.notify()
        return accepted

    async def in_sync(self) -> None:
        """Return once nothing is left to do and every connected store and device, at least one, was asked and agrees.

        UserError when the folder is stopped.
        """
        context = self._context
        while True:
            seen = context.changed.count
            if await self._agrees():
                return
            await context.changed.wait(seen)

    async def _agrees(self) -> bool:
        """Idle, asked every connected store and device for news, and still idle with all our heads there. UserError when what
        is held is not let go by the news either."""
        for asked in (False, True):
            judged = not self._applying.busy
            status = await self.status()
            if status.state == "error":
                raise UserError(f"the folder is stopped: {status.error}")
            connected: list[StoreExchange | PeerExchange] = [*self._exchanges.values()]
            connected += [exchange for exchange in self._peers if exchange.active]
            held = status.state == "held" and judged
            if held and (asked or not connected):
                raise UserError(HELD)
            known = [*status.stores.values(), *status.peers.values()]
            if not held and (status.state != "idle" or not known or not all(known)):
                return False
            for exchange in connected:
                try:
                    if not (exchange.heard and await exchange.asked()):
                        return False
                except (LinkLost, AccessRefused, NotFound):
                    return False
        return True

    # Admission of others.

    async def admit(self, newcomer: Newcomer) -> FeedHead:
        """Durably commit the admission of a device, in an entry that lists all heads. UserError unless we are admin."""
        if self.role() is not Role.ADMIN:
            raise UserError("only an admin of the folder can admit devices")
        head = await self._context.workers.run(self._admit, newcomer)
        self._context.feeds_grew.notify()
        self._context.changed.notify()
        return head

    def _admit(self, newcomer: Newcomer) -> FeedHead:
        context = self._context
        with context.tree, context.catalog.transaction():
            record = encode_add(context.membership.heads, newcomer)
            writer = EntryWriter(context)
            writer.add_record(record)
            head = writer.flush(everything=True)
            context.membership.apply_add(record, context.device.identity_key)
            context.catalog.feeds.add_membership(context.device.identity_key, record)
        assert head is not None, "an entry with a record is written"
        return head

    async def uploaded(self, head: FeedHead) -> None:
        """Wait until a connected store holds that entry; where stores carry nothing, newcomers get it from a device."""
        while True:
            seen = self._context.changed.count
            if "store" not in self._context.links:
                await trio.lowlevel.checkpoint()
                return
            if any(exchange.held.get(head.feed, 0) >= head.seq for exchange in self._exchanges.values()):
                return
            await self._context.changed.wait(seen)


async def _run_bare(run: Callable[[], Awaitable[None]]) -> None:
    """Run an exchange; when its tasks fail together, the first error stands for all."""
    try:
        await run()
    except BaseExceptionGroup as group:
        failure = only_failure(group, P2psyncError)
        if failure is None:
            raise
        raise failure from None


@asynccontextmanager
async def open_replica(
    *,
    root: FilePath,
    catalog_path: FilePath | None,
    keystore: Keystore,
    device: DeviceKeys,
    clock: Clock,
    randomness: Randomness,
    workers: Workers,
    make_filesystem: MakeFilesystem = LocalFilesystem,
    watcher: MakeWatcher = watch_tree,
    links: frozenset[str] = ALL_LINKS,
) -> AsyncIterator[Replica]:
    """Open a folder that was created or adopted here. Every seam is handed in; `links` limits the kinds of link used."""

    def prepare() -> Context:
        catalog = Catalog(catalog_path)
        keys = keystore.load_folder(catalog.folder)
        context = Context(
            catalog=catalog, keys=keys, device=device, membership=catalog.membership(), clock=clock,
            randomness=randomness, workers=workers, links=links, keystore=keystore,
        )  # fmt: skip
        resume_incarnation(context)
        settle_forks(context)
        return context

    context = await workers.run(prepare)
    try:
        yield Replica(context, root, make_filesystem, watcher)
    finally:
        context.catalog.close()
