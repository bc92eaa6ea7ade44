"""Records: what a version may say, and what is refused before anything of it counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2psync.encoding import decode, encode
from p2psync.errors import PeerError
from p2psync.ids import EntryHash, EpochId, FeedId, PackName, Plaintext, RecordHash
from p2psync.index.body import Body, FeedHead, decode_body, encode_body
from p2psync.index.paths import Path, fold_key, is_internal, join, refuse_reason, show, split
from p2psync.index.records import (
    InlineChunk,
    PackLocations,
    _read_version,
    _usual,
    decode_inline,
    decode_pack,
    decode_version,
    encode_inline,
    encode_pack,
    encode_version,
    iterate_chunks,
    peek_type,
    recall_version,
    record_hash,
    record_type,
)
from p2psync.index.versions import Content, Dot, Kind, Origin, Vector, Version
from p2psync.index.xattrs import is_synced, sorted_xattrs
from p2psync.limits import CHUNK_MAX, ENTRY_MAX, INLINE_MAX, MTIME_MAX, PACK_MAX, SEQ_MAX, VECTOR_MAX, XATTRS_MAX

AUTHOR = FeedId(b"\x07" * 32)
DOT = Dot(AUTHOR, 9, 2)
SMALL = (65536, 262144, 1048576)

HASHES = st.binary(min_size=32, max_size=32)
NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: refuse_reason((name,)) is None)
PATHS = st.lists(NAMES, min_size=1, max_size=6).map(tuple)
VECTORS: st.SearchStrategy[Vector] = st.dictionaries(HASHES.map(FeedId), st.integers(1, SEQ_MAX), max_size=8).map(
    lambda others: {**others, AUTHOR: DOT.seq}
)
ORIGINS = st.none() | st.builds(
    Origin, PATHS, st.builds(Dot, HASHES.map(FeedId), st.integers(1, SEQ_MAX), st.integers(0, 1000))
)
REPLACED = st.none() | HASHES.map(RecordHash)
XATTRS = st.dictionaries(
    st.binary(min_size=1, max_size=250).map(lambda name: b"user." + name).filter(is_synced),
    st.binary(max_size=200), max_size=5,
).map(lambda found: sorted_xattrs(found.items()))  # fmt: skip
LISTS = st.lists(st.tuples(HASHES, st.integers(1, CHUNK_MAX)), max_size=5)


@st.composite
def versions(draw: st.DrawFn) -> Version:
    kind = draw(st.sampled_from(Kind))
    common: dict[str, Any] = {
        "path": draw(PATHS), "dot": DOT, "kind": kind, "vector": draw(VECTORS), "replaces": draw(REPLACED),
        "origin": draw(ORIGINS),
    }  # fmt: skip
    if kind is Kind.DELETED:
        return Version(**common)
    common |= {"mtime_ns": draw(st.integers(-MTIME_MAX, MTIME_MAX)), "mode": draw(st.integers(0, 0o777))}
    if kind is Kind.SYMLINK:
        return Version(**common, target=draw(st.binary(min_size=1, max_size=300).filter(lambda t: b"\0" not in t)))
    common["xattrs"] = draw(XATTRS)
    if kind is Kind.DIRECTORY:
        return Version(**common)
    rows = draw(LISTS)
    content = Content(
        generation=draw(st.integers(0, 65535)), parameters=SMALL,
        chunks=b"".join(chunk + size.to_bytes(4, "big") for chunk, size in rows),
    )  # fmt: skip
    return Version(**common, size=sum(size for _, size in rows), content=content)


@given(versions())
def test_a_version_reads_back_as_it_was_written(version: Version) -> None:
    data = encode_version(version)
    read = decode_version(data, DOT)
    assert encode_version(read) == data and read.hash == record_hash(data)
    assert recall_version(data, DOT) == read
    assert read.xattrs == version.xattrs
    assert read.vector == version.vector and read.content == version.content and read.origin == version.origin
    assert record_type(data) == peek_type(data) == (4 if version.kind is Kind.DELETED else 3)


FIELDS = (
    "type", "path", "kind", "size", "mtime", "mode", "target", "vector", "generation", "parameters", "depth", "chunks",
    "replaces", "origin",
)  # fmt: skip


def file_record(**changes: object) -> bytes:
    row = bytes(32) + (100).to_bytes(4, "big")
    values: dict[str, object] = dict(
        zip(FIELDS, (3, [b"a"], 0, 100, 5, 0o644, None, [[AUTHOR, 9]], 0, SMALL, 0, row, None, None), strict=True)
    )
    return encode([*{**values, **changes}.values()])


def refuse(**changes: object) -> None:
    assert decode_version(file_record(), DOT).size == 100
    with pytest.raises(PeerError):
        decode_version(file_record(**changes), DOT)


@pytest.mark.parametrize(
    "path",
    [
        [], [b""], [b"."], [b".."], [b"a", b".."], [b"a", b"", b"b"], [b"/etc"], [b"a/b"], [b"a\0"], [b"\0"],
        [b"n" * 256], [b"d"] * 257, [b"n" * 255] * 70, ["text"], [5], [None], [[b"a"]], b"a", None,
        [b".p2psync"], [b".P2PSync"], [b"a", b".p2psync", b"replica"], [".p2p\u017fync".encode()],
        ["\uff0ep2psync".encode()], [".p2p\u200csync".encode()], [".p2psync\ufeff".encode()],
        [b".p2psync.a.tmp"], [b".syncthing.a.tmp"], [b"~syncthing~a.tmp"], [b".stfolder"], [b".stversions"],
    ],
)  # fmt: skip
def test_a_path_that_could_leave_the_folder_or_meet_our_own_files_is_refused(path: object) -> None:
    """Property 25."""
    refuse(path=path)
    refuse(origin=[path, AUTHOR, 1, 0])
    with pytest.raises(PeerError):
        decode_version(encode([4, path, [[AUTHOR, 9]], None, None]), DOT)


@pytest.mark.parametrize(
    "path",
    [(b"n" * 255,), (b"d",) * 256, (b"\xff\xfe",), (b"...",), (b" ",), (b"a\nb",), (b"C:\\x",), (b".p2psync2",),
     (b".p2pignore",), (b"\xc0\xaf",), ("e\u0301".encode(),)],
)  # fmt: skip
def test_any_other_name_a_disk_takes_is_taken_as_it_is(path: Path) -> None:
    assert decode_version(file_record(path=path), DOT).path == path


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name), max_size=5).map(tuple))
def test_a_joined_path_splits_into_itself(path: Path) -> None:
    assert split(join(path)) == path


@given(st.lists(st.binary(max_size=20), max_size=4).map(tuple))
def test_a_shown_path_is_one_line_of_printable_text(path: Path) -> None:
    """Property 32."""
    assert show(path).isprintable()
    assert show((b"\x1b[31m", "\u202e".encode(), b"\r\n")).isascii()


def test_names_that_differ_in_case_or_composition_only_have_one_fold_key() -> None:
    names = ["\u00c9A", "e\u0301a", "E\u0301A", "\u00e9a"]
    assert len({fold_key(name.encode()) for name in names}) == 1
    assert fold_key(b"\xff") == b"\xff" and fold_key(b"a") != fold_key(b"b")
    assert not is_internal(b"\xff.p2psync")


ODD_VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 3, 9, 99, 100, 0o777, 0o1000, 65536, CHUNK_MAX, CHUNK_MAX + 1, PACK_MAX, PACK_MAX + 1, 1 << 53,
    MTIME_MAX, -MTIME_MAX, b"", b"x", bytes(31), bytes(32), bytes(36), bytes(32) + b"\0\0\0\1", bytes(72), "a", (), (b"a",),
    (b"a", b".."), (b"a", "a"), (b"d",) * 257, ((AUTHOR, 1),), ((AUTHOR, True),), ((AUTHOR, 9),), ((bytes(32), 9),),
    ((AUTHOR, 9, 9),), ((AUTHOR, 9), (b"\xff" * 32, 1)), ((b"\1" * 32, 1), (AUTHOR, 9)), (0, 0, 0), (0, 0, True), (0, -1, 0),
    (0, 0, PACK_MAX + 1), (0, 0), SMALL,
]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD_VALUES), max_size=3), st.sampled_from([1, 9]),
    st.lists(st.sampled_from(ODD_VALUES), max_size=1),
)  # fmt: skip
@example({"size": 0, "chunks": b"", "parameters": (0, 0, 0)}, 9, [])
@example({"vector": ((AUTHOR, True),)}, 1, [])
@example({"vector": ((AUTHOR, 1),)}, 1, [])
def test_a_record_read_at_once_is_what_reading_it_field_by_field_gives(
    changes: dict[str, Any], seq: int, behind: list[Any]
) -> None:
    data = encode((*decode(file_record(**changes), ENTRY_MAX), *behind))
    values, dot = decode(data, ENTRY_MAX), Dot(AUTHOR, seq, 2)
    found = _usual(data, values, dot)
    assert found is None or found == _read_version(data, values, dot)
    usual = not behind and changes.keys() <= {"mtime"} and seq == 9 and type(changes.get("mtime", 5)) is int
    assert not usual or found is not None or abs(changes["mtime"]) > MTIME_MAX


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 99}, {"size": 101}, {"size": -1}, {"size": 1 << 53}, {"size": True}, {"size": 0},
        {"chunks": b""}, {"chunks": bytes(35)}, {"chunks": bytes(37)},
        {"chunks": bytes(36), "size": 0},
        {"chunks": bytes(32) + (CHUNK_MAX + 1).to_bytes(4, "big"), "size": CHUNK_MAX + 1},
        {"chunks": bytes(32) + b"\xff" * 4, "size": 0xFFFFFFFF},
        {"chunks": (bytes(32) + b"\0\0\0\1") * 1025, "size": 1025},
        {"depth": 1}, {"depth": 2}, {"depth": -1},
        {"depth": 1, "chunks": b"", "size": 0},
        {"depth": 1, "chunks": b"", "size": 100},
        {"depth": 1, "chunks": bytes(32) + (72).to_bytes(4, "big"), "size": 1},
        {"depth": 1, "chunks": bytes(32) + (72).to_bytes(4, "big"), "size": 2 * CHUNK_MAX + 1},
        {"depth": 1, "chunks": (bytes(32) + CHUNK_MAX.to_bytes(4, "big")) * 289, "size": 1 << 50},
        {"parameters": [1, 2]}, {"parameters": [1, 2, True]}, {"parameters": [1, 2, -3]}, {"parameters": [1, 2, 1 << 40]},
        {"generation": 65536}, {"kind": 1}, {"kind": 3}, {"kind": 1, "size": 0},
        {"kind": 1, "chunks": b""},
    ],
)  # fmt: skip
def test_contents_that_do_not_add_up_are_refused(changes: dict[str, object]) -> None:
    """Property 28."""
    refuse(**changes)


def test_a_long_chunk_list_may_stand_for_any_file_its_rows_could_make() -> None:
    rows = bytes(32) + (72).to_bytes(4, "big")
    for size in (2, 2 * CHUNK_MAX):
        assert decode_version(file_record(depth=1, chunks=rows, size=size), DOT).content.depth == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": 0o4755}, {"mode": 0o2755}, {"mode": 0o1777}, {"mode": 0o100644}, {"mode": -1},
        {"mtime": MTIME_MAX + 1}, {"mtime": -MTIME_MAX - 1}, {"mtime": (1 << 64) - 1}, {"mtime": None},
        {"target": b"x"}, {"target": b""}, {"kind": 1, "size": 0, "chunks": b"", "target": b""},
        {"kind": 2, "size": 0, "chunks": b""}, {"kind": 2, "size": 0, "chunks": b"", "target": b""},
        {"kind": 2, "size": 0, "chunks": b"", "target": b"a\0b"},
        {"kind": 2, "size": 0, "chunks": b"", "target": b"t" * 4096},
        {"replaces": bytes(31)}, {"origin": [[b"a"], AUTHOR, 1]}, {"origin": [[b"a"], AUTHOR, 0, 0]},
        {"origin": [[b"a"], AUTHOR, 1, 0, 0]},
    ],
)  # fmt: skip
def test_meta_data_no_disk_should_get_is_refused(changes: dict[str, object]) -> None:
    """Properties 27 and 29: set-uid, set-gid and sticky bits, times that 64 bits do not hold."""
    refuse(**changes)


def _most(size: int) -> list[list[bytes]]:
    """One attribute whose set takes this many bytes: 1 for each array, 2 and 6 for the name, 3 for the value's header."""
    return [[b"user.x", bytes(size - 13)]]


