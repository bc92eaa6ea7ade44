"""Taking entries in, and what follows when they prove that a feed forked.

A feed whose key signed two entries for one place ends before that place, for everybody, whichever branch they had seen:
two versions with one dot could never be told apart. What counted before and does not now is worked out anew; content on
this disk is published again as this device's own, and the proof is passed on in its feed. Source: formats, "Forks".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from p2psync.index.membership import Membership, Role
from p2psync.replica.admission import Admitted, admit
from p2psync.replica.context import Context
from p2psync.replica.incarnation import begin_incarnation
from p2psync.replica.publisher import EntryWriter
from p2psync.replica.rebuilding import all_or_nothing, rebuild
from p2psync.sealed.entry import Entry


def take_in(context: Context, entries: Sequence[Entry]) -> Admitted:
    """Admit entries of one feed (see `admission.admit`) and draw the consequences of forks they prove.

    Runs in a worker, inside `renewal_noticed`, since it may be this device's own feed that forked.
    """
    with context.workers.turn:
        try:
            return admit(context, entries)
        finally:
            settle_forks(context)


@contextmanager
def renewal_noticed(context: Context) -> Iterator[None]:
    """Around work in a worker that may rebuild the catalog or begin a new incarnation: wakes whoever has other work then."""
    own, rebuilds = context.own_feed, context.rebuilds
    try:
        yield
    finally:
        if context.own_feed != own:
            context.renewed.notify()
        if context.own_feed != own or context.rebuilds != rebuilds:
            context.wake_for_uploads()


def settle_forks(context: Context) -> int:
    """Make what was taken in of forked feeds void from the fork on; returns for how many feeds that was new.

    After a kill in between it is done when the replica is opened.
    """
    settled = 0
    if not context.catalog.forks.all():
        return settled
    with all_or_nothing(context):
        for feed, seq, proof in context.catalog.forks.all():
            if context.catalog.feeds.state(feed).seq < seq:
                continue
            void = rebuild(context, feed, seq - 1)
            with saying_again(context, void):
                if feed == context.own_feed:
                    begin_incarnation(context, feed, seq - 1)
                if context.membership.role_of(context.device.identity_key) is not None:  # any role may write it
                    writer = EntryWriter(context)
                    writer.add_record(proof)
                    writer.flush()
            settled += 1
    return settled


@contextmanager
def saying_again(context: Context, void: Sequence[bytes]) -> Iterator[None]:
    """Say the admissions again that stood in void entries, after what is written inside, if this device may.

    An `add` has no author field, so its very bytes count in any admin's feed. All of this is written as under a membership
    without them, or nobody who lacks them could read where they stand now.
    """
    full = context.membership
    context.membership = Membership(context.folder)
    context.catalog.feeds.load_membership(context.membership, set(void))
    try:
        yield
        if void and context.membership.role_of(context.device.identity_key) is Role.ADMIN:
            writer = EntryWriter(context)
            for data in void:
                writer.add_record(data)
            writer.flush()
    finally:
        context.membership = full
