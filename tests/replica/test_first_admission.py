"""What is taken the short way when it is admitted leaves exactly the catalog that the long way leaves.

Three members write what nobody honest and everybody honest writes: first and later versions, concurrent ones, deletions,
renames, records that are refused. Two devices read all of it in the same batches, with what their disks show in between.
One of them has its short ways closed; then every row of every table must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2psync.catalog import versions as of_catalog
from p2psync.catalog.catalog import Catalog
from p2psync.catalog.frontiers import Frontiers
from p2psync.catalog.keystore import credentials_of
from p2psync.catalog.rows import NOTHING, Placed
from p2psync.catalog.versions import Wanted
from p2psync.crypto.hashing import content_hash
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import decode, encode
from p2psync.ids import ZERO_HASH, EntryHash, FeedId, IdentityKey, RecordHash, short_device_id
from p2psync.index import records
from p2psync.index.body import Body, FeedHead, encode_body
from p2psync.index.membership import Role, encode_add, encode_bind, sign_newcomer
from p2psync.index.merge import Frontier, conflict_name
from p2psync.index.paths import Path
from p2psync.index.records import InlineChunk, decode_version, encode_inline, encode_version, record_hash
from p2psync.index.versions import Content, Dot, Kind, Origin, Version, join_vectors
from p2psync.planner.ignoring import Verdict
from p2psync.planner.shaping import FolderType, is_left_alone
from p2psync.replica.admission import admit
from p2psync.replica.context import Context
from p2psync.replica.founding import bare_context
from p2psync.sealed.entry import Entry, parse
from p2psync.vault.device_keys import device_id
from p2psync.vault.entry import seal_entry
from p2psync.vault.secrets import FolderSecrets
from tests.support.devices import Device
from tests.support.reading import a_reader

PATHS: list[Path] = [(b"a",), (b"b",), (b"d",), (b"d", b"a"), (b"d", b"ignored"), (b"d", b"e", b"c")]
KINDS = ("file", "file", "file", "directory", "symlink", "large", "tagged", "empty", "deleted")
ODD = ("root", "seq", "twice", "optional", "inline", "size", "vector", "target")
MEMBERS = 3

said = st.tuples(
    st.sampled_from(KINDS) | st.sampled_from(ODD), st.integers(0, 8), st.integers(0, 2), st.booleans(), st.booleans()
)
"""(what, where, with which content, whether over what its author sees there, whether it comes from another path)"""
writes = st.tuples(st.just("write"), st.integers(0, MEMBERS - 1), st.lists(said, max_size=6))
hears = st.tuples(st.just("hear"), st.integers(0, MEMBERS - 1), st.integers(0, MEMBERS - 1))
reads = st.tuples(st.just("read"), st.integers(0, MEMBERS - 1), st.integers(1, 4))
places = st.tuples(st.just("place"), st.integers(0, 9), st.booleans())
steps = st.lists(st.one_of(writes, writes, hears, reads, reads, places), min_size=3, max_size=14)


@dataclass
class Member:
    """A feed written by hand."""

    secrets: FolderSecrets
    key: SigningKey
    paths: list[Path] = field(default_factory=list)
    """Where it writes: names of conflict copies too."""
    entries: list[Entry] = field(default_factory=list)
    heard: dict[FeedId, FeedHead] = field(default_factory=dict)
    seen: list[Version] = field(default_factory=list)
    """Versions it has written or heard of."""

    @property
    def feed(self) -> FeedId:
        return FeedId(self.key.public)

    @property
    def seq(self) -> int:
        return len(self.entries)

    def write(self, membership: tuple[RecordHash, ...], *data: bytes) -> None:
        body = Body(membership=membership, time_ms=self.seq, heads=self._heads(), records=data)
        self.entries.append(
            seal_entry(
                folder=self.secrets.folder, secret=self.secrets.writing, feed_key=self.key, seq=self.seq + 1,
                previous=self.entries[-1].hash if self.entries else EntryHash(ZERO_HASH), body=encode_body(body), salt=bytes(32),
            )
        )  # fmt: skip

    def _heads(self) -> tuple[FeedHead, ...]:
        return tuple(head for _, head in sorted(self.heard.items()) if head.feed != self.feed)

    def hear(self, other: Member) -> None:
        self.heard |= other.heard
        if other.seq:
            self.heard[other.feed] = FeedHead(other.feed, other.seq, other.entries[-1].hash)
        self.seen += [version for version in other.seen if version not in self.seen]

    def record(self, index: int, what: str, where: int, content: int, over: bool, moved: bool) -> bytes:
        """One record, good or bad; a good one is seen by its author from then on."""
        path = self.paths[where % len(self.paths)]
        dot = Dot(self.feed, self.seq + 1, index)
        below = [v.vector for v in self.seen if v.path == path] if over else []
        other = self.seen[where % len(self.seen)] if moved and self.seen else None
        version = Version(
            path=path, dot=dot, kind=Kind.FILE, vector={**join_vectors(below), dot.feed: dot.seq}, mtime_ns=content,
            mode=0o644, origin=None if other is None else Origin(other.path, other.dot),
        )  # fmt: skip
        if what in ODD:
            return _odd(what, version)
        data = encode_version(_of_kind(version, what, content))
        self.seen.append(decode_version(data, dot))
        return data


def _of_kind(version: Version, what: str, content: int) -> Version:
    row = content_hash(bytes([content])) + (content + 1).to_bytes(4, "big")
    one = Content(generation=1, parameters=(1, 2, 3), chunks=row)
    match what:
        case "directory":
            return replace(version, kind=Kind.DIRECTORY, mtime_ns=0)
        case "symlink":
            return replace(version, kind=Kind.SYMLINK, target=b"to %d" % content)
        case "deleted":
            return replace(version, kind=Kind.DELETED, mtime_ns=0, mode=0)
        case "large":
            return replace(version, content=replace(one, chunks=row * 2), size=2 * (content + 1))
        case "tagged":
            return replace(version, content=one, size=content + 1, xattrs=((b"user.tag", b"%d" % content),))
        case "empty":
            return version
    return replace(version, content=one, size=content + 1)


def _odd(what: str, version: Version) -> bytes:
    """Something beside a good version: refused, ignored, or about content."""
    good = decode(encode_version(_of_kind(version, "file", 0)), 1 << 20)
    changed: dict[str, tuple[int, Any]] = {
        "root": (1, ()), "size": (3, 77), "target": (6, b"x"), "vector": (7, ((version.dot.feed, 1 << 40),)),
        "seq": (7, ((version.dot.feed, True),)),
    }  # fmt: skip
    match what:
        case "optional":
            return encode([200, b"later"])
        case "inline":
            return encode_inline(InlineChunk(1, b"inline %d" % version.mtime_ns))  # type: ignore[arg-type]
        case "twice":
            return encode(good)
    place, value = changed[what]
    return encode((*good[:place], value, *good[place + 1 :]))


@dataclass(frozen=True, repr=False)
class Folder:
    """A founder and three members that have written nothing yet."""

    founder: Device
    secrets: FolderSecrets
    entries: list[Entry]
    """The founder's, which admit the others."""
    identities: list[SigningKey]
    heads: tuple[RecordHash, ...]

    def members(self) -> list[Member]:
        """With their first entries."""
        return [self._member(number) for number in range(MEMBERS)]

    def _member(self, number: int) -> Member:
        copies = [
            (conflict_name(b"a", 0, short_device_id(device_id(IdentityKey(each.public)))),) for each in self.identities
        ]
        member = Member(self.secrets, SigningKey(bytes([number + 1]) * 32), [*PATHS, *copies])
        member.write(self.heads, encode_bind(self.identities[number], self.secrets.folder, member.feed, None))
        return member


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    home: FilePath = tmp_path_factory.mktemp("founder")
    founder = Device(home / "founder", 1)
    identity = founder.found()
    catalog = Catalog(founder.catalog)
    keys = founder.keystore.load_folder(catalog.folder)
    context = bare_context(catalog, keys, founder.keys, founder.randomness, founder.clock)
    catalog.feeds.load_membership(context.membership)
    author = Member(keys.secrets, keys.feed)
    author.entries = [parse(data) for _, _, data in catalog.feeds.entries_after(author.feed, 0, 100)]
    devices = [Device(home / f"member{number}", number + 2) for number in range(MEMBERS)]
    for device in devices:
        newcomer = sign_newcomer(device.keys.identity, identity, credentials_of(device.keys), Role.WRITER, ())
        record = encode_add(context.membership.heads, newcomer)
        author.write(context.membership.heads, record)
        context.membership.apply_add(record, founder.keys.identity_key)
    heads = context.membership.heads
    catalog.close()
    return Folder(founder, keys.secrets, author.entries, [device.keys.identity for device in devices], heads)


