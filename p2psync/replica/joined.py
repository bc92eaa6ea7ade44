"""What a replica waits for before it looks at the disk: its own admission, or its own past.

Pairing names the entry that admitted a newcomer: nothing is scanned before it is here, so that not even a first sync can
be rolled back by whoever keeps the entries. A new incarnation waits for what its past lives wrote, then compares the disk
with it. Source: formats, "Incarnations".
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import trio

from p2psync.encoding import decode
from p2psync.errors import FolderStopped
from p2psync.ids import EntryHash, FeedId
from p2psync.index.body import decode_body
from p2psync.replica.context import Context
from p2psync.replica.incarnation import end_unsureness, past_is_here
from p2psync.replica.reconciling import reconcile
from p2psync.sealed.entry import parse
from p2psync.vault.entry import open_entry

_WAITING = "this device"


async def admitted(context: Context) -> None:
    """Admission first, scan second: wait for the entry that admitted this device and all it had seen."""
    while True:
        seen = context.feeds_grew.count
        if await context.workers.run(_admission_is_here, context):
            return
        context.changed.notify()
        await context.feeds_grew.wait(seen)


def _admission_is_here(context: Context) -> bool:
    data = context.catalog.get("required")
    if not data:
        return True
    feed, seq, name = decode(data, 256)
    heads = _heads_of_admission(context, FeedId(feed), seq, EntryHash(name))
    if heads is None or any(not _is_here(context, each, seq) for each, seq in heads.items()):
        return False
    context.catalog.set("required", b"")
    return True


def _heads_of_admission(context: Context, feed: FeedId, seq: int, name: EntryHash) -> dict[FeedId, int] | None:
    """What must be here beside the entry that admitted this device; None while that one, or a snapshot that stands for
    it and names at least as much, is not."""
    feeds = context.catalog.feeds
    held = feeds.entry(feed, seq)
    if held is None:
        return feeds.seen(feed) if _is_here(context, feed, seq) else None
    entry = parse(held)
    if entry.hash != name:
        raise FolderStopped("the store shows another history than the device that admitted this one: do not trust it")
    body = decode_body(open_entry(context.folder, context.secrets.epoch(entry.epoch), entry))
    return {head.feed: head.seq for head in body.heads}


def _is_here(context: Context, feed: FeedId, seq: int) -> bool:
    return context.catalog.feeds.state(feed).seq >= seq and not context.catalog.snapshots.is_partial(feed)


async def reconciled(context: Context, has_heard: Callable[[], bool]) -> None:
    """A new incarnation: what its past lives wrote is admitted first, then the disk is compared with it."""
    stopped = threading.Event()
    context.set_trouble(
        _WAITING,
        "its home was restored from a backup or copied: it takes in what it wrote before, then goes on under a new feed",
    )
    while True:
        seen = context.changed.count
        if await context.workers.run(past_is_here, context) and has_heard():
            break
        await context.changed.wait(seen)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set_at_end, stopped)
        await context.workers.run(reconcile, context, stopped.is_set)
        nursery.cancel_scope.cancel()
    await context.workers.run(end_unsureness, context)
    context.set_trouble(_WAITING, None)


async def _set_at_end(event: threading.Event) -> None:
    """A thread is not cancelled: it looks at the event."""
    try:
        await trio.sleep_forever()
    finally:
        event.set()
