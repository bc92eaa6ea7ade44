"""Where a client is: what limits count, what it is told, and whose word is taken for it."""

from __future__ import annotations

import pytest

from p2psync.net.websocket import Forwarded
from relay.addresses import Caller, _caller


@pytest.mark.parametrize(
    ("host", "group", "observed", "local"),
    [
        ("203.0.113.9", "203.0.113.9", "203.0.113.9:4711", False),
        ("::ffff:203.0.113.9", "203.0.113.9", "203.0.113.9:4711", False),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "[2001:db8:1:2:3::4]:4711", False),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:4711", True),
        ("::1", "::/64", "[::1]:4711", True),
    ],
)
def test_an_address_is_counted_by_its_owner_and_told_exactly(host: str, group: str, observed: str, local: bool) -> None:
    assert _caller(host, 4711) == Caller(group, observed, local)


def test_only_a_web_server_on_this_machine_speaks_for_others() -> None:
    named = Forwarded("203.0.113.9", 0)
    assert _caller("127.0.0.1", 1).through(named) == Caller("203.0.113.9", "203.0.113.9:0")
    assert _caller("203.0.113.50", 1).through(named).group == "203.0.113.50"
    assert _caller("127.0.0.1", 1).through(None).group == "127.0.0.1"