def reader(folder: Folder) -> Context:
    context = a_reader(folder.secrets, folder.founder.keys)

    def left_alone(path: Path, wanted: Wanted | None, placed: Placed | None) -> bool:
        return is_left_alone(
            wanted=None if wanted is None else wanted.kind, placed=None if placed is None else placed.kind,
            verdict=Verdict(path[-1] == b"ignored", False, False, None), folder=FolderType.ARCHIVE,
        )  # fmt: skip

    context.catalog.versions.left_alone = left_alone
    return context


@contextmanager
def long_ways() -> Iterator[None]:
    """Every short way is closed: no record is a usual one, no path is new to the catalog, no entry names its paths once."""
    add = Frontiers.add
    with (
        patch.object(records, "_usual", lambda data, values, dot: None),
        patch.object(of_catalog, "_KNOWN", "SELECT column1, column2 FROM {asked}"),
        patch.object(Frontiers, "add", lambda self, added: add(self, [*added, *added[:1]])),
    ):
        yield


def tables(context: Context) -> dict[str, list[tuple[Any, ...]]]:
    database = context.catalog._db
    names = [name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: sorted(database.query(f"SELECT * FROM {name}"), key=repr) for name in names if name != "heard"}


def take(context: Context, entries: list[Entry]) -> tuple[int, str | None]:
    result = admit(context, entries)
    return result.entries, result.waiting


