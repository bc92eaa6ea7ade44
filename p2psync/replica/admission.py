"""Admission: the judgement of an entry before anything of it counts, and its way into the catalog.

Checks in order: chain, epoch, seal, membership it was written under, its author's binding and role, version vectors
against what the author had seen. A record of the wrong type or form is flagged and skipped while the chain goes on; a
record type this code does not know holds its feed; membership not seen yet makes the feed wait; a second entry of one
place is a fork. Synchronous: it runs in a worker, one transaction a batch. Source: formats, "Entry", "Forks", "Versions",
"Identity, folder, membership".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from p2psync.catalog.feeds import FeedState
from p2psync.catalog.locations import CLAIMED
from p2psync.errors import IntegrityError, P2psyncError, PeerError
from p2psync.ids import ZERO_HASH, FeedId, IdentityKey
from p2psync.index.body import Body, decode_body
from p2psync.index.forks import decode_fork
from p2psync.index.membership import (
    MAY_WRITE,
    Membership,
    NotYetKnown,
    decode_bind,
    decode_genesis_record,
    decode_rotate,
    folder_id,
)
from p2psync.index.paths import Path, show
from p2psync.index.records import (
    OPTIONAL_FROM,
    RecordType,
    UnknownRecord,
    decode_inline,
    decode_pack,
    read_record,
    record_hash,
    record_type,
    version_of,
)
from p2psync.index.versions import Dot, Version
from p2psync.replica.context import Context
from p2psync.sealed.entry import Entry, check_follows, parse
from p2psync.sealed.fork import ForkFound, ForkProof, prove_fork
from p2psync.vault.entry import open_entry

_TOUCHED_MAX = 2000
"""Paths whose frontiers are held in memory until what is wanted there is worked out."""


@dataclass(slots=True)
class Admitted:
    """What a batch brought. `refused` are (path or type, reason) of records that were flagged and skipped."""

    entries: int = 0
    waiting: str | None = None
    """Why the batch stopped early although nothing is wrong with it."""
    membership: bool = False
    forks: list[ForkProof] = field(default_factory=list)
    """Forks found, or told of by others, and written down: `forking.py` draws the consequences."""


def admit(context: Context, entries: Sequence[Entry], *, replayed: bool = False) -> Admitted:
    """Admit consecutive entries of one feed, as far as they go. What is `replayed` came before: nobody is heard of by it.

    IntegrityError (another branch, bad seal) and PeerError (bad form) end it with nothing of the bad entry kept; what was
    admitted before it stays. `forking.take_in` is what exchanges call.
    """
    result = Admitted()
    touched: dict[Path, Sequence[Version]] = {}
    failure: P2psyncError | None = None
    with context.catalog.transaction():
        for entry in entries:
            try:
                with context.catalog.transaction():
                    _admit_one(context, entry, touched, result)
                if len(touched) > _TOUCHED_MAX:
                    context.catalog.versions.refresh(touched)
                    touched = {}
            except (NotYetKnown, UnknownRecord) as error:
                context.catalog.feeds.hold(entry.feed, str(error))
                result.waiting = str(error)
                break
            except ForkFound as fork:
                result.forks.append(fork.proof)
                break
            except P2psyncError as error:
                failure = error
                break
        context.catalog.versions.refresh(touched)
        if result.entries and not replayed:
            author = context.catalog.feeds.state(entries[0].feed).identity
            if author is not None:
                context.catalog.attendance.hear(author, context.clock.now())
        result.forks = [proof for proof in result.forks if context.catalog.forks.add(proof)]
    if failure is not None:
        raise failure
    return result


def _admit_one(context: Context, entry: Entry, touched: dict[Path, Sequence[Version]], result: Admitted) -> None:
    state = context.catalog.feeds.state(entry.feed)
    cut = context.catalog.forks.cut(entry.feed)
    if cut is not None and entry.seq >= cut:
        raise NotYetKnown(f"its author wrote two different entries {cut}; what it says from there on does not count")
    if entry.seq <= state.seq:
        _check_known(context, entry)
        return
    check_follows(entry, state.seq, state.hash)
    try:
        secret = context.secrets.epoch(entry.epoch)
    except IntegrityError as error:
        raise NotYetKnown(str(error)) from None
    body = decode_body(open_entry(context.folder, secret, entry))
    _apply(context, entry, body, state, touched, result)
    result.entries += 1


def _check_known(context: Context, entry: Entry) -> None:
    held = context.catalog.feeds.entry(entry.feed, entry.seq)
    if held is not None and held != entry.data:
        raise ForkFound(prove_fork(parse(held), entry))


def _apply(
    context: Context,
    entry: Entry,
    body: Body,
    state: FeedState,
    touched: dict[Path, Sequence[Version]],
    result: Admitted,
) -> None:
    membership = context.membership
    if not membership.known.issuperset(body.membership):
        raise NotYetKnown("written under membership records not seen yet")
    own = context.catalog.feeds.state(context.own_feed).seq
    if any(head.feed == context.own_feed and head.seq > own for head in body.heads):
        raise NotYetKnown("its author claims to have seen what this device never wrote")
    records = []
    for data in body.records:
        number, values = read_record(data)
        if number < OPTIONAL_FROM and number not in _HANDLED:
            raise UnknownRecord(f"record type {number} is not known here; update p2psync on this device")
        records.append((number, values))
    staged = Staged(context, entry, body, membership)
    staged.author = _author(context, entry, body, state, staged)
    role = membership.role_of(staged.author)
    if role is None:
        raise NotYetKnown("its device is not a member yet, as far as this device has seen")
    context.catalog.feeds.note_seen(entry.feed, body.heads)
    staged.seen = context.catalog.feeds.seen(entry.feed)
    staged.seen[entry.feed] = entry.seq
    for index, ((number, values), data) in enumerate(zip(records, body.records, strict=True)):
        try:
            if number < OPTIONAL_FROM and number not in MAY_WRITE[role]:
                raise PeerError(f"a {role.name.lower()} may not write {RecordType(number).name.lower()} records")
            staged.take(number, index, data, values)
        except (PeerError, IntegrityError) as error:
            context.trouble[f"entry {entry.feed.hex()[:8]}/{entry.seq}"] = f"a record was refused: {error}"
    touched |= staged.finish()
    context.catalog.feeds.append(entry, staged.author)
    result.membership |= staged.membership_changed
    result.forks += staged.forks


def _author(context: Context, entry: Entry, body: Body, state: FeedState, staged: Staged) -> IdentityKey:
    """Whose feed this is: known, or bound by the first record of entry 1 (which may hold the genesis beside it)."""
    if state.identity is not None and state.seq > 0:
        return IdentityKey(state.identity)
    if entry.previous != ZERO_HASH or not body.records or record_type(body.records[0]) != RecordType.BIND:
        raise PeerError("a feed that does not start with its binding")
    bind = decode_bind(body.records[0], context.folder, entry.feed)
    for data in body.records[1:2]:
        number, values = read_record(data)
        if number == RecordType.GENESIS and folder_id(decode_genesis_record(data)) == context.folder:
            staged.take(number, 1, data, values)
    return bind.identity


class Staged:
    """One entry on its way into the catalog: takes its records one by one."""

    def __init__(self, context: Context, entry: Entry, body: Body, membership: Membership) -> None:
        self._context, self._entry, self._membership = context, entry, membership
        self._time_ms = body.time_ms
        self.author = IdentityKey(b"")
        self.seen: dict[FeedId, int] = {}
        self._versions: dict[Path, tuple[Version, bytes]] = {}
        self.membership_changed = False
        self.forks: list[ForkProof] = []

    def take(self, number: int, index: int, data: bytes, values: Any) -> None:
        """`values` are the record's fields."""
        match number:
            case RecordType.FILE | RecordType.TOMBSTONE:
                self._take_version(version_of(data, values, Dot(self._entry.feed, self._entry.seq, index)), data)
            case RecordType.CHUNK:
                chunk = decode_inline(data)
                generation = self._context.secrets.generations.get(chunk.generation)
                if generation is None:
                    raise PeerError("a chunk of a generation this device does not know")
                self._context.catalog.locations.add_inline(
                    generation.chunk_id(chunk.plain), self._entry.feed, self._entry.seq, index
                )
            case RecordType.PACK:
                self._context.catalog.locations.add_pack(decode_pack(data), CLAIMED)
            case RecordType.GENESIS:
                known = record_hash(data) in self._membership.known  # read early, to learn who the author is
                self._membership.apply_genesis(data)
                if not known:
                    self._keep_membership(data)
            case RecordType.ADD:
                self._membership.apply_add(data, self.author)
                self._keep_membership(data)
            case RecordType.ROTATE:
                decode_rotate(data)
            case RecordType.FORK:
                self.forks.append(decode_fork(data))
            case _:
                pass  # bind was read before; optional records are kept in the entry and passed on

    def _keep_membership(self, data: bytes) -> None:
        self._context.catalog.feeds.add_membership(self.author, data)
        self.membership_changed = True

    def _take_version(self, version: Version, data: bytes) -> None:
        for feed, seq in version.vector.items():
            if seq > self.seen.get(feed, 0):
                raise PeerError(f"{show(version.path)}: its vector names what its author had not seen")
        if version.path in self._versions:
            raise PeerError(f"{show(version.path)} stands twice in one entry")
        self._versions[version.path] = version, data

    def finish(self) -> dict[Path, tuple[Version, ...]]:
        """Write the versions down, all at once; returns the frontiers of their paths."""
        versions = list(self._versions.values())
        self._context.catalog.history.note([version for version, _ in versions], self._time_ms)
        return self._context.catalog.versions.apply(versions)


_HANDLED = frozenset(
    {
        RecordType.BIND, RecordType.GENESIS, RecordType.FILE, RecordType.TOMBSTONE, RecordType.CHUNK, RecordType.PACK,
        RecordType.ADD, RecordType.ROTATE, RecordType.FORK,
    }
)  # fmt: skip
