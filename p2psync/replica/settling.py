"""Settling: what a snapshot leaves out, once this device has read all that its author had seen.

What is left out was replaced by something its author knew. A deletion that every member has seen may go, and so it leaves
the frontier without anything in its place. A living version that is left out although nothing here replaced it was
replaced by something that a snapshot left out in turn: whoever passed over entries takes it away; whoever has read
everything knows better, keeps it and says so. Blocking; takes no lock but the catalog's, for it is done inside others'
transactions. Source: formats, "Snapshots".
"""

from __future__ import annotations

from p2psync.ids import FeedId
from p2psync.index.paths import Path
from p2psync.index.versions import Dot
from p2psync.replica.context import Context


def settle_snapshots(context: Context) -> bool:
    """Settle every snapshot whose author had seen nothing that is not here; whether there was any."""
    found = False
    for feed, first in context.catalog.snapshots.unsettled():
        if _is_covered(context, feed, first):
            with context.catalog.transaction():
                _settle(context, feed, first)
            found = True
    return found


def _is_covered(context: Context, feed: FeedId, first: int) -> bool:
    """Whether all that a snapshot's author had seen is here, as far as it counts."""
    catalog = context.catalog
    held = {state.feed: state.seq for state in catalog.feeds.states()}
    for other, seq in catalog.snapshots.seen(feed, first).items():
        cut = catalog.forks.cut(other)
        needed = seq if cut is None else min(seq, cut - 1)
        if held.get(other, 0) < needed or catalog.snapshots.is_partial(other):
            return False
    return True


def _settle(context: Context, feed: FeedId, first: int) -> None:
    snapshots, versions = context.catalog.snapshots, context.catalog.versions
    passed_over = snapshots.passed_over()
    gone: list[tuple[Path, Dot]] = []
    hidden = 0
    for path, dot in snapshots.left_out(feed, first):
        version, placed = versions.version(path, dot), context.catalog.placed.get(path)
        if version is None or not version.live:
            pending = placed is not None and placed.live and not any(v.live for v in versions.frontier(path))
            if not pending:  # else it is still to be carried out, or kept for a reason
                gone.append((path, dot))
        elif passed_over:
            gone.append((path, dot))
        else:
            hidden += 1
    snapshots.settle(feed, first)
    versions.drop(gone)
    for path in snapshots.placed_before(feed, first):
        versions.check_need(path)
    if hidden:
        context.trouble[f"snapshot {feed.hex()[:8]}"] = (
            f"a snapshot leaves out {hidden} of its author's versions that nothing replaced; they stay here, but a"
            " device that joins now will not learn of them: ask whoever runs that device"
        )