def place(context: Context, where: int, deleted: bool) -> None:
    """The disk comes to hold what is wanted at some path, or its deletion, or what nobody speaks of any more."""
    catalog, path = context.catalog, PATHS[where % len(PATHS)]
    wanted = catalog.versions.wanted(path)
    dot, vector = (wanted.dot, wanted.vector) if wanted is not None else (Dot(FeedId(bytes(32)), 1, 0), {})
    kind = Kind.DELETED if deleted else Kind.FILE if wanted is None else wanted.kind
    with catalog.transaction():
        catalog.placed.put(
            Placed(
                path=path,
                dot=dot,
                hash=record_hash(path[-1]),
                kind=kind,
                vector=vector,
                fingerprint=NOTHING,
                content=Content(chunks=bytes(35) + b"\1") if kind is Kind.FILE else Content(),
            )
        )
        catalog.versions.check_need(path)


def run(folder: Folder, story: list[Any]) -> tuple[Context, Context]:
    members = folder.members()
    short, long = reader(folder), reader(folder)
    taken = [0] * MEMBERS

    def both(function: Any, *arguments: Any) -> None:
        found = function(short, *arguments)
        with long_ways():
            assert function(long, *arguments) == found

    both(take, folder.entries)
    for what, number, detail in [*story, *(("read", number, 100) for number in range(MEMBERS))]:
        match what:
            case "write":
                writer = members[number]
                writer.write(folder.heads, *(writer.record(index, *each) for index, each in enumerate(detail)))
            case "hear":
                members[number].hear(members[detail])
            case "place":
                both(place, number, detail)
            case "read":
                entries = members[number].entries[taken[number] : taken[number] + detail]
                taken[number] += len(entries)
                both(take, entries)
        assert tables(short) == tables(long)
    assert short.trouble == long.trouble
    return short, long


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=steps)
@example(story=[("write", 0, [(kind, place, 1, False, False) for place, kind in enumerate(KINDS)]), ("read", 0, 9)])
@example(
    story=[
        ("write", 0, [("file", 0, 1, False, False)]), ("write", 1, [("file", 0, 2, False, False)]),
        ("read", 0, 9), ("read", 1, 9), ("hear", 2, 0), ("hear", 2, 1), ("write", 2, [("file", 0, 0, True, False)]),
    ]
)  # fmt: skip
@example(
    story=[("write", 0, [(odd, 1, 1, False, False) for odd in ODD] + [("twice", 1, 0, False, False)]), ("read", 0, 9)]
)
@example(
    story=[
        ("place", 0, False), ("place", 1, False), ("place", 2, True),
        ("write", 0, [("deleted", 0, 0, False, False), ("file", 1, 0, False, False), ("deleted", 2, 0, False, False)]),
        ("read", 0, 9),
    ]
)  # fmt: skip
def test_the_short_way_in_leaves_what_the_long_way_leaves(folder: Folder, story: list[Any]) -> None:
    short, long = run(folder, story)
    short.catalog.close()
    long.catalog.close()


def test_versions_of_one_path_that_come_together_leave_the_last() -> None:
    """As parts of snapshots restate them: the first is gone before it was written."""
    catalog, feed = Catalog(None), FeedId(bytes([7]) * 32)
    made = [
        Version(path=(b"a",), dot=Dot(feed, seq, 0), kind=Kind.DIRECTORY, vector={feed: seq}, mode=0o755)
        for seq in (1, 2)
    ]
    for order in (made, made[::-1]):
        with catalog.transaction():
            catalog.versions.refresh(catalog.versions.apply([(version, encode_version(version)) for version in order]))
        assert catalog._db.query("SELECT seq FROM version") == [(2,)]
        with catalog.transaction():
            catalog.versions.drop([((b"a",), made[1].dot)])
    catalog.close()


def test_a_tree_of_new_files_takes_the_short_way(folder: Folder) -> None:
    """Or else the law above would hold of nothing."""
    writer, context = folder.members()[0], reader(folder)
    take(context, folder.entries)
    kinds = ("file", "directory", "empty", "file", "file", "file")
    writer.write(folder.heads, *(writer.record(at, kind, at, 1, False, False) for at, kind in enumerate(kinds)))
    with (
        patch.object(records, "_read_version", side_effect=AssertionError("not a usual record")),
        patch.object(Frontier, "add", side_effect=AssertionError("a path with a frontier")),
        patch.object(of_catalog, "_wanted_of", side_effect=AssertionError("a path that is known")),
    ):
        assert take(context, writer.entries) == (2, None)
    wanted = context.catalog.versions.wanted_all(PATHS)
    assert len(wanted) == len(PATHS) and sum(each.size for each in wanted.values()) == 8
    context.catalog.close()
