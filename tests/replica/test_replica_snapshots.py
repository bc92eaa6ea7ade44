"""Snapshots: what who reads from one knows, and what a lying one cannot do."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2psync.errors import IntegrityError
from p2psync.ids import FeedId
from p2psync.index.body import FeedHead
from p2psync.index.membership import Role, encode_bind
from p2psync.index.records import encode_version
from p2psync.index.snapshot import Item, encode_part
from p2psync.index.versions import Dot, Kind, Vector, Version
from p2psync.replica.admission import admit
from p2psync.replica.compaction import write_snapshot
from p2psync.replica.context import Context
from p2psync.replica.publisher import LocalChange, commit
from p2psync.sealed.entry import Entry, parse
from tests.replica.test_replica_admission import Writer, context, member
from tests.support.reading import a_reader, knowledge, read

__all__ = ["context"]


class Author(Writer):
    """A member's feed, with all it has said."""

    said: list[Item]

    @classmethod
    def of(cls, writer: Writer) -> Author:
        writer.__class__ = cls
        assert isinstance(writer, cls)
        bind = encode_bind(writer.device.keys.identity, writer._context.folder, writer.feed, None)
        writer.said = [Item(1, 0, 0, bind)]
        return writer

    def say(self, *records: bytes, heads: tuple[FeedHead, ...] = ()) -> Entry:
        entry = self.write(*records, heads=heads)
        self.said += [Item(entry.seq, index, 0, data) for index, data in enumerate(records)]
        return entry

    def make(self, name: bytes, index: int = 0, mode: int = 0o755) -> bytes:
        """A directory's version, as this entry's record `index`."""
        dot = Dot(self.feed, self.seq + 1, index)
        vector: Vector = {self.feed: self.seq + 1}
        return encode_version(Version(path=(name,), dot=dot, kind=Kind.DIRECTORY, vector=vector, mode=mode))

    def sum_up(
        self, items: Sequence[Item], number: int = 0, last: bool = True, heads: tuple[FeedHead, ...] = (),
        seen: Mapping[FeedId, int] | None = None,
    ) -> Entry:  # fmt: skip
        record = encode_part(number, last, items, seen)
        return self.write(record, heads=heads, membership=self._context.membership.heads)


@pytest.fixture
def author(context: Context, tmp_path: Path) -> Author:
    return Author.of(member(context, tmp_path, Role.WRITER))


def late(context: Context) -> Context:
    """Another device, which has read the founder's feed alone."""
    reader = a_reader(context.secrets, context.device)
    founder = [data for _, _, data in context.catalog.feeds.entries_after(context.own_feed, 0, 100)]
    return read(reader, [parse(data) for data in founder], from_snapshots=False)


def mode_of(context: Context, name: bytes) -> int | None:
    wanted = context.catalog.versions.wanted((name,))
    return None if wanted is None else context.catalog.versions.wanted_version(wanted).mode


def test_who_reads_from_a_snapshot_knows_what_it_replaced(context: Context, author: Author) -> None:
    entries = [author.say(author.make(b"a")), author.say(author.make(b"b")), author.say(author.make(b"a", mode=0o700))]
    snapshot = author.sum_up([author.said[0], author.said[3], author.said[2]])
    after = author.say(author.make(b"c"))
    assert admit(context, [*entries, snapshot, after]).entries == 5
    reader = late(context)
    assert admit(reader, [snapshot, after]).entries == 2
    assert (mode_of(reader, b"a"), mode_of(reader, b"b"), mode_of(reader, b"c")) == (0o700, 0o755, 0o755)
    assert reader.catalog.versions.frontier((b"a",)) == context.catalog.versions.frontier((b"a",))
    assert not context.trouble and not reader.trouble


def test_nothing_but_the_first_part_of_a_snapshot_may_stand_for_what_is_missing(
    context: Context, author: Author
) -> None:
    author.say(author.make(b"a"))
    parts = [author.sum_up([author.said[0]], 0, last=False), author.sum_up([author.said[1]], 1)]
    other = author.say(author.make(b"b"))
    reader = late(context)
    for entry in (parts[1], other):
        with pytest.raises(Exception, match="was expected"):
            admit(reader, [entry])
    assert admit(reader, [*parts, other]).entries == 3
    assert mode_of(reader, b"a") is not None and reader.catalog.snapshots.newest(author.feed) == (3, 4)


