"""What a device would know that read a folder's entries and nothing else: from the beginning, or from snapshots on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import FolderKeys
from p2psync.catalog.rows import columns
from p2psync.crypto.signing import SigningKey
from p2psync.errors import P2psyncError
from p2psync.ids import Ciphertext, FeedId
from p2psync.index.records import RecordType, version_of
from p2psync.replica.admission import admit
from p2psync.replica.context import Context
from p2psync.replica.founding import bare_context
from p2psync.replica.statements import held_statements, open_statements
from p2psync.sealed.entry import Entry, parse
from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.secrets import FolderSecrets
from tests.support.devices import SeededRandomness


def entries_of(store: MemoryStore, *, deleted: bool = False) -> list[Entry]:
    """The entries a store holds; with `deleted` those too that it was told to delete."""
    return [
        parse(Ciphertext(bytes(held.object.data)))
        for key, held in sorted(store._objects.items())
        if key.startswith("e/") and (deleted or held.deleted_at is None)
    ]


def a_reader(secrets: FolderSecrets, device: DeviceKeys, seed: int = 77) -> Context:
    randomness = SeededRandomness(seed)
    keys = FolderKeys(secrets, SigningKey(randomness.bytes(32)))
    return bare_context(Catalog(None), keys, device, randomness, SystemClock())


def read(context: Context, entries: Iterable[Entry], *, from_snapshots: bool) -> Context:
    """Take entries in, feed by feed, as often as one moves another; each feed from its newest snapshot on if asked."""
    feeds: dict[FeedId, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: (each.feed, each.seq)):
        feeds.setdefault(entry.feed, []).append(entry)
    if from_snapshots:
        for feed, held in feeds.items():
            start = open_statements(context, held[-1]).body.snapshot
            feeds[feed] = [entry for entry in held if entry.seq >= start]
    moved = True
    while moved:
        moved = False
        for feed, held in feeds.items():
            seq = context.catalog.feeds.state(feed).seq
            try:
                result = admit(context, [entry for entry in held if entry.seq > seq])
            except P2psyncError as error:
                raise AssertionError(f"an honest entry was refused: {error}") from error
            moved |= bool(result.entries) or result.membership
    assert not context.trouble, context.trouble
    return context


def knowledge(context: Context) -> dict[str, Any]:
    """All that follows from entries, but the past and where content lies."""
    database = context.catalog._db
    frontier = set(database.query("SELECT dir, name, feed, seq FROM version"))
    tables = {
        "version": "SELECT dir, name, feed, seq, idx, data FROM version",
        "beyond": "SELECT dir, name, feed, seq FROM beyond",
        "wanted": "SELECT dir, name, feed, seq, idx, kind, size, vector, source_dir, source_name FROM wanted",
        "seen": "SELECT feed, other, seq FROM seen",
        "feed": "SELECT feed, identity, seq, hash, held FROM feed",
        "membership": "SELECT data FROM membership",
        "fork": "SELECT feed, seq FROM fork",
    }  # fmt: skip
    known: dict[str, Any] = {name: set(database.query(query)) for name, query in tables.items()}
    known["beyond"] = {row for row in known["beyond"] if _matters(context, *row)}
    known["settled"] = {row for row in database.query("SELECT dir, name, feed, seq FROM settled") if row in frontier}
    return known


def _matters(context: Context, directory: bytes, name: bytes, feed: bytes, seq: int) -> bool:
    """Whether anybody could still say what is covered there: not where the feed's snapshot says nothing of the path."""
    newest = context.catalog.snapshots.newest(FeedId(feed))
    if newest is None or seq >= newest[0]:
        return True
    parts = context.catalog.feeds.entries_after(FeedId(feed), newest[0] - 1, newest[1] - newest[0] + 1)
    said = [each for _, _, data in parts for each in held_statements(context, data).statements]
    return any(
        columns(version_of(each.data, each.values, each.dot).path) == (directory, name)
        for each in said
        if each.number in (RecordType.FILE, RecordType.TOMBSTONE) and each.dot.seq <= seq
    )


async def forget_replaced(store: MemoryStore, secrets: FolderSecrets, device: DeviceKeys) -> None:
    """Delete what complete snapshots replaced, without asking who has read it."""
    entries = entries_of(store)
    snapshots = read(a_reader(secrets, device), entries, from_snapshots=True).catalog.snapshots
    for feed in {entry.feed for entry in entries}:
        first, _ = snapshots.newest(feed) or (0, 0)
        await store.delete([each.key for each in entries if each.feed == feed and each.seq < first])
