"""Admission: the judgement of an entry before anything of it counts, and its way into the catalog.

Checks in order: chain, epoch, seal, membership it was written under, its author's binding and role, version vectors
against what the author had seen. A record of the wrong type or form is flagged and skipped while the chain goes on; a
record type this code does not know holds its feed; membership not seen yet makes the feed wait; a second entry of one
place is a fork. A snapshot may follow where entries are missing, since it stands for them (`restating.py`). Synchronous:
it runs in a worker, one transaction a batch. Source: formats, "Entry", "Snapshots", "Forks", "Versions", "Identity,
folder, membership".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from p2psync.catalog.feeds import FeedState
from p2psync.catalog.locations import CLAIMED
from p2psync.errors import IntegrityError, P2psyncError, PeerError
from p2psync.ids import ZERO_HASH, FeedId, IdentityKey
from p2psync.index.forks import decode_fork
from p2psync.index.membership import (
    MAY_WRITE,
    NotYetKnown,
    Role,
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
    record_hash,
    version_of,
)
from p2psync.index.versions import Version, join_vectors
from p2psync.replica.context import Context
from p2psync.replica.restating import ContradictionFound, Restating
from p2psync.replica.settling import settle_snapshots
from p2psync.replica.statements import Opened, Statement, open_statements
from p2psync.sealed.entry import Entry, check_follows, parse
from p2psync.sealed.fork import ForkFound, ForkProof, prove_fork

_TOUCHED_MAX = 2000
"""Paths whose frontiers are held in memory until what is wanted there is worked out."""


@dataclass(slots=True)
class Admitted:
    """What a batch brought. `refused` are (path or type, reason) of records that were flagged and skipped."""

    entries: int = 0
    waiting: str | None = None
    """Why the batch stopped early although nothing is wrong with it."""
    membership: bool = False
    """Membership grew, perhaps by what an entry that must wait says of it."""
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
                    staged = _admit_one(context, entry, result)
            except _GapFound:
                break
            except _Waits as wait:
                _hold(context, entry, wait, result)
                break
            except ForkFound as fork:
                result.forks.append(fork.proof)
                break
            except P2psyncError as error:
                failure = error
                break
            if staged is not None:  # what fails from here on takes the whole batch back
                touched |= staged.finish()
            if len(touched) > _TOUCHED_MAX:
                context.catalog.versions.refresh(touched)
                touched = {}
        context.catalog.versions.refresh(touched)
        settle_snapshots(context)
        if result.entries and not replayed:
            author = context.catalog.feeds.state(entries[0].feed).identity
            if author is not None:
                context.catalog.attendance.hear(author, context.clock.now())
        result.forks = [proof for proof in result.forks if context.catalog.forks.add(proof)]
    if failure is not None:
        raise failure
    return result


class _GapFound(P2psyncError):
    """What follows what was admitted just now is missing: what comes next is judged when it is asked for again."""


class _Waits(P2psyncError):
    """An entry must wait. `early` is what it says of membership that holds already and may be what others wait for."""

    def __init__(self, reason: str, early: Sequence[tuple[IdentityKey, bytes]] = ()) -> None:
        super().__init__(reason)
        self.early = early


def _hold(context: Context, entry: Entry, wait: _Waits, result: Admitted) -> None:
    for admin, data in wait.early:
        context.catalog.feeds.add_membership(admin, data)
    result.membership |= bool(wait.early)
    context.catalog.feeds.hold(entry.feed, str(wait))
    result.waiting = str(wait)


def _admit_one(context: Context, entry: Entry, result: Admitted) -> Staged | None:
    """Judge an entry, and keep it; its versions are still to be written down (None: there are none, it was known)."""
    state = context.catalog.feeds.state(entry.feed)
    cut = context.catalog.forks.cut(entry.feed)
    if cut is not None and entry.seq >= cut:
        raise _Waits(f"its author wrote two different entries {cut}; what it says from there on does not count")
    if entry.seq <= state.seq:
        _check_known(context, entry)
        return None
    follows = entry.seq == state.seq + 1
    if follows:
        check_follows(entry, state.seq, state.hash)
    try:
        context.secrets.epoch(entry.epoch)
    except IntegrityError as error:
        raise _Waits(str(error)) from None
    opened = open_statements(context, entry)
    if not follows and (opened.part is None or opened.part.number):
        if result.entries:
            raise _GapFound("entries are missing")
        check_follows(entry, state.seq, state.hash)
    staged = Staged(context, opened, state)
    try:
        _apply(context, state, staged)
    except (NotYetKnown, UnknownRecord) as error:
        raise _Waits(str(error), staged.early) from None
    result.membership |= staged.membership_changed
    result.forks += staged.forks
    result.entries += 1
    return staged


def _check_known(context: Context, entry: Entry) -> None:
    held = context.catalog.feeds.entry(entry.feed, entry.seq)
    if held is not None and held != entry.data:
        raise ForkFound(prove_fork(parse(held), entry))


def _apply(context: Context, state: FeedState, staged: Staged) -> None:
    opened = staged.opened
    entry, body = opened.entry, opened.body
    seen = {head.feed: head.seq for head in body.heads}
    if opened.part is not None:
        seen = join_vectors([seen, opened.part.seen])
    if seen.get(context.own_feed, 0) > context.catalog.feeds.state(context.own_feed).seq:
        raise NotYetKnown("its author claims to have seen what this device never wrote")
    for each in opened.statements:
        if each.number < OPTIONAL_FROM and each.number not in _HANDLED:
            raise UnknownRecord(f"record type {each.number} is not known here; update p2psync on this device")
    role = _role(context, state, staged)
    context.catalog.feeds.note_seen(entry.feed, seen)
    staged.seen = context.catalog.feeds.seen(entry.feed)
    staged.seen[entry.feed] = entry.seq
    for each in opened.statements:
        try:
            if each.number < OPTIONAL_FROM and each.number not in MAY_WRITE[role]:
                raise PeerError(f"a {role.name.lower()} may not write {RecordType(each.number).name.lower()} records")
            staged.take(each)
        except ContradictionFound:
            raise
        except (PeerError, IntegrityError) as error:
            staged.flag(error)
    context.catalog.feeds.append(entry, staged.author)


def _role(context: Context, state: FeedState, staged: Staged) -> Role:
    """The role of an entry's author in the membership it was written under. NotYetKnown while that is not known here."""
    membership, opened = context.membership, staged.opened
    if opened.part is None and not membership.known.issuperset(opened.body.membership):
        raise NotYetKnown("written under membership records not seen yet")
    staged.author = _author(context, opened, state, staged)
    if opened.part is not None:
        staged.take_membership_early()
        if not membership.known.issuperset(opened.body.membership):
            raise NotYetKnown("written under membership records not seen yet")
    role = membership.role_of(staged.author)
    if role is None:
        raise NotYetKnown("its device is not a member yet, as far as this device has seen")
    return role


