"""The peer protocol's messages and bodies: what was said is understood, anything else is a PeerError and nothing more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import PeerError
from p2psync.ids import ChunkId, Ciphertext, EpochId, FeedId, FolderId, Plaintext
from p2psync.limits import CHUNK_MAX, ENTRY_MAX
from p2psync.vault.secrets import FolderSecrets, Generation, first_epoch
from p2psync.vault.stream import open_stream, seal_stream
from p2psync.wire.codec import FORMS
from p2psync.wire.conversation import Speaker, State
from p2psync.wire.messages import Cancel, Done, Failure, Urgent
from p2psync.wire.peer_bodies import (
    CHUNKS_BYTES_MAX,
    CHUNKS_MAX,
    ENTRIES_MAX,
    WantedChunk,
    decode_chunk_list,
    decode_entries,
    encode_chunk_list,
    encode_entries,
    split_stream,
    stream_size_max,
)
from p2psync.wire.peer_codec import PEER_FORMS, decode_peer_message, encode_peer_message
from p2psync.wire.peer_conversation import PEER_TRANSITIONS, PeerConversation
from p2psync.wire.peer_messages import (
    ChannelOpened,
    CloseChannel,
    GetChunks,
    GetEntries,
    OpenChannel,
    PeerHello,
    PeerMessage,
    Punch,
    Punching,
    PutEntries,
    WatchHeads,
)

TEXT = (Path(__file__).parent.parent.parent / "docs" / "peer-protocol.md").read_text()
EXAMPLES: list[Any] = [
    PeerHello(versions=(1, 2), features=("x",), nonce=b"n" * 32),
    OpenChannel(request=1, channel=7, proof=b"p" * 32),
    ChannelOpened(request=1, proof=b"q" * 32),
    CloseChannel(channel=7),
    WatchHeads(request=3, channel=7, seen=-1),
    GetEntries(request=5, channel=7, feed=FeedId(b"f" * 32), after=0),
    PutEntries(request=7, channel=7, size=5000),
    GetChunks(request=9, channel=7, generation=0, size=36),
    Punch(request=11, outside=("203.0.113.1:4001",)),
    Punching(request=11, outside=("203.0.113.2:4002", "[2001:db8::1]:4003")),
]


def test_every_message_is_read_back_and_has_an_example() -> None:
    for message in EXAMPLES:
        assert decode_peer_message(encode_peer_message(message)) == message
    shared = {kind for kind, _ in FORMS.values()}
    assert {type(message) for message in EXAMPLES} == {kind for kind, _ in PEER_FORMS.values()} - shared
    assert {kind for kind, _ in PEER_FORMS.values()} == set(get_args(PeerMessage))


def test_shared_messages_keep_their_numbers_and_no_number_means_two_things() -> None:
    for number, (kind, readers) in PEER_FORMS.items():
        if number in FORMS:
            assert FORMS[number] == (kind, readers)


def test_the_document_lists_every_message_and_every_transition() -> None:
    for number, (kind, readers) in PEER_FORMS.items():
        assert re.search(rf"^\| {number} \| {kind.__name__} \| {', '.join(readers) or '—'} \|", TEXT, re.M), kind
    hello = {key for key in PEER_TRANSITIONS if key[2] is PeerHello}
    assert hello == {(State.SILENT, Speaker.CLIENT, PeerHello), (State.GREETED, Speaker.SERVER, PeerHello)}
    ready = {(speaker, kind) for state, speaker, kind in PEER_TRANSITIONS if state is State.READY}
    assert ready == {(speaker, kind) for speaker in Speaker for kind in set(get_args(PeerMessage)) - {PeerHello}}


@given(st.binary(max_size=200))
def test_garbage_headers_are_a_peer_error_or_ignored(data: bytes) -> None:
    try:
        message = decode_peer_message(data)
    except PeerError:
        return
    assert message is None or encode_peer_message(message) == data


@pytest.mark.parametrize(
    "message",
    [
        OpenChannel(request=2, channel=1, proof=bytes(32)), Done(request=1), Cancel(request=4),
        Failure(request=3, code=1, sentence=""),
    ],
)  # fmt: skip
def test_the_number_says_whose_request_it_is(message: Any) -> None:
    """As said by the dialler: its requests are odd, its answers go to even ones."""
    listener = PeerConversation(Speaker.SERVER)
    listener.state = State.READY
    with pytest.raises(PeerError):
        listener._next_state(Speaker.CLIENT, message)
    listener._next_state(Speaker.SERVER, message)
    listener._next_state(Speaker.CLIENT, Urgent(request=message.request, last=True))


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.data())
def test_entry_lists_read_back_and_a_cut_one_is_refused(entries: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(encode_entries([Ciphertext(entry) for entry in entries]))
    assert decode_entries(whole) == entries
    if whole:
        cut = data.draw(st.integers(0, len(whole) - 1))
        try:
            assert len(decode_entries(whole[:cut])) < len(entries)
        except PeerError:
            pass


def test_entry_lists_are_bounded() -> None:
    with pytest.raises(PeerError):
        decode_entries(b"".join(encode_entries([Ciphertext(b"x")] * (ENTRIES_MAX + 1))))
    with pytest.raises(PeerError):
        decode_entries(b"".join(encode_entries([Ciphertext(bytes(ENTRY_MAX + 1))])))
    with pytest.raises(PeerError):
        decode_entries(bytes(4))


def test_chunk_lists_are_bounded() -> None:
    row = WantedChunk(ChunkId(bytes(32)), 1)
    assert decode_chunk_list(encode_chunk_list([row] * CHUNKS_MAX)) == [row] * CHUNKS_MAX
    for bad in (
        b"", bytes(35), encode_chunk_list([row] * (CHUNKS_MAX + 1)), encode_chunk_list([WantedChunk(ChunkId(bytes(32)), 0)]),
        encode_chunk_list([WantedChunk(ChunkId(bytes(32)), CHUNK_MAX + 1)]),
        encode_chunk_list([WantedChunk(ChunkId(bytes(32)), CHUNKS_BYTES_MAX)] * 2),
    ):  # fmt: skip
        with pytest.raises(PeerError):
            decode_chunk_list(bad)


GENERATION = Generation(0, b"g" * 32)
FOLDER = FolderId(b"f" * 16)
EPOCH = first_epoch(FOLDER, b"S" * 32)
SECRETS = FolderSecrets(FOLDER, {EPOCH.epoch: EPOCH}, {0: GENERATION}, EPOCH.epoch)
PLAINS = [Plaintext(bytes([n]) * (n * 300 + 1)) for n in range(8)]
WANTED = [WantedChunk(GENERATION.chunk_id(plain), len(plain)) for plain in PLAINS]


@given(st.sets(st.integers(0, 7)), st.floats(0, 1))
def test_of_a_cut_stream_every_complete_chunk_is_good(held: set[int], share: float) -> None:
    def read(each: WantedChunk) -> Plaintext | None:
        return PLAINS[WANTED.index(each)] if WANTED.index(each) in held else None

    data = b"".join(seal_stream(FOLDER, EPOCH, bytes(32), WANTED, read))
    assert len(data) <= stream_size_max(each.length for each in WANTED)
    cut = data[: int(len(data) * share)]
    parts = split_stream(cut, len(WANTED))
    assert (parts is None) == (len(cut) < 48)
    opened = [] if parts is None else list(open_stream(FOLDER, SECRETS, GENERATION, WANTED, parts))
    expected = [(WANTED[n].chunk, PLAINS[n]) for n in sorted(held)]
    assert opened == expected[: len(opened)]
    if cut == data:
        assert opened == expected and parts is not None and parts.whole


@given(st.binary(max_size=300))
def test_a_stream_of_garbage_is_refused_or_incomplete(data: bytes) -> None:
    try:
        parts = split_stream(EpochId(bytes(16)) + bytes(32) + data, 3)
    except PeerError:
        return
    assert parts is not None and len(parts.frames) <= 3


def test_frames_that_were_not_asked_for_are_refused() -> None:
    data = b"".join(seal_stream(FOLDER, EPOCH, bytes(32), WANTED, lambda each: PLAINS[WANTED.index(each)]))
    with pytest.raises(PeerError):
        split_stream(data, 3)
    twice = data + data[48:]
    with pytest.raises(PeerError):
        split_stream(twice, len(WANTED))