@pytest.mark.parametrize(
    "xattrs",
    [
        [], None, b"", [[]], [[b"user.a"]], [[b"user.a", b"", b""]], [[b"user.a", None]], [["user.a", b""]], [b"user.a", b""],
        [[b"security.selinux", b"x"]], [[b"security.capability", b"x"]], [[b"trusted.a", b"x"]],
        [[b"system.posix_acl_access", b"x"]], [[b"USER.a", b"x"]], [[b"user", b"x"]], [[b"user.", b"x"]], [[b"", b"x"]],
        [[b"user.a\0", b"x"]], [[b"user." + b"n" * 251, b"x"]], [[b"user.b", b""], [b"user.a", b""]],
        [[b"user.a", b"1"], [b"user.a", b"2"]], [[b"user.a", b""], [b"trusted.b", b""]], _most(XATTRS_MAX + 1),
        [[b"user.overlay.redirect", b"/etc"]], [[b"user.containers.override_stat", b"0:0:104755"]],
        [[b"user.rsync.%stat", b"104755 0,0 0:0"]], [[b"user.virtfs.mode", b"x"]], [[b"user.fuseoverlayfs.opaque", b"y"]],
        [[b"user.%d" % number, b""] for number in range(10**5, 10**5 + 3000)],
    ],
)  # fmt: skip
def test_extended_attributes_that_are_not_a_users_own_or_too_many_are_refused(xattrs: object) -> None:
    """Property 27: hostile ones never even stand in a version; what the kernel or another program obeys least of all."""
    refuse(xattrs=xattrs)


