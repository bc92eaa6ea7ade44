"""Two conversations back to back: the table rules on every state and message, and garbage closes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused, BugError, P2psyncError, PeerError
from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.wire.codec import encode_message
from p2psync.wire.conversation import TRANSITIONS, Conversation, Speaker, State
from p2psync.wire.faults import Fault, error_of, fault_of
from p2psync.wire.frames import frame_start
from p2psync.wire.login import Right, check_hello, check_login, namespace_id, sign_hello, sign_login
from p2psync.wire.messages import Bulk, ClientHello, Ping, ServerHello, Urgent
from tests.support.messages import EXAMPLES

HELLO = ClientHello(versions=(1,), features=(), nonce=bytes(32), origin=None)
WELCOME = ServerHello(version=1, features=(), relay_key=RelayKey(bytes(32)), signature=bytes(64), observed=None)


def ready_pair() -> tuple[Conversation, Conversation]:
    client, server = Conversation(Speaker.CLIENT), Conversation(Speaker.SERVER)
    server.receive_data(client.send(HELLO))
    assert server.next_event() == (HELLO, b"")
    client.receive_data(server.send(WELCOME))
    assert client.next_event() == (WELCOME, b"")
    assert client.state is server.state is State.READY
    return client, server


def in_state(me: Speaker, state: State) -> Conversation:
    conversation = Conversation(me)
    conversation.state = state
    return conversation


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("speaker", Speaker)
@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_what_the_table_lacks_closes_the_link(state: State, speaker: Speaker, message: object) -> None:
    listener = in_state(speaker.other, state)
    talker = in_state(speaker, state)
    expected = TRANSITIONS.get((state, speaker, type(message)))
    if expected is None:
        with pytest.raises(BugError):
            talker.send(message)  # type: ignore[arg-type]
        with pytest.raises(PeerError):
            listener.receive_data(raw(message))
            listener.next_event()
        assert listener.state is State.CLOSED
    else:
        listener.receive_data(talker.send(message))  # type: ignore[arg-type]
        assert listener.next_event() == (message, b"")
        assert listener.state is talker.state is expected


def raw(message: object) -> bytes:
    return frame_start(encode_message(message), 0)  # type: ignore[arg-type]


@given(st.binary(max_size=300), st.sampled_from(list(State)), st.sampled_from(list(Speaker)))
def test_garbage_gives_a_peer_error_and_nothing_else(data: bytes, state: State, me: Speaker) -> None:
    conversation = in_state(me, state)
    conversation.receive_data(data)
    try:
        while conversation.next_event() is not None:
            pass
    except PeerError:
        assert conversation.state is State.CLOSED


def test_only_body_frames_have_bodies() -> None:
    client, server = ready_pair()
    with pytest.raises(BugError):
        client.send(Ping(), 3)
    server.receive_data(client.send(Urgent(request=1, last=True), 3) + b"abc")
    server.receive_data(client.send(Bulk(request=1, last=True), 2) + b"de")
    assert [server.next_event(), server.next_event()] == [
        (Urgent(request=1, last=True), b"abc"),
        (Bulk(request=1, last=True), b"de"),
    ]
    with_body = bytearray(raw(Ping()) + b"x")
    with_body[3] += 1
    server.receive_data(with_body)
    with pytest.raises(PeerError):
        server.next_event()


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_stands_for_an_error_with_its_sentence(fault: Fault) -> None:
    error = error_of(fault, "why")
    assert isinstance(error, P2psyncError) and str(error) == "why"


def test_an_error_keeps_its_kind_across_the_wire_and_a_bug_keeps_its_text_at_home() -> None:
    assert type(error_of(*fault_of(AccessRefused("no")))) is AccessRefused
    assert "secret" not in fault_of(BugError("secret"))[1]
    assert isinstance(error_of(200, ""), P2psyncError)


def test_a_login_is_bound_to_relay_namespace_right_nonce_expiry_and_origin() -> None:
    key, relay, other = SigningKey(b"k" * 32), RelayKey(b"r" * 32), RelayKey(b"o" * 32)
    namespace = namespace_id(key.public, relay)
    signature = sign_login(key, relay, namespace, Right.PUT, bytes(32), 5, None)
    public = AccessKey(key.public)
    check_login(public, signature, relay, namespace, Right.PUT, bytes(32), 5, None)
    for changed in (
        (other, namespace, Right.PUT, bytes(32), 5, None),
        (relay, NamespaceId(bytes(16)), Right.PUT, bytes(32), 5, None),
        (relay, namespace, Right.OWN, bytes(32), 5, None),
        (relay, namespace, Right.PUT, b"n" * 32, 5, None),
        (relay, namespace, Right.PUT, bytes(32), 6, None),
        (relay, namespace, Right.PUT, bytes(32), 5, "wss://relay.example"),
    ):
        with pytest.raises(AccessRefused):
            check_login(public, signature, *changed)


def test_a_hello_answers_this_nonce_only() -> None:
    key = SigningKey(b"k" * 32)
    signature = sign_hello(key, b"n" * 32, None)
    check_hello(RelayKey(key.public), signature, b"n" * 32, None)
    with pytest.raises(PeerError):
        check_hello(RelayKey(key.public), signature, b"m" * 32, None)