def test_a_record_restated_otherwise_than_it_was_written_is_refused_and_said(context: Context, author: Author) -> None:
    written = author.say(author.make(b"a"))
    forged = encode_version(
        Version(path=(b"a",), dot=Dot(author.feed, 2, 0), kind=Kind.DIRECTORY, vector={author.feed: 2}, mode=0o777)
    )
    snapshot = author.sum_up([author.said[0], replace(author.said[1], data=forged)])
    assert admit(context, [written, snapshot]).entries == 2
    assert mode_of(context, b"a") == 0o755
    assert any("restates it otherwise" in sentence for sentence in context.trouble.values())


def test_a_record_never_written_is_refused_by_who_has_read_everything(context: Context, author: Author) -> None:
    written = author.say(author.make(b"a"))
    invented = encode_version(
        Version(path=(b"x",), dot=Dot(author.feed, 2, 1), kind=Kind.DIRECTORY, vector={author.feed: 2}, mode=0o755)
    )
    snapshot = author.sum_up([*author.said, Item(2, 1, 0, invented)])
    admit(context, [written, snapshot])
    assert mode_of(context, b"x") is None
    assert any("restates it otherwise" in sentence for sentence in context.trouble.values())


def test_a_version_left_out_that_nothing_replaced_stays_and_that_is_said(context: Context, author: Author) -> None:
    written = author.say(author.make(b"a"))
    admit(context, [written, author.sum_up([author.said[0]])])
    assert mode_of(context, b"a") == 0o755
    assert any("leaves out 1 of its author's versions" in sentence for sentence in context.trouble.values())


def test_nobody_restates_what_another_wrote(context: Context, author: Author, tmp_path: Path) -> None:
    other = Author.of(member(context, tmp_path, Role.WRITER, 3))
    theirs = other.say(other.make(b"a"))
    admit(context, [theirs])
    author.say(author.make(b"b"))
    head = FeedHead(other.feed, theirs.seq, theirs.hash)
    stolen = author.sum_up([author.said[0], replace(other.said[1], seq=2, index=7)], heads=(head,))
    reader = late(context)
    admit(reader, other.entries)
    assert admit(reader, [stolen]).entries == 1
    [held] = reader.catalog.versions.frontier((b"a",))
    assert held.dot.feed == other.feed and any("refused" in sentence for sentence in reader.trouble.values())


def test_two_versions_of_a_path_at_one_place_are_refused_not_kept(context: Context, author: Author) -> None:
    author.say(author.make(b"a"))
    twin = replace(author.said[1], index=1)
    reader = late(context)
    assert admit(reader, [author.sum_up([*author.said, twin])]).entries == 1
    assert len(reader.catalog.versions.frontier((b"a",))) == 1
    assert any("restates it otherwise" in sentence for sentence in reader.trouble.values())


def test_a_vector_raised_in_a_snapshot_covers_nothing_here(context: Context, author: Author, tmp_path: Path) -> None:
    other = Author.of(member(context, tmp_path, Role.WRITER, 3))
    admit(context, [other.say(other.make(b"a", mode=0o711))])
    mine = author.say(author.make(b"a"))
    admit(context, [mine])
    before = context.catalog.versions.frontier((b"a",))
    raised = encode_version(
        Version(
            path=(b"a",), dot=Dot(author.feed, 2, 0), kind=Kind.DIRECTORY, mode=0o755,
            vector={author.feed: 2, other.feed: 2},
        )
    )  # fmt: skip
    head = FeedHead(other.feed, other.seq, other.last)
    admit(context, [author.sum_up([author.said[0], replace(author.said[1], data=raised)], heads=(head,))])
    assert context.catalog.versions.frontier((b"a",)) == before


def test_versions_written_over_what_a_fork_made_void_are_taken_from_a_snapshot(
    context: Context, author: Author, tmp_path: Path
) -> None:
    """Its author's heads went back behind what its vectors name; it says how far it had ever seen."""
    void = b"f" * 32
    over = encode_version(
        Version(
            path=(b"a",), dot=Dot(author.feed, 2, 0), kind=Kind.DIRECTORY, mode=0o755,
            vector={author.feed: 2, FeedId(void): 7},
        )
    )  # fmt: skip
    author.say(over)
    reader = late(context)
    admit(reader, [author.sum_up(author.said, seen={FeedId(void): 7})])
    assert mode_of(reader, b"a") == 0o755 and not reader.trouble


def test_a_snapshot_that_claims_to_have_seen_what_this_device_never_wrote_waits(
    context: Context, author: Author
) -> None:
    author.say(author.make(b"a"))
    own = context.own_feed
    ahead = context.catalog.feeds.state(own).seq + 1
    result = admit(context, [author.sum_up(author.said, seen={own: ahead})])
    assert not result.entries and "never wrote" in (result.waiting or "")