def test_extended_attributes_are_taken_up_to_their_bounds_on_files_and_directories_only() -> None:
    allowed = [
        [[b"user.a", b""], [b"user.b", b"\0\xff"]], [[b"user." + b"n" * 250, b"x"]], [[b"user.\xff.\n", b"x"]],
        [[b"user.overlay", b"x"]], [[b"user.rsync.other", b"x"]], _most(XATTRS_MAX),
    ]  # fmt: skip
    for xattrs in allowed:
        assert decode_version(file_record(xattrs=xattrs), DOT).xattrs == tuple(map(tuple, xattrs))
    other: dict[str, object] = {"size": 0, "chunks": b"", "xattrs": [[b"user.a", b""]]}
    assert decode_version(file_record(kind=1, **other), DOT).xattrs == ((b"user.a", b""),)
    assert decode_version(file_record(kind=2, target=b"x", size=0, chunks=b""), DOT).target == b"x"
    with pytest.raises(PeerError, match="symlink"):
        decode_version(file_record(kind=2, target=b"x", **other), DOT)
    with pytest.raises(PeerError):
        decode_version(encode([*decode(file_record(**other, kind=1), 1000), None]), DOT)


@pytest.mark.parametrize(
    "vector",
    [
        [], [[AUTHOR, 8]], [[AUTHOR, 10]], [[AUTHOR, 2**63 - 1]], [[AUTHOR, 0]], [[bytes(32), 1]],
        [[AUTHOR, 9], [AUTHOR, 9]], [[b"\x08" * 32, 1], [AUTHOR, 9]], [[bytes(32), SEQ_MAX + 1], [AUTHOR, 9]],
        [[bytes(32), 2**63 - 1], [AUTHOR, 9]], [[bytes(31), 1], [AUTHOR, 9]], [[bytes(32), 1, 1], [AUTHOR, 9]],
        [[AUTHOR]], [AUTHOR, 9], None, [[AUTHOR, True]],
        [[n.to_bytes(32, "big"), 1] for n in range(1, VECTOR_MAX + 1)] + [[b"\xff" * 32, 1]],
    ],
)  # fmt: skip
def test_a_vector_that_lies_or_swells_is_refused(vector: object) -> None:
    """Property 29: counters near 2^63, another's counter as one's own, unsorted, too many."""
    refuse(vector=vector)


