"""One example of every message, and a Hypothesis strategy for each, made from the table of forms."""

from __future__ import annotations

from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.wire import messages as m
from p2psync.wire.login import Right

_NONCE, _KEY, _SIGNATURE = bytes(range(32)), bytes(range(32, 64)), bytes(range(64))
_PACK = "p/" + "ab" * 32

EXAMPLES: tuple[m.Message, ...] = (
    m.ClientHello(versions=(1,), features=("later",), nonce=_NONCE, origin=None),
    m.ClientHello(versions=(1, 2), features=(), nonce=_NONCE, origin="wss://relay.example"),
    m.ServerHello(version=1, features=(), relay_key=RelayKey(_KEY), signature=_SIGNATURE, observed=None),
    m.ServerHello(
        version=1, features=("presence",), relay_key=RelayKey(_KEY), signature=_SIGNATURE, observed="203.0.113.9:40001"
    ),
    m.Credit(urgent=16384, bulk=4194304),
    m.Urgent(request=7, last=True),
    m.Bulk(request=8, last=False),
    m.Cancel(request=8),
    m.Ping(),
    m.Pong(),
    m.Failure(request=9, code=4, sentence="this object is not held here"),
    m.Done(request=10),
    m.Answer(request=11, size=262144, bulk=True),
    m.GetChallenge(request=12),
    m.Challenge(request=12, nonce=_NONCE, expiry=1_700_000_060),
    m.CreateNamespace(
        request=13, owner=AccessKey(_KEY), nonce=_NONCE, expiry=1_700_000_060, signature=_SIGNATURE, token="abc"
    ),
    m.CreateNamespace(
        request=13, owner=AccessKey(_KEY), nonce=_NONCE, expiry=1_700_000_060, signature=_SIGNATURE, token=None
    ),
    m.Created(request=13, namespace=NamespaceId(bytes(16))),
    m.Login(
        request=14, namespace=NamespaceId(bytes(16)), access_key=AccessKey(_KEY), right=Right.PUT, nonce=_NONCE,
        expiry=1_700_000_060, signature=_SIGNATURE,
    ),
    m.LoggedIn(request=14, channel=1),
    m.Grant(request=15, channel=1, access_key=AccessKey(_KEY), right=Right.GET),
    m.Grant(request=16, channel=1, access_key=AccessKey(_KEY), right=None),
    m.Put(request=17, channel=1, size=4200, table=74, bulk=True),
    m.Get(request=18, channel=1, key=_PACK, offset=65536, length=4096),
    m.Get(request=19, channel=1, key=_PACK, offset=0, length=None),
    m.List(request=20, channel=1, prefix="e/", after="", limit=1000),
    m.Missing(request=21, channel=1, size=70),
    m.Heads(request=22, channel=1),
    m.Watch(request=23, channel=1, seen=-1),
    m.Delete(request=24, channel=1, size=70),
    m.Restore(request=25, channel=1, size=70),
    m.GetUsage(request=26, channel=1),
    m.PutSlot(request=27, channel=1, slot=bytes(16), seconds=300, size=400),
    m.GetSlots(request=28, channel=1, size=18),
    m.WatchSlots(request=29, channel=1, seen=-1),
    m.OpenSplice(request=3, channel=1, rendezvous=bytes(16), side=m.SpliceSide.DIALS),
    m.Spliced(request=3),
    m.ClaimMailbox(request=27, wanted=None),
    m.ClaimMailbox(request=28, wanted=7),
    m.Claimed(request=27, nameplate=7),
    m.PutMail(request=29, nameplate=7, side=m.Side.ADMIN, index=0, size=33),
    m.NextMail(request=30, nameplate=7, side=m.Side.JOINER, index=0),
    m.CloseMailbox(request=31, nameplate=7),
)  # fmt: skip
