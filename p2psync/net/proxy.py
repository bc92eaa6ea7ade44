"""Connections to relays through the proxy the user's environment names: SOCKS4, SOCKS5 or HTTP CONNECT.

Owns the reading of HTTPS_PROXY, ALL_PROXY and NO_PROXY (either case, as curl reads them) and the translation of
python-socks' errors. Host names are resolved by the proxy, never here: whoever uses one does not want to be seen asking.
Listening is never proxied. It does not know what the connection is for; whoever wants direct ones uses the plain network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import trio
from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.trio import Proxy

from p2psync.errors import LinkLost, UserError
from p2psync.net.network import Network, place

CONNECT_SECONDS = 30
_KINDS = {
    "socks5": (ProxyType.SOCKS5, 1080),
    "socks5h": (ProxyType.SOCKS5, 1080),
    "socks4": (ProxyType.SOCKS4, 1080),
    "socks4a": (ProxyType.SOCKS4, 1080),
    "socks": (ProxyType.SOCKS5, 1080),
    "http": (ProxyType.HTTP, 8080),
}


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """One proxy. Its text form, for messages, leaves user and password out."""

    kind: ProxyType
    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{place(self.host, self.port)}"

    def __repr__(self) -> str:
        return f"ProxyAddress({self})"


def parse_proxy(text: str, variable: str) -> ProxyAddress:
    """Read a proxy URL; UserError names the variable it stands in."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    found = _KINDS.get(parts.scheme)
    if host is None or found is None:
        raise UserError(f"{variable} must look like socks5://host:port or http://host:port")
    kind, usual = found
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return ProxyAddress(kind, parts.scheme, host, port or usual, user, password)


class ProxiedNetwork:
    """A network that connects through the environment's proxy where there is one, and else through `direct`."""

    def __init__(self, direct: Network, environment: Mapping[str, str], *, loopback: bool = False) -> None:
        """`loopback` sends even connections to this machine through the proxy."""
        self._direct, self._environment, self._loopback = direct, environment, loopback

    def proxy_for(self, host: str, port: int) -> ProxyAddress | None:
        """The proxy that is used towards host:port. UserError when the environment names one that cannot be read."""
        if (not self._loopback and _is_loopback(host)) or self._excepted(host, port):
            return None
        for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            if text := self._environment.get(variable, "").strip():
                return parse_proxy(text, variable)
        return None

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        proxy = self.proxy_for(host, port)
        if proxy is None:
            return await self._direct.connect(host, port)
        client = Proxy(proxy.kind, proxy.host, proxy.port, proxy.user, proxy.password, rdns=True)
        try:
            return trio.SocketStream(await client.connect(host, port, timeout=CONNECT_SECONDS))
        except ProxyTimeoutError as error:
            raise LinkLost(f"the proxy {proxy} did not connect to {place(host, port)} in time") from error
        except ProxyError as error:
            raise LinkLost(f"the proxy {proxy} refuses to connect to {place(host, port)}: {error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise LinkLost(f"cannot use the proxy {proxy} to reach {place(host, port)}: {reason}") from error

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        return await self._direct.listen(host, port)

    def _excepted(self, host: str, port: int) -> bool:
        text = self._environment.get("no_proxy") or self._environment.get("NO_PROXY") or ""
        return any(_matches(item.strip().lower(), host.lower().rstrip("."), port) for item in text.split(","))


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host.lower() == "localhost" or host.lower().endswith(".localhost")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _matches(item: str, host: str, port: int) -> bool:
    """Whether one item of NO_PROXY covers host:port: `*`, an address or network, or a domain with all below it."""
    if item in ("", "*"):
        return item == "*"
    address = _address(host)
    try:
        if address is not None:
            return address in ipaddress.ip_network(item.strip("[]"), strict=False)
    except ValueError:
        pass  # not a network: an address with a port, or a name
    name, colon, number = item.rpartition(":")
    if colon and number.isdigit() and (name.endswith("]") or ":" not in name):
        return int(number) == port and _matches(name, host, port)
    domain = item.removeprefix("*").strip(".")
    return address is None and (host == domain or host.endswith(f".{domain}"))