def _author(context: Context, opened: Opened, state: FeedState, staged: Staged) -> IdentityKey:
    """Whose feed this is: known, or bound by its first record (which may hold the genesis beside it)."""
    if state.identity is not None and state.seq > 0:
        return IdentityKey(state.identity)
    first, begins = opened.statements[:1], opened.part is not None or opened.entry.previous == ZERO_HASH
    if not begins or not first or first[0].number != RecordType.BIND:
        raise PeerError("a feed that does not start with its binding")
    bind = decode_bind(first[0].data, context.folder, opened.entry.feed)
    for each in opened.statements[1:2]:
        if each.number == RecordType.GENESIS and folder_id(decode_genesis_record(each.data)) == context.folder:
            staged.take(each)
    return bind.identity


class Staged:
    """One entry on its way into the catalog: takes its records one by one."""

    def __init__(self, context: Context, opened: Opened, state: FeedState) -> None:
        self._context, self._membership = context, context.membership
        self._restating: Restating | None = None
        if opened.part is not None:
            try:
                self._restating = Restating(context, opened.entry.feed, opened.entry.seq, opened.part, state.seq)
            except PeerError as error:
                self.opened = opened = replace(opened, part=None, statements=())
                self.flag(error)
        self.opened = opened
        self.author = IdentityKey(b"")
        self.seen: dict[FeedId, int] = {}
        self._versions: list[tuple[Version, Statement]] = []
        self._paths: set[Path] = set()
        self.membership_changed = False
        self.early: list[tuple[IdentityKey, bytes]] = []
        self.forks: list[ForkProof] = []

    def flag(self, error: P2psyncError) -> None:
        entry = self.opened.entry
        self._context.trouble[f"entry {entry.feed.hex()[:8]}/{entry.seq}"] = f"a record was refused: {error}"

    def take(self, statement: Statement) -> None:
        data = statement.data
        match statement.number:
            case RecordType.FILE | RecordType.TOMBSTONE:
                self._take_version(version_of(data, statement.values, statement.dot), statement)
            case RecordType.CHUNK:
                chunk = decode_inline(data)
                generation = self._context.secrets.generations.get(chunk.generation)
                if generation is None:
                    raise PeerError("a chunk of a generation this device does not know")
                entry = self.opened.entry
                self._context.catalog.locations.add_inline(
                    generation.chunk_id(chunk.plain), entry.feed, entry.seq, statement.place,
                    restated=self._restating is not None,
                )  # fmt: skip
            case RecordType.PACK:
                locations, entry, pack = self._context.catalog.locations, self.opened.entry, decode_pack(data)
                locations.add_pack(pack, CLAIMED)
                locations.tell(pack.name, entry.feed, entry.seq, restated=self._restating is not None)
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
            case RecordType.SNAPSHOT:
                raise PeerError("a snapshot that is malformed, or shares its entry with other records")
            case _:
                pass  # bind was read before; optional records are kept in the entry and passed on

    def take_membership_early(self) -> None:
        """Take what a snapshot says of membership before it is judged: two admins' snapshots may need each other's.

        It is only what its author's feed says, and counts by the same rules as ever.
        """
        for each in self.opened.statements:
            if record_hash(each.data) in self._membership.known:
                continue
            try:
                if each.number == RecordType.GENESIS:
                    self._membership.apply_genesis(each.data)
                elif each.number == RecordType.ADD:
                    self._membership.apply_add(each.data, self.author)
                else:
                    continue
            except (PeerError, IntegrityError, NotYetKnown):
                continue
            self.early.append((self.author, each.data))
            self.membership_changed = True

    def _keep_membership(self, data: bytes) -> None:
        self._context.catalog.feeds.add_membership(self.author, data)
        self.membership_changed = True

    def _take_version(self, version: Version, statement: Statement) -> None:
        for feed, seq in version.vector.items():
            if seq > self.seen.get(feed, 0):
                raise PeerError(f"{show(version.path)}: its vector names what its author had not seen")
        if self._restating is not None:
            if not self._restating.is_new(version, statement):
                return
        elif version.path in self._paths:
            raise PeerError(f"{show(version.path)} stands twice in one entry")
        self._paths.add(version.path)
        self._versions.append((version, statement))

    def finish(self) -> dict[Path, tuple[Version, ...]]:
        """All records were taken, and the entry is kept: write the versions down, all at once; returns the frontiers of
        their paths.

        Not in the inner transaction in which the entry was judged: for that SQLite copies every page first. So whoever
        calls this takes the entry back too when it fails.
        """
        catalog = self._context.catalog
        for author, data in self.early:
            catalog.feeds.add_membership(author, data)
        catalog.history.note([(version, statement.time_ms) for version, statement in self._versions])
        frontiers = catalog.versions.apply([(version, statement.data) for version, statement in self._versions])
        if self._restating is not None:
            self._restating.finish()
        return frontiers


_HANDLED = frozenset(
    {
        RecordType.BIND, RecordType.GENESIS, RecordType.FILE, RecordType.TOMBSTONE, RecordType.CHUNK, RecordType.PACK,
        RecordType.ADD, RecordType.ROTATE, RecordType.FORK, RecordType.SNAPSHOT,
    }
)  # fmt: skip
