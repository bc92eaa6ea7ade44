"""Membership: who belongs to a folder is what admins signed, and nothing else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.encoding import Fields, decode, encode
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import AccessKey, EntryHash, EpochId, FeedId, FolderId, RecordHash, RelayKey
from p2psync.index.body import FeedHead
from p2psync.index.membership import (
    MAY_WRITE,
    Membership,
    NotYetKnown,
    Role,
    Rotate,
    decode_bind,
    decode_genesis_record,
    decode_rotate,
    encode_add,
    encode_bind,
    encode_genesis_record,
    encode_rotate,
    folder_id,
    make_genesis,
    read_genesis,
    read_newcomer,
    sign_newcomer,
)
from p2psync.index.records import RecordType, record_hash
from p2psync.vault.device_keys import DeviceKeys
from tests.support.vectors import FOLDER, FOUNDER, GENESIS, credentials, make_device, material

ADMIN, WRITER, STRANGER = make_device("second admin"), make_device("writer"), make_device("stranger")
GENESIS_RECORD = encode_genesis_record(GENESIS)
ROOT = record_hash(GENESIS_RECORD)


def newcomer(device: DeviceKeys, role: Role, folder: FolderId = FOLDER) -> Any:
    access = ((RelayKey(material("relay")), AccessKey(material("access"))),)
    return sign_newcomer(device.identity, folder, credentials(device), role, access)


def add(device: DeviceKeys, role: Role, *parents: RecordHash) -> bytes:
    return encode_add(parents or (ROOT,), newcomer(device, role))


def founded() -> Membership:
    membership = Membership(FOLDER)
    membership.apply_genesis(GENESIS_RECORD)
    return membership


def test_the_founder_is_admin_and_nobody_else_is_anything() -> None:
    membership = founded()
    assert membership.role_of(FOUNDER.identity_key) is Role.ADMIN
    assert membership.role_of(STRANGER.identity_key) is None
    assert membership.heads == (ROOT,) and Membership(FOLDER).heads == ()


def test_a_genesis_of_another_folder_is_refused() -> None:
    """Property 8: a folder id says who its first admin is."""
    other = make_genesis(STRANGER.identity, credentials(STRANGER), material("nonce"))
    assert folder_id(other) != FOLDER and read_genesis(other).identity == STRANGER.identity_key
    membership = Membership(FOLDER)
    with pytest.raises(PeerError):
        membership.apply_genesis(encode_genesis_record(other))
    assert not membership.members and not membership.known


def test_a_genesis_not_signed_by_its_founder_is_refused_under_its_own_id() -> None:
    forged = make_genesis(STRANGER.identity, credentials(FOUNDER), material("nonce"))
    with pytest.raises(IntegrityError):
        read_genesis(forged)
    with pytest.raises(IntegrityError):
        Membership(folder_id(forged)).apply_genesis(encode_genesis_record(forged))


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, 2), (1, []), (1, [bytes(32)] * 3), (1, [bytes(32), bytes(32), bytes(1025)]), (2, [bytes(32), bytes(32)]),
     (2, []), (3, bytes(31)), (4, bytes(64)), (4, bytes(63))],
)  # fmt: skip
def test_an_altered_genesis_is_refused(field: int, value: object) -> None:
    fields = list(decode(GENESIS, 10_000))
    fields[field] = value
    with pytest.raises((PeerError, IntegrityError)):
        read_genesis(encode(fields))
    with pytest.raises(PeerError):
        read_genesis(encode([*decode(GENESIS, 10_000), 1]))


def test_an_admin_admits_and_his_newcomer_admits_if_he_is_admin() -> None:
    membership = founded()
    first = add(ADMIN, Role.ADMIN)
    second = add(WRITER, Role.WRITER, record_hash(first))
    with pytest.raises(NotYetKnown):
        membership.apply_add(second, ADMIN.identity_key)
    membership.apply_add(first, FOUNDER.identity_key)
    member = membership.apply_add(second, ADMIN.identity_key)
    assert member.role is Role.WRITER and member.access[0][1] == material("access")
    assert membership.heads == (record_hash(second),)


@pytest.mark.parametrize("author", [WRITER, STRANGER])
def test_an_admission_by_somebody_who_is_not_admin_does_not_count(author: DeviceKeys) -> None:
    """Properties 8 and 24."""
    membership = founded()
    membership.apply_add(add(WRITER, Role.WRITER), FOUNDER.identity_key)
    with pytest.raises(PeerError):
        membership.apply_add(add(STRANGER, Role.ADMIN), author.identity_key)
    assert membership.role_of(STRANGER.identity_key) is None


def test_nobody_is_admitted_who_did_not_ask_for_this_folder_himself() -> None:
    """Property 8: the self-signature covers identity, keys, role, access keys and folder."""
    membership = founded()
    right = list(decode(add(STRANGER, Role.READER), 10_000))
    for field, value in [
        (2, WRITER.identity_key), (3, WRITER.box.public), (4, WRITER.certificate), (5, Role.ADMIN), (6, []),
        (7, bytes(64)), (7, newcomer(WRITER, Role.READER).signature),
        (7, newcomer(STRANGER, Role.READER, FolderId(bytes(16))).signature),
    ]:  # fmt: skip
        changed = encode([*right[:field], value, *right[field + 1 :]])
        with pytest.raises(IntegrityError):
            membership.apply_add(changed, FOUNDER.identity_key)
    assert membership.role_of(STRANGER.identity_key) is None
    membership.apply_add(encode(right), FOUNDER.identity_key)


@pytest.mark.parametrize(
    ("field", "value"),
    [(1, []), (1, [b"short"]), (1, [[]]), (1, [5]), (1, [None]), (1, None), (1, [bytes(32)] * 257), (2, bytes(31)),
     (4, bytes(1025)), (5, 3), (5, -1), (6, [[bytes(32)]]), (6, [[bytes(32)] * 3]), (6, [[bytes(32)] * 2] * 65)],
)  # fmt: skip
def test_an_admission_of_a_wrong_form_is_refused_and_never_waits(field: int, value: object) -> None:
    """A feed that waits for what can never come would be lost; only unknown parents wait."""
    right = list(decode(add(STRANGER, Role.READER), 10_000))
    membership = founded()
    with pytest.raises((PeerError, IntegrityError)):
        membership.apply_add(encode([*right[:field], value, *right[field + 1 :]]), FOUNDER.identity_key)
    with pytest.raises(NotYetKnown):
        membership.apply_add(encode([right[0], [bytes(32)], *right[2:]]), FOUNDER.identity_key)


def test_concurrent_admissions_give_the_same_members_in_any_order() -> None:
    records = [
        add(ADMIN, Role.ADMIN), add(WRITER, Role.WRITER), add(WRITER, Role.ADMIN), add(STRANGER, Role.READER),
        encode_add((ROOT,), sign_newcomer(WRITER.identity, FOLDER, credentials(WRITER), Role.ADMIN, ())),
    ]  # fmt: skip
    outcomes = []
    for order in itertools.permutations(records):
        membership = founded()
        for data in (*order, order[0]):
            membership.apply_add(data, FOUNDER.identity_key)
        outcomes.append((membership.members, membership.heads))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][0][WRITER.identity_key].role is Role.ADMIN
    assert outcomes[0][1] == tuple(sorted(map(record_hash, records)))


def test_a_later_record_takes_the_tips_it_names() -> None:
    membership = founded()
    tips = [add(device, Role.READER) for device in (WRITER, STRANGER)]
    for data in tips:
        membership.apply_add(data, FOUNDER.identity_key)
    last = add(ADMIN, Role.ADMIN, *membership.heads)
    membership.apply_add(last, FOUNDER.identity_key)
    assert membership.heads == (record_hash(last),)


def test_a_bind_counts_for_its_folder_feed_identity_and_predecessor_only() -> None:
    feed, head = FeedId(material("feed")), FeedHead(FeedId(bytes(32)), 4, EntryHash(bytes(32)))
    data = encode_bind(WRITER.identity, FOLDER, feed, head)
    assert decode_bind(data, FOLDER, feed).predecessor == head
    with pytest.raises(IntegrityError):
        decode_bind(data, FolderId(bytes(16)), feed)
    with pytest.raises(IntegrityError):
        decode_bind(data, FOLDER, FeedId(bytes(32)))
    number, identity, _, signature = decode(data, 1000)
    for changed in (
        [number, STRANGER.identity_key, [bytes(32), 4, bytes(32)], signature],
        [number, identity, None, signature],
        [number, identity, [bytes(32), 5, bytes(32)], signature],
        [number, identity, [bytes(32), 4, bytes(32)], bytes(64)],
    ):
        with pytest.raises(IntegrityError):
            decode_bind(encode(changed), FOLDER, feed)
    with pytest.raises(PeerError):
        decode_bind(encode([number, identity, [bytes(32), 0, bytes(32)], signature]), FOLDER, feed)


@given(st.lists(st.binary(min_size=16, max_size=16).map(EpochId), max_size=4))
def test_a_rotate_reads_back(parents: list[EpochId]) -> None:
    made = Rotate(EpochId(bytes(16)), tuple(parents), bytes(32))
    assert decode_rotate(encode_rotate(made)) == made


@pytest.mark.parametrize("fields", [[b"", [], bytes(32)], [bytes(16), [bytes(15)], bytes(32)], [bytes(16), [], b""]])
def test_a_rotate_of_a_wrong_form_is_refused(fields: list[object]) -> None:
    with pytest.raises(PeerError):
        decode_rotate(encode([RecordType.ROTATE, *fields]))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_our_errors_only(data: bytes) -> None:
    readers: list[Any] = [
        read_genesis, decode_genesis_record, decode_rotate, lambda d: decode_bind(d, FOLDER, FeedId(bytes(32))),
        lambda d: founded().apply_add(d, FOUNDER.identity_key), lambda d: founded().apply_genesis(d),
        lambda d: read_newcomer(Fields(decode(d, 1000), "newcomer"), FOLDER),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises((PeerError, IntegrityError)):
            read(data)


def test_the_role_table_is_the_one_in_the_formats() -> None:
    """Property 24."""
    reader = {"BIND", "BAD", "SNAPSHOT", "CLOSE", "FORK", "KEYS"}
    writer = reader | {"FILE", "TOMBSTONE", "CHUNK", "PACK"}
    admin = writer | {"GENESIS", "ADD", "ROLE", "REMOVE", "ROTATE", "GRANT", "RETIRE", "STORE"}
    for role, names in ((Role.READER, reader), (Role.WRITER, writer), (Role.ADMIN, admin)):
        assert {number.name for number in MAY_WRITE[role]} == names
    assert admin == {number.name for number in RecordType}
