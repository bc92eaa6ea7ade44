"""Links between devices: only the expected device, only TLS 1.3 with our ALPN, and one session for a pair."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from p2psync.errors import LinkLost, P2psyncError, PeerError
from p2psync.ids import IdentityKey
from p2psync.net import tls
from p2psync.net.mutual import accept_device, certificate_pin, dial_device, vouches_for_nobody
from p2psync.session.peer_link import accept_peer_link, open_peer_link
from p2psync.session.peer_sessions import PeerSessions, newer_stays
from p2psync.wire.messages import Ping
from tests.support.devices import Device, SeededRandomness
from tests.support.links import MemoryNetwork
from tests.support.peers import device_links, devices


async def memory_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    network = MemoryNetwork()
    (listener,) = await network.listen("", 1)
    near = await network.connect("device", 1)
    far = await listener.accept()
    await listener.aclose()
    return near, far


async def refusal(a: Device, b: Device, expected: Device, known: Sequence[Device]) -> tuple[Exception, Exception]:
    """What dialler (`a`, expecting `expected`) and listener (`b`, knowing `known`) end with; nothing was said."""
    near, far = await memory_pair()
    ends: dict[str, Exception] = {}
    said = WatchedStream(far)

    async def dial() -> None:
        try:
            async with open_peer_link(
                near, device=a.keys, expected=expected.keys.identity_key, certificate=expected.keys.certificate,
                randomness=SeededRandomness(1),
            ):  # fmt: skip
                ends["dialler"] = AssertionError("it opened")
        except P2psyncError as error:
            ends["dialler"] = error

    async def accept() -> None:
        members = {each.keys.identity_key: each.keys.certificate for each in known}
        try:
            async with accept_peer_link(said, device=b.keys, members=members, randomness=SeededRandomness(2)):
                ends["listener"] = AssertionError("it opened")
        except P2psyncError as error:
            ends["listener"] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(accept)
    return ends["dialler"], ends["listener"]


class WatchedStream(trio.abc.Stream):
    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_both_sides_learn_who_the_other_is(tmp_path: Path) -> None:
    a, b, c = devices(tmp_path)
    async with device_links(a, b, others=(c,)) as (near, far):
        assert near.identity == b.keys.identity_key and far.identity == a.keys.identity_key
        assert near.dialler == far.dialler == a.keys.identity_key
        assert near.ours == far.theirs and near.theirs == far.ours and near.ours != near.theirs


async def test_a_stranger_is_refused_before_the_greeting(tmp_path: Path) -> None:
    a, b, c = devices(tmp_path)
    dialler, listener = await refusal(a, b, expected=b, known=[c])
    assert isinstance(listener, LinkLost) and "TLS" in str(listener)
    assert isinstance(dialler, LinkLost)


async def test_nobody_is_let_in_where_no_member_is_known(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    dialler, listener = await refusal(a, b, expected=b, known=[])
    assert isinstance(listener, LinkLost) and isinstance(dialler, LinkLost)


async def test_another_device_than_the_expected_is_refused_before_the_greeting(tmp_path: Path) -> None:
    a, b, c = devices(tmp_path)
    dialler, listener = await refusal(a, b, expected=c, known=[a])
    assert isinstance(dialler, LinkLost) and "certificate" in str(dialler).lower()
    assert isinstance(listener, LinkLost)


async def test_another_certificate_for_the_same_key_does_not_match_the_pin(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    near, far = await memory_pair()
    # Same key and name, another serial number; a trust store that holds it would let it in, the comparison does not.
    twin = tls.make_certificate(b.keys.tls_seed, b.keys.device_id, SeededRandomness(77))
    assert certificate_pin(twin) != b.keys.pin
    context = tls.mutual_context(a.keys.tls_seed, a.keys.certificate, [twin], server_side=False)

    async def accept() -> None:
        await accept_device(far, seed=b.keys.tls_seed, certificate=twin, known=[a.keys.certificate])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        with pytest.MonkeyPatch.context() as patch:
            real = tls.mutual_context
            patch.setattr(
                "p2psync.net.mutual.mutual_context",
                lambda *given, server_side: real(*given, server_side=True) if server_side else context,
            )
            with pytest.raises(PeerError, match="does not match the pin"):
                await dial_device(
                    near, seed=a.keys.tls_seed, certificate=a.keys.certificate, expected=b.keys.certificate, who="it"
                )
        nursery.cancel_scope.cancel()


def authority(seed: bytes, name: str, *, ca: bool, signer: bytes | None = None, issuer: str | None = None) -> bytes:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or name)])
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key()).serial_number(7)
        .not_valid_before(tls.NOT_BEFORE).not_valid_after(tls.NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(ed25519.Ed25519PrivateKey.from_private_bytes(signer or seed), None)
    )  # fmt: skip
    return made.public_bytes(Encoding.DER)


async def test_a_certificate_that_vouches_for_others_is_never_trusted(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    evil = authority(b"e" * 32, "evil", ca=True)
    assert not vouches_for_nobody(evil) and vouches_for_nobody(a.keys.certificate)
    assert not vouches_for_nobody(b"no certificate")
    issued = authority(b"i" * 32, "issued", ca=False, signer=b"e" * 32, issuer="evil")
    near, far = await memory_pair()
    with pytest.raises(PeerError, match="vouch"):
        await dial_device(near, seed=a.keys.tls_seed, certificate=a.keys.certificate, expected=evil, who="it")

    heard: list[bytes] = []

    async def dial() -> None:
        # The dialler's TLS 1.3 is complete before the listener has looked at its certificate.
        stream = await dial_device(
            near, seed=b"i" * 32, certificate=issued, expected=b.keys.certificate, who="the listener"
        )
        try:
            heard.append(bytes(await stream.receive_some(10)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            heard.append(b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        with pytest.raises(LinkLost, match="did not complete TLS"):
            known = [evil, a.keys.certificate]
            await accept_device(far, seed=b.keys.tls_seed, certificate=b.keys.certificate, known=known)
        await far.aclose()
    assert heard == [b""]


@pytest.mark.parametrize("fault", ["old version", "no certificate", "wrong alpn", "no alpn"])
async def test_weaker_tls_is_refused(tmp_path: Path, fault: str) -> None:
    a, b, _ = devices(tmp_path)
    context = tls.mutual_context(a.keys.tls_seed, a.keys.certificate, [b.keys.certificate], server_side=False)
    if fault == "old version":
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    elif fault == "no certificate":
        context = tls.client_context()
    elif fault == "wrong alpn":
        context.set_alpn_protocols(["http/1.1"])
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls._load_identity(context, a.keys.tls_seed, a.keys.certificate)
    near, far = await memory_pair()

    async def dial() -> None:
        try:
            await trio.SSLStream(near, context).do_handshake()
        except trio.BrokenResourceError:
            await near.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        with pytest.raises(LinkLost):
            await accept_device(
                far, seed=b.keys.tls_seed, certificate=b.keys.certificate, known=[a.keys.certificate]
            )  # fmt: skip
        await far.aclose()


async def test_streams_between_devices_keep_trios_stream_contract(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)

    async def over(near: trio.abc.Stream, far: trio.abc.Stream) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        found: dict[str, trio.abc.Stream] = {}

        async def accept() -> None:
            found["far"], pin = await accept_device(
                far, seed=b.keys.tls_seed, certificate=b.keys.certificate, known=[a.keys.certificate]
            )
            assert pin == a.keys.pin

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            found["near"] = await dial_device(
                near, seed=a.keys.tls_seed, certificate=a.keys.certificate, expected=b.keys.certificate, who="it"
            )
        return found["near"], found["far"]

    async def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        return await over(*await memory_pair())

    await trio.testing.check_two_way_stream(pair, None)


async def test_a_silent_dialler_is_left_within_seconds(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    _, b, _ = devices(tmp_path)
    _, far = await memory_pair()
    with pytest.raises(LinkLost, match="in time"):
        async with accept_peer_link(far, device=b.keys, members={}, randomness=SeededRandomness(1)):
            pass
    assert trio.current_time() < 11


async def test_garbage_ends_the_link_and_only_that(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    async with device_links(a, b) as (near, far):
        near._link.outbox._messages.append(b"\0\0\0\x03\0\x01\xff")
        near._link.say(Ping())
        with trio.fail_after(5):
            await far.closed()
            await near.closed()
        assert isinstance(far.error, PeerError) and isinstance(near.error, LinkLost)


# One session per pair.


def test_of_two_simultaneous_dials_the_one_by_the_lower_identity_stays() -> None:
    low, high = IdentityKey(b"a" * 32), IdentityKey(b"b" * 32)
    assert newer_stays(high, low) and not newer_stays(low, high)
    assert newer_stays(low, low) and newer_stays(high, high)  # a second dial by the same device: the first is dead


async def test_both_devices_keep_the_same_one_of_two_links(tmp_path: Path) -> None:
    a, b, _ = devices(tmp_path)
    lower = min(a, b, key=lambda device: device.keys.identity_key)
    async with device_links(a, b) as (first, second), device_links(b, a) as (third, fourth):
        kept = []
        for older, newer in ((first, fourth), (third, second)):  # each device sees them in its own order
            sessions = PeerSessions()
            with sessions.hold(older):
                try:
                    with sessions.hold(newer):
                        kept.append(newer.dialler)
                        assert sessions.get(newer.identity) is newer
                except LinkLost:
                    kept.append(older.dialler)
                    assert sessions.links() == [older]
        assert kept == [lower.keys.identity_key] * 2
