"""Admission of entries: what holds a feed, what is flagged and skipped, what makes it wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.catalog.catalog import Catalog
from p2psync.catalog.keystore import credentials_of
from p2psync.crypto.signing import SigningKey
from p2psync.encoding import encode
from p2psync.errors import IntegrityError, PeerError, StorageError
from p2psync.ids import ZERO_HASH, EntryHash, FeedId, RecordHash
from p2psync.index.body import Body, FeedHead, encode_body
from p2psync.index.membership import Newcomer, Role, encode_add, encode_bind, sign_newcomer
from p2psync.index.records import encode_version
from p2psync.index.versions import Content, Dot, Kind, Vector, Version
from p2psync.replica.admission import admit
from p2psync.replica.context import Context
from p2psync.replica.founding import bare_context
from p2psync.replica.publisher import EntryWriter
from p2psync.sealed.entry import Entry
from p2psync.vault.entry import seal_entry
from tests.support.devices import Device


class Writer:
    """A member's feed written by hand, so that it can say what no honest device says."""

    def __init__(self, context: Context, device: Device) -> None:
        self._context, self.device = context, device
        self.key = SigningKey(device.randomness.bytes(32))
        self.feed = FeedId(self.key.public)
        self.seq, self.last = 0, ZERO_HASH
        self.entries: list[Entry] = []

    def write(
        self, *records: bytes, heads: tuple[FeedHead, ...] = (), membership: tuple[RecordHash, ...] = ()
    ) -> Entry:
        body = Body(membership=membership, time_ms=0, heads=heads, records=records)
        entry = seal_entry(
            folder=self._context.folder, secret=self._context.secrets.writing, feed_key=self.key, seq=self.seq + 1,
            previous=self.last, body=encode_body(body), salt=self.device.randomness.bytes(32),
        )  # fmt: skip
        self.seq, self.last = entry.seq, entry.hash
        self.entries.append(entry)
        return entry

    def bind(self) -> Entry:
        return self.write(encode_bind(self.device.keys.identity, self._context.folder, self.feed, None))

    def directory(self, name: bytes, vector: Vector | None = None) -> bytes:
        dot = Dot(self.feed, self.seq + 1, 0)
        chosen = vector if vector is not None else {self.feed: self.seq + 1}
        version = Version(path=(name,), dot=dot, kind=Kind.DIRECTORY, vector=chosen, mode=0o755, content=Content())
        return encode_version(version)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """The founder's side of a folder."""
    founder = Device(tmp_path / "founder", 1)
    founder.found()
    catalog = Catalog(founder.catalog)
    keys = founder.keystore.load_folder(catalog.folder)
    context = bare_context(catalog, keys, founder.keys, founder.randomness, founder.clock)
    catalog.feeds.load_membership(context.membership)
    yield context
    catalog.close()


def member(context: Context, tmp_path: Path, role: Role, seed: int = 2) -> Writer:
    """Another device, admitted with a role, and its feed with the binding in it."""
    writer = stranger(context, tmp_path, seed)
    device = writer.device
    newcomer = sign_newcomer(device.keys.identity, context.folder, credentials_of(device.keys), role, ())
    from_founder(context, newcomer)
    assert admit(context, [writer.bind()]).entries == 1
    return writer


def stranger(context: Context, tmp_path: Path, seed: int = 2) -> Writer:
    return Writer(context, Device(tmp_path / f"device{seed}", seed))


def from_founder(context: Context, newcomer: Newcomer) -> None:
    from_records = EntryWriter(context)
    record = _add(context, newcomer)
    with context.catalog.transaction():
        from_records.add_record(record)
        from_records.flush(everything=True)
        context.membership.apply_add(record, context.device.identity_key)
        context.catalog.feeds.add_membership(context.device.identity_key, record)


def _add(context: Context, newcomer: Newcomer) -> bytes:
    return encode_add(context.membership.heads, newcomer)


def seq_of(context: Context, writer: Writer) -> int:
    return context.catalog.feeds.state(writer.feed).seq


def test_a_members_version_becomes_wanted(context: Context, tmp_path: Path) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    admit(context, [writer.write(writer.directory(b"d"))])
    wanted = context.catalog.versions.wanted((b"d",))
    assert wanted is not None and wanted.kind is Kind.DIRECTORY


