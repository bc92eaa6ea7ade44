"""Incarnations: a replica that finds its own past elsewhere begins a new life with a new feed.

A home restored from a backup or copied to a second device has the feed key of a life that went on, or goes on, without
it. It must not write one more entry with that key. A new random key is made durable, the feed it names begins with a
`bind` that says what came before, and the old feed becomes one among others: what it says elsewhere is admitted first.
Until then, and until the disk was compared with what the catalog says of it, nothing is published (`context.unsure`).
Blocking; `elsewhere.py` notices, `reconciling.py` compares. Source: formats, "Incarnations".
"""

from __future__ import annotations

from dataclasses import replace

from p2psync.crypto.signing import SigningKey
from p2psync.encoding import decode, encode
from p2psync.errors import BugError
from p2psync.ids import EntryHash, FeedId
from p2psync.index.body import FeedHead
from p2psync.index.membership import encode_bind
from p2psync.replica.context import Context
from p2psync.replica.publisher import EntryWriter

_PAST = "past"
"""Catalog value while bases are unsure: msgpack [feed, seq] that must be here before anything is scanned."""
_OWN = "own feed"
"""Catalog value: the feed this catalog last wrote to. Another one in the keystore: a new life was begun and not ended."""


def begin_incarnation(context: Context, past: FeedId, needed: int) -> None:
    """Go on under a new feed; nothing is scanned before `past` is here up to `needed`.

    The key is durable before the catalog names it: after a kill in between `resume_incarnation` goes on from there. Called
    inside `rebuilding.all_or_nothing`.
    """
    if context.keystore is None:
        raise BugError("a feed cannot be changed here")
    with context.tree, context.catalog.transaction():
        context.catalog.set(_PAST, encode([past, needed]))
        context.catalog.set(_OWN, context.own_feed)
        keys = replace(context.keys, feed=SigningKey(context.randomness.bytes(32)))
        context.keystore.save_folder(keys)
        context.keys, context.unsure = keys, True
        _bind(context)


def resume_incarnation(context: Context) -> None:
    """When a replica is opened: end a beginning that a kill cut short, and notice that bases are unsure still."""
    with context.tree, context.catalog.transaction():
        if context.catalog.feeds.state(context.own_feed).seq == 0:
            if context.catalog.get(_PAST) is None:
                past = context.catalog.get(_OWN) or context.own_feed
                context.catalog.set(_PAST, encode([past, 0]))
            _bind(context)
        elif context.catalog.get(_OWN) != context.own_feed:
            context.catalog.set(_OWN, context.own_feed)
        context.unsure = context.catalog.get(_PAST) is not None


def past_is_here(context: Context) -> bool:
    """Whether what this device wrote in its past life has been admitted, as far as it was shown, or never will be."""
    data = context.catalog.get(_PAST)
    if data is None:
        return True
    feed, needed = decode(data, 256)
    state = context.catalog.feeds.state(FeedId(feed))
    return state.held is not None or (state.seq >= needed and not context.catalog.snapshots.is_partial(FeedId(feed)))


def end_unsureness(context: Context) -> None:
    """The disk was compared: from now on changes are published."""
    context.catalog.unset(_PAST)
    context.unsure = False


def _bind(context: Context) -> None:
    """Entry 1 of the new feed. Its predecessor is where the old one ends here."""
    predecessor = None
    old = context.catalog.get(_OWN)
    if old is not None and old != context.own_feed:
        state = context.catalog.feeds.state(FeedId(old))
        if state.seq:
            predecessor = FeedHead(FeedId(old), state.seq, EntryHash(state.hash))
    writer = EntryWriter(context)
    writer.add_record(encode_bind(context.device.identity, context.folder, context.own_feed, predecessor))
    writer.flush(everything=True)
    context.catalog.set(_OWN, context.own_feed)