def test_parts_that_do_not_follow_each_other_replace_nothing(context: Context, author: Author) -> None:
    written = author.say(author.make(b"a"))
    parts = [author.sum_up([author.said[0]], 0, last=False), author.sum_up([author.said[1]], 2)]
    assert admit(context, [written, *parts]).entries == 3
    assert context.catalog.snapshots.newest(author.feed) is None and context.trouble
    assert mode_of(context, b"a") == 0o755


@pytest.mark.parametrize("wrong", ["no binding", "later", "nested", "first"])
def test_a_malformed_snapshot_is_refused_while_the_chain_goes_on(context: Context, author: Author, wrong: str) -> None:
    written = author.say(author.make(b"a"))
    items = {
        "no binding": [author.said[1]],
        "later": [author.said[0], Item(9, 0, 0, author.said[1].data)],
        "nested": [author.said[0], Item(2, 0, 0, encode_part(0, True, [author.said[0]]))],
        "first": author.said,
    }[wrong]
    number = author.seq if wrong == "first" else 0  # it would begin before the feed does
    snapshot = author.sum_up(items, number)
    after = author.say(author.make(b"b"))
    assert admit(context, [written, snapshot, after]).entries == 3
    assert mode_of(context, b"b") is not None and context.trouble
    assert context.catalog.snapshots.newest(author.feed) is None


def test_who_would_pass_over_entries_takes_nothing_from_a_snapshot_that_contradicts_what_he_read(
    context: Context, author: Author
) -> None:
    written = [author.say(author.make(name)) for name in (b"a", b"b", b"c")]
    lie = encode_version(
        Version(path=(b"a",), dot=Dot(author.feed, 2, 0), kind=Kind.DIRECTORY, vector={author.feed: 2}, mode=0o700)
    )
    snapshot = author.sum_up([author.said[0], replace(author.said[1], data=lie), *author.said[2:]])
    admit(context, written[:1])
    with pytest.raises(IntegrityError, match="otherwise than it was written"):
        admit(context, [snapshot])
    assert (mode_of(context, b"a"), mode_of(context, b"b")) == (0o755, None)
    assert admit(context, [*written[1:], snapshot]).entries == 3


def test_a_fork_is_proven_behind_a_snapshot_as_before_it(context: Context, author: Author) -> None:
    author.say(author.make(b"a"))
    copy = Author.of(Writer(author._context, author.device))
    copy.key, copy.feed, copy.seq, copy.last, copy.said = author.key, author.feed, author.seq, author.last, author.said
    snapshot = author.sum_up(author.said)
    other = copy.say(copy.make(b"other"))
    reader = late(context)
    admit(reader, [snapshot])
    assert admit(reader, [other]).forks[0].seq == other.seq


def test_a_real_feed_summed_up_again_and_again_says_the_same(context: Context) -> None:
    """Snapshots of snapshots, cut into parts: the founder's own feed, with more records than one entry holds."""
    dice = random.Random(5)
    for turn in range(3):
        _write_directories(context, [f"{turn} {dice.random()}".encode() + b"-" * 200 for _ in range(1200)])
        assert write_snapshot(context)
    entries = _entries(context, context.own_feed)
    whole = read(a_reader(context.secrets, context.device), entries, from_snapshots=False)
    short = read(a_reader(context.secrets, context.device), entries, from_snapshots=True)
    assert knowledge(short) == knowledge(whole)
    first, last = short.catalog.snapshots.newest(context.own_feed) or (0, 0)
    assert first < last and short.catalog.snapshots.unbroken_from(context.own_feed) == first
    assert len(knowledge(short)["version"]) == 3600


def _write_directories(context: Context, names: Sequence[bytes]) -> None:
    commit(context, [(LocalChange(path=(name,), kind=Kind.DIRECTORY, base=None, mode=0o755),) for name in names])


def _entries(context: Context, feed: FeedId) -> list[Entry]:
    return [parse(data) for _, _, data in context.catalog.feeds.entries_after(feed, 0, 10_000)]


def test_readers_may_sum_up_and_nothing_else(context: Context, tmp_path: Path) -> None:
    reader = Author.of(member(context, tmp_path, Role.READER, 4))
    reader.say(reader.make(b"not allowed"))
    snapshot = reader.sum_up(reader.said)
    other = late(context)
    assert admit(other, [snapshot]).entries == 1
    assert mode_of(other, b"not allowed") is None
    assert other.catalog.snapshots.newest(reader.feed) == (3, 3)