@pytest.mark.parametrize("number", [7, 8, 17, 18, 20, 22, 100, 127])
def test_a_record_type_not_known_here_below_128_holds_its_feed_and_no_other(
    context: Context, tmp_path: Path, number: int
) -> None:
    newer, other = member(context, tmp_path, Role.ADMIN), member(context, tmp_path, Role.WRITER, 3)
    result = admit(context, [newer.write(encode([number, b"?"]), newer.directory(b"hidden"))])
    assert result.entries == 0 and result.waiting and "update" in result.waiting
    assert seq_of(context, newer) == 1
    assert context.catalog.feeds.state(newer.feed).held
    assert context.catalog.versions.wanted((b"hidden",)) is None
    assert admit(context, [other.write(other.directory(b"seen"))]).entries == 1


@pytest.mark.parametrize("number", [128, 200, 255])
def test_a_record_type_from_128_on_is_ignored_kept_and_passed_on(context: Context, tmp_path: Path, number: int) -> None:
    writer = member(context, tmp_path, Role.READER)
    entry = writer.write(encode([number, b"later"]))
    assert admit(context, [entry]).entries == 1
    assert context.catalog.feeds.entry(writer.feed, 2) == entry.data
    assert not context.trouble


def test_a_readers_write_is_flagged_and_skipped_while_its_chain_goes_on(context: Context, tmp_path: Path) -> None:
    reader = member(context, tmp_path, Role.READER)
    admit(context, [reader.write(reader.directory(b"forbidden"))])
    assert context.catalog.versions.wanted((b"forbidden",)) is None
    assert any("reader may not write" in sentence for sentence in context.trouble.values())
    assert seq_of(context, reader) == 2


def test_a_writer_admits_nobody(context: Context, tmp_path: Path) -> None:
    writer, friend = member(context, tmp_path, Role.WRITER), Device(tmp_path / "friend", 9)
    newcomer = sign_newcomer(friend.keys.identity, context.folder, credentials_of(friend.keys), Role.ADMIN, ())
    admit(context, [writer.write(_add(context, newcomer))])
    assert context.membership.role_of(friend.keys.identity_key) is None


def test_a_stranger_with_the_keys_but_no_admission_waits_for_ever(context: Context, tmp_path: Path) -> None:
    unknown = stranger(context, tmp_path)
    result = admit(context, [unknown.bind()])
    assert result.entries == 0 and result.waiting


def test_a_feed_is_taken_up_again_once_its_member_is_admitted(context: Context, tmp_path: Path) -> None:
    writer = stranger(context, tmp_path)
    bind = writer.bind()
    assert admit(context, [bind]).entries == 0
    device = writer.device
    newcomer = sign_newcomer(device.keys.identity, context.folder, credentials_of(device.keys), Role.WRITER, ())
    from_founder(context, newcomer)
    assert admit(context, [bind]).entries == 1
    assert context.catalog.feeds.state(writer.feed).held is None


def test_an_entry_written_under_unknown_membership_waits(context: Context, tmp_path: Path) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    result = admit(context, [writer.write(writer.directory(b"d"), membership=(RecordHash(bytes(32)),))])
    assert result.entries == 0 and result.waiting


def test_a_vector_that_names_what_its_author_had_not_seen_is_refused(context: Context, tmp_path: Path) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    inflated = {writer.feed: writer.seq + 1, context.own_feed: 999}
    admit(context, [writer.write(writer.directory(b"d", vector=inflated))])
    assert context.catalog.versions.wanted((b"d",)) is None
    assert any("had not seen" in sentence for sentence in context.trouble.values())


def test_one_path_twice_in_one_entry_counts_once(context: Context, tmp_path: Path) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    admit(context, [writer.write(writer.directory(b"d"), writer.directory(b"d"))])
    assert len(context.catalog.versions.frontier((b"d",))) == 1
    assert any("twice" in sentence for sentence in context.trouble.values())


