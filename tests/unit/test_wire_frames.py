"""Frames and message headers: lengths, canonical forms, golden bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.encoding import decode, encode
from p2psync.errors import PeerError
from p2psync.limits import FRAME_BODY_MAX, FRAME_HEADER_MAX
from p2psync.wire.codec import FORMS, decode_message, encode_message
from p2psync.wire.frames import Frame, FrameReader, frame_start
from tests.support.messages import EXAMPLES

VECTORS = Path(__file__).parent.parent / "vectors" / "wire.json"

headers = st.binary(min_size=1, max_size=40)
frames = st.lists(st.tuples(headers, st.binary(max_size=300)), min_size=1, max_size=8)


def drain(reader: FrameReader) -> list[Frame]:
    return list(iter(reader.next_event, None))


@given(frames, st.data())
def test_any_cutting_of_the_stream_gives_the_same_frames(items: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame_start(header, len(body)) + body for header, body in items)
    at_once, in_pieces = FrameReader(), FrameReader()
    at_once.receive_data(stream)
    found = []
    rest = stream
    while rest:
        count = data.draw(st.integers(1, min(len(rest), 60)))
        in_pieces.receive_data(rest[:count])
        rest = rest[count:]
        found += drain(in_pieces)
    assert [(f.header, bytes(f.body)) for f in found] == items
    assert drain(at_once) == found
    assert not in_pieces.within_frame


@given(st.binary(min_size=1, max_size=300), headers, st.data())
def test_of_a_frame_that_is_cut_off_what_came_of_its_body_is_known(
    body: bytes, head: bytes, data: st.DataObject
) -> None:
    start = frame_start(head, len(body))
    stream = frame_start(b"before", 0) + start + body
    count = data.draw(st.integers(0, len(stream) - 1))
    reader = FrameReader()
    reader.receive_data(stream[:count])
    drain(reader)
    came = count - (len(stream) - len(body))
    torn = reader.torn()
    assert (torn is None) if came < 0 else (torn == Frame(head, body[:came]))


def test_byte_at_a_time_equals_all_at_once() -> None:
    body = bytes(range(256)) * 4
    stream = frame_start(b"head", len(body)) + body + frame_start(b"next", 0)
    reader = FrameReader()
    found = []
    for byte in stream:
        reader.receive_data(bytes([byte]))
        found += drain(reader)
    assert [(f.header, bytes(f.body)) for f in found] == [(b"head", body), (b"next", b"")]


@pytest.mark.parametrize(
    "start",
    [
        bytes(6),
        b"\xff\xff\xff\xff\x00\x01",
        b"\x80\x00\x00\x00\x00\x01",
        b"\x00\x00\x00\x00\x00\x01",
        b"\x00\x00\x00\x01\x00\x01",
        b"\x00\x00\x00\x02\x00\x00",
        b"\x00\x00\x00\x05\x00\x04",
        (2 + 1 + FRAME_BODY_MAX + 1).to_bytes(4, "big") + b"\x00\x01",
        (2 + FRAME_HEADER_MAX + 1).to_bytes(4, "big") + (FRAME_HEADER_MAX + 1).to_bytes(2, "big"),
    ],
)
def test_hostile_lengths_are_refused_before_anything_is_allocated(start: bytes) -> None:
    reader = FrameReader()
    reader.receive_data(start)
    with pytest.raises(PeerError):
        reader.next_event()
    reader.receive_data(bytes(100))
    with pytest.raises(PeerError):
        reader.next_event()


def test_the_largest_frame_passes_and_a_small_limit_holds() -> None:
    header, body = b"h" * FRAME_HEADER_MAX, bytes(FRAME_BODY_MAX)
    reader = FrameReader()
    reader.receive_data(frame_start(header, len(body)) + body)
    assert drain(reader) == [Frame(header, body)]
    small = FrameReader(body_max=16)
    small.receive_data(frame_start(b"h", 17))
    with pytest.raises(PeerError):
        small.next_event()
    with pytest.raises(ValueError):
        frame_start(b"h", FRAME_BODY_MAX + 1)


@given(st.binary(max_size=200))
def test_garbage_gives_frames_or_a_peer_error_and_nothing_else(data: bytes) -> None:
    reader = FrameReader()
    reader.receive_data(data)
    try:
        for frame in drain(reader):
            decode_message(frame.header)
    except PeerError:
        pass


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_every_message_survives_its_encoding(message: object) -> None:
    assert decode_message(encode_message(message)) == message  # type: ignore[arg-type]


def test_there_is_an_example_of_every_message() -> None:
    assert {type(message) for message in EXAMPLES} == {kind for kind, _ in FORMS.values()}


@given(st.sampled_from(EXAMPLES), st.integers(0, 200), st.integers(0, 255))
def test_a_changed_header_is_another_message_or_a_peer_error(message: object, place: int, value: int) -> None:
    header = bytearray(encode_message(message))  # type: ignore[arg-type]
    header[place % len(header)] = value
    try:
        found = decode_message(bytes(header))
    except PeerError:
        return
    assert found is None or encode_message(found) == header


def test_unknown_messages_are_ignored_from_128_and_refused_below() -> None:
    assert decode_message(encode([128, "anything", [1, 2]])) is None
    assert decode_message(encode([60000])) is None
    for number in set(range(128)) - set(FORMS):
        with pytest.raises(PeerError):
            decode_message(encode([number]))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_missing_and_surplus_fields_are_refused(message: object) -> None:
    from_wire = list(_fields(encode_message(message)))  # type: ignore[arg-type]
    with pytest.raises(PeerError):
        decode_message(encode([*from_wire, 0]))
    if len(from_wire) > 1:
        with pytest.raises(PeerError):
            decode_message(encode(from_wire[:-1]))


def test_golden_vectors_hold() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert [row["message"] for row in vectors["messages"]] == [repr(message) for message in EXAMPLES]
    for row, message in zip(vectors["messages"], EXAMPLES, strict=True):
        assert encode_message(message).hex() == row["header"], row["message"]
        assert frame_start(encode_message(message), 0).hex() == row["frame"]


def _fields(header: bytes) -> tuple[object, ...]:
    values: tuple[object, ...] = decode(header, FRAME_HEADER_MAX)
    return values
