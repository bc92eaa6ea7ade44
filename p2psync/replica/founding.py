"""Founding and adopting: how a folder begins to be a replica on this device.

A founder makes the genesis, the first epoch with its envelope, a random feed, and entry 1 (bind, genesis, rotate). A
newcomer brings what pairing gave it and entry 1 of its own feed (bind). Keys are durable before the catalog, the catalog
before the marker: a crash in between leaves a directory nobody takes for a replica. Blocking; run it in a worker.
"""

from __future__ import annotations

from pathlib import Path as FilePath

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import FolderKeys, Keystore, credentials_of
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import Fields, decode, encode
from p2psync.errors import StorageError, UserError
from p2psync.ids import FeedId, FolderId
from p2psync.index.body import FeedHead
from p2psync.index.membership import (
    Credentials,
    Membership,
    Rotate,
    encode_bind,
    encode_genesis_record,
    encode_rotate,
    folder_id,
    make_genesis,
    read_credentials,
    read_genesis,
)
from p2psync.limits import CERTIFICATE_MAX
from p2psync.net.workers import InlineWorkers
from p2psync.planner.shaping import FolderType
from p2psync.replica.context import Context
from p2psync.replica.importing import import_at_first
from p2psync.replica.marker import existing_marker, write_marker
from p2psync.replica.publisher import EntryWriter
from p2psync.replica.shape import TYPE
from p2psync.seams import Clock, Randomness
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.envelope import seal_envelope
from p2psync.vault.secrets import FolderSecrets, Generation, first_epoch

FIRST_GENERATION = 0
_INTRODUCER_MAX = 2 * CERTIFICATE_MAX


def create_folder(
    *,
    root: FilePath,
    catalog_path: FilePath | None,
    keystore: Keystore,
    device: DeviceKeys,
    randomness: Randomness,
    clock: Clock,
    folder_type: FolderType = FolderType.SENDRECEIVE,
) -> FolderId:
    """Make a new folder of an existing directory; UserError when it cannot be one."""
    _check_root(root)
    import_at_first(root)
    genesis = make_genesis(device.identity, credentials_of(device), randomness.bytes(32))
    folder = folder_id(genesis)
    secrets = FolderSecrets(folder)
    epoch = first_epoch(folder, randomness.bytes(32))
    secrets.epochs[epoch.epoch] = epoch
    secrets.current = epoch.epoch
    secrets.generations[FIRST_GENERATION] = Generation(FIRST_GENERATION, randomness.bytes(32))
    keys = FolderKeys(secrets, SigningKey(randomness.bytes(32)))
    keystore.save_folder(keys)
    envelope = seal_envelope(
        folder=folder, secret=epoch, generations=list(secrets.generations.values()), issuer=device.identity_key,
        feed_key=keys.feed, recipients=[device.box.public], parents=[], random=randomness.bytes,
    )  # fmt: skip
    catalog = Catalog(catalog_path)
    try:
        context = bare_context(catalog, keys, device, randomness, clock)
        replica = randomness.bytes(16)
        with catalog.transaction():
            _set_up(catalog, folder, genesis, replica, folder_type)
            writer = EntryWriter(context)
            writer.add_record(_bind(context))
            writer.add_record(encode_genesis_record(genesis))
            writer.add_record(encode_rotate(Rotate(epoch.epoch, (), envelope.hash)))
            writer.flush()
            context.membership.apply_genesis(encode_genesis_record(genesis))
            catalog.feeds.add_membership(device.identity_key, encode_genesis_record(genesis))
            catalog.feeds.add_object(envelope.key, envelope.data)
        write_marker(root, folder, replica)
    finally:
        catalog.close()
    return folder


def adopt_folder(
    *,
    root: FilePath,
    catalog_path: FilePath | None,
    keystore: Keystore,
    device: DeviceKeys,
    genesis: bytes,
    secrets: FolderSecrets,
    required: FeedHead,
    introducer: Credentials | None = None,
    randomness: Randomness,
    clock: Clock,
    folder_type: FolderType = FolderType.SENDRECEIVE,
) -> FolderId:
    """Make a directory (made if missing, empty or not) a replica of a folder this device was admitted to.

    `required` is the entry that admits it: nothing is scanned before that entry and all it had seen are here, so even a
    first sync cannot be rolled back. `introducer` is the device that admits, from which they can be had.
    """
    read_genesis(genesis)
    folder = folder_id(genesis)
    if folder != secrets.folder:
        raise UserError("the secrets given belong to another folder; pair again")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{root} cannot be made: {error.strerror}") from error
    _check_root(root)
    import_at_first(root)
    keys = FolderKeys(secrets, SigningKey(randomness.bytes(32)))
    keystore.save_folder(keys)
    catalog = Catalog(catalog_path)
    try:
        context = bare_context(catalog, keys, device, randomness, clock)
        replica = randomness.bytes(16)
        with catalog.transaction():
            _set_up(catalog, folder, genesis, replica, folder_type)
            catalog.set("required", encode([required.feed, required.seq, required.hash]))
            if introducer is not None:
                catalog.set("introducer", encode(introducer.encode_list()))
            writer = EntryWriter(context)
            writer.add_record(_bind(context))
            writer.flush()
        write_marker(root, folder, replica)
    finally:
        catalog.close()
    return folder


def introduced(catalog: Catalog) -> list[Credentials]:
    """Whom a newcomer knows before its own admission has arrived: the founder, whom the folder's id itself names, and
    the device that admitted it."""
    known = [read_genesis(catalog.require("genesis"))]
    data = catalog.get("introducer")
    if data is not None:
        fields = Fields(decode(data, _INTRODUCER_MAX), "introducer")
        known.append(read_credentials(fields))
        fields.end()
    return known


def _check_root(root: FilePath) -> None:
    if not root.is_dir():
        raise UserError(f"{root} is no directory; make it first, or name another one")
    if existing_marker(root) is not None:
        raise UserError(
            f"{root} is a p2psync folder already; if its device is gone for good, remove {root}/.p2psync and try again"
        )


def _set_up(catalog: Catalog, folder: FolderId, genesis: bytes, replica: bytes, folder_type: FolderType) -> None:
    catalog.set(TYPE, folder_type.value.encode())
    catalog.set("folder", folder)
    catalog.set("genesis", genesis)
    catalog.set("replica", replica)


def _bind(context: Context) -> bytes:
    return encode_bind(context.device.identity, context.folder, FeedId(context.keys.feed.public), None)


def bare_context(
    catalog: Catalog, keys: FolderKeys, device: DeviceKeys, randomness: Randomness, clock: Clock
) -> Context:
    """What writing and admitting entries needs, without a tree or running tasks."""
    return Context(
        catalog=catalog, keys=keys, device=device, membership=Membership(keys.secrets.folder), clock=clock,
        randomness=randomness, workers=InlineWorkers(),
    )  # fmt: skip