def test_a_gap_is_refused_and_a_fork_written_down_and_both_leave_the_feed_where_it_was(
    context: Context, tmp_path: Path
) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    first = writer.write(writer.directory(b"one"))
    second = writer.write(writer.directory(b"two"))
    with pytest.raises(IntegrityError):
        admit(context, [second])
    assert admit(context, [first, second]).entries == 2
    writer.seq, writer.last = first.seq, first.hash
    branch = writer.write(writer.directory(b"other two"))
    third = writer.write()
    assert [proof.seq for proof in admit(context, [branch]).forks] == [branch.seq]
    assert admit(context, [third]).waiting and context.catalog.feeds.state(writer.feed).hash == second.hash


def test_an_entry_sealed_for_another_place_does_not_open(context: Context, tmp_path: Path) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    moved = seal_entry(
        folder=context.folder, secret=context.secrets.writing, feed_key=writer.key, seq=2, previous=EntryHash(b"x" * 32),
        body=encode_body(Body(membership=(), time_ms=0, heads=(), records=())), salt=bytes(32),
    )  # fmt: skip
    with pytest.raises(IntegrityError):
        admit(context, [moved])


def test_a_feed_that_does_not_begin_with_its_binding_is_refused(context: Context, tmp_path: Path) -> None:
    writer = stranger(context, tmp_path)
    with pytest.raises(PeerError, match="binding"):
        admit(context, [writer.write(writer.directory(b"d"))])


def test_a_binding_signed_by_another_identity_is_refused(context: Context, tmp_path: Path) -> None:
    writer, other = stranger(context, tmp_path), Device(tmp_path / "other", 7)
    forged = encode_bind(other.keys.identity, context.folder, FeedId(bytes(32)), None)
    with pytest.raises(IntegrityError):
        admit(context, [writer.write(forged)])


def test_who_claims_to_have_seen_what_this_device_never_wrote_cannot_cover_its_next_edit(
    context: Context, tmp_path: Path
) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    future = FeedHead(context.own_feed, 2**53 - 1, EntryHash(bytes(32)))
    vector = {context.own_feed: 2**53 - 1, writer.feed: writer.seq + 1}
    result = admit(context, [writer.write(writer.directory(b"d", dict(sorted(vector.items()))), heads=(future,))])
    assert result.entries == 0 and result.waiting and "never wrote" in result.waiting
    assert context.catalog.versions.wanted((b"d",)) is None


def test_what_a_version_covered_stays_covered_after_that_one_is_gone(context: Context, tmp_path: Path) -> None:
    """A covers B, B covers C, A says nothing of C, and C comes last: the catalog remembers."""
    one, two, three = (member(context, tmp_path, Role.WRITER, seed) for seed in (2, 3, 4))
    c = three.write(three.directory(b"d"))
    saw_c, saw_b = (FeedHead(w.feed, 2, EntryHash(bytes(32))) for w in (three, two))
    b = two.write(two.directory(b"d", dict(sorted({two.feed: 2, three.feed: 2}.items()))), heads=(saw_c,))
    a = one.write(one.directory(b"d", dict(sorted({one.feed: 2, two.feed: 2}.items()))), heads=(saw_b,))
    for entry in (b, a, c):
        assert admit(context, [entry]).entries == 1
    assert [version.dot.feed for version in context.catalog.versions.frontier((b"d",))] == [one.feed]


@pytest.mark.parametrize("step", ["note", "apply", "refresh"])
def test_an_entry_whose_versions_could_not_be_written_is_not_kept_either(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = member(context, tmp_path, Role.WRITER)
    entries = [writer.write(writer.directory(name)) for name in (b"d", b"e")]
    owner = context.catalog.history if step == "note" else context.catalog.versions
    calls: list[object] = []
    real = getattr(owner, step)

    def full(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == (1 if step == "refresh" else 2):
            real(*arguments)
            raise StorageError("the disk is full")
        return real(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(owner, step, full)
        with pytest.raises(StorageError):
            admit(context, entries)
    assert calls and seq_of(context, writer) == 1
    assert context.catalog.versions.wanted((b"d",)) is None and not context.catalog.versions.frontier((b"e",))
    assert admit(context, entries).entries == 2
    assert {need.path for need in context.catalog.needs.page(True, 0)} >= {(b"d",), (b"e",)}