def test_a_vector_of_a_hundred_thousand_feeds_is_refused() -> None:
    """Property 29."""
    refuse(vector=[[n.to_bytes(32, "big"), 1] for n in range(10_000)])
    # 10^5 do not even fit an entry.
    with pytest.raises(PeerError):
        decode_version(file_record(vector=[[n.to_bytes(32, "big"), 1] for n in range(100_000)]), DOT)


def test_the_largest_vector_is_taken() -> None:
    vector = sorted([[n.to_bytes(32, "big"), 1] for n in range(1, VECTOR_MAX)] + [[AUTHOR, 9]])
    assert len(decode_version(file_record(vector=vector), DOT).vector) == VECTOR_MAX


@given(st.integers(0, 300), st.integers(1, 255), versions())
def test_a_changed_byte_is_another_version_or_a_peer_error(place: int, change: int, version: Version) -> None:
    data = bytearray(encode_version(version))
    data[place % len(data)] ^= change
    try:
        read = decode_version(bytes(data), DOT)
    except PeerError:
        return
    assert read.hash != record_hash(encode_version(version))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_a_peer_error(data: bytes) -> None:
    readers: list[Any] = [
        record_type, lambda d: decode_version(d, DOT), decode_inline, decode_pack, decode_body, iterate_chunks,
    ]  # fmt: skip
    for read in readers:
        try:
            read(data)
        except PeerError:
            pass


@pytest.mark.parametrize(
    "data", [b"", b"\xc0", b"\x90", b"\x91\x00", b"\x91\xff", b"\x91\xcd\x01\x00", b"\x91\xc4\x01\x01"]
)
def test_what_has_no_type_number_is_no_record(data: bytes) -> None:
    with pytest.raises(PeerError):
        record_type(data)


@pytest.mark.parametrize("number", [1, 23, 127, 128, 255])
def test_an_unknown_type_shows_its_number_whatever_follows(number: int) -> None:
    data = encode([number, b"anything", [1, None]])
    assert record_type(data) == peek_type(data) == number


def test_an_inline_chunk_holds_at_most_what_may_travel_inside_an_entry() -> None:
    largest = InlineChunk(65535, Plaintext(bytes(INLINE_MAX)))
    assert decode_inline(encode_inline(largest)) == largest
    for wrong in (InlineChunk(0, Plaintext(bytes(INLINE_MAX + 1))), InlineChunk(65536, Plaintext(b""))):
        with pytest.raises(PeerError):
            decode_inline(encode_inline(wrong))


PACK = PackLocations(PackName(bytes(32)), EpochId(bytes(16)), bytes(32), 8192, 0, bytes(80))


@pytest.mark.parametrize(
    ("field", "value"),
    [(1, bytes(31)), (2, bytes(17)), (3, bytes(31)), (4, 8193), (4, 4095), (4, 1 << 25), (4, -1), (5, 65536),
     (6, bytes(79)), (6, bytes(81)), (6, bytes(40 * 8193))],
)  # fmt: skip
def test_a_pack_record_that_no_pack_could_have_is_refused(field: int, value: object) -> None:
    """Property 16."""
    assert decode_pack(encode_pack(PACK)) == PACK
    fields = list(decode(encode_pack(PACK), 10_000))
    fields[field] = value
    with pytest.raises(PeerError):
        decode_pack(encode(fields))


HEADS = st.builds(FeedHead, HASHES.map(FeedId), st.integers(1, SEQ_MAX), HASHES.map(EntryHash))
BODIES = st.builds(
    Body, membership=st.lists(HASHES.map(RecordHash), max_size=3).map(tuple), time_ms=st.integers(0, 2**50),
    heads=st.lists(HEADS, max_size=4).map(tuple), records=st.lists(st.binary(max_size=50), max_size=5).map(tuple),
    snapshot=st.just(0) | st.integers(2, SEQ_MAX),
)  # fmt: skip


@given(BODIES)
def test_a_body_reads_back(body: Body) -> None:
    assert decode_body(encode_body(body)) == body


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, [bytes(31)]), (0, [[]]), (0, [bytes(32)] * 257), (1, -1), (1, 1 << 53), (2, [[bytes(32), 0, bytes(32)]]),
     (2, [[bytes(32), 1]]), (2, [5]), (3, [[1]]), (3, ["text"]), (3, None),
     (4, -1), (4, 0), (4, 1), (4, None)],
)  # fmt: skip
def test_a_body_of_a_wrong_form_is_refused(field: int, value: object) -> None:
    fields: list[object] = [[], 0, [], [], 2]
    decode_body(encode(fields))
    fields[field] = value
    with pytest.raises(PeerError):
        decode_body(encode(fields))
