"""Networks of our own for tests: two devices behind NATs and a public host, in network namespaces of this machine.

    left 10.1.0.2 — nat 203.0.113.11 — bridge in `public` (203.0.113.1) — nat 203.0.113.12 — right 10.2.0.2

Nothing leaves the machine; names carry this process's id, and everything goes away at the end of the block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

DOCUMENTATION = "203.0.113"
PUBLIC_ADDRESS = f"{DOCUMENTATION}.1"
ORDINARY = "11.22.33"
"""Where a router has an address of this kind: miniupnpd maps no ports at one reserved for documentation."""


class Nat(Enum):
    """What a NAT does with source ports."""

    MASQUERADE = "masquerade"
    """One outside port for one inside port, and only answers come in: most homes."""
    RANDOM = "masquerade fully-random"
    """Another port for every destination: some offices and mobile networks."""


@dataclass(frozen=True)
class Hosts:
    """Names of the namespaces in which programs run."""

    public: str
    left: str
    right: str
    nat_left: str
    """The router before `left`."""


def within(namespace: str) -> Sequence[str]:
    """Put before a command line: it runs in the namespace."""
    return ("ip", "netns", "exec", namespace)


@contextmanager
def upnp_router(nat: str, directory: Path) -> Iterator[None]:
    """miniupnpd maps ports of the NAT for hosts inside."""
    program = shutil.which("miniupnpd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        pytest.skip("miniupnpd is not installed (Debian: apt-get install miniupnpd)")
    # It needs these tables in the family inet, whatever they are called.
    _run(*within(nat), "nft", "-f", "-", text="""
table inet upnp_filter { chain mapped_forward {
}
}
table inet upnp_nat {
    chain incoming { type nat hook prerouting priority -100; jump mapped_in; }
    chain mapped_in {
    }
    chain mapped_out {
    }
}
""")  # fmt: skip
    settings = directory / "miniupnpd.conf"
    settings.write_text(
        "ext_ifname=outside\nlistening_ip=inside\nport=0\nenable_upnp=yes\nenable_natpmp=no\nsecure_mode=yes\n"
        "upnp_table_name=upnp_filter\nupnp_nat_table_name=upnp_nat\nupnp_forward_chain=mapped_forward\n"
        "upnp_nat_chain=mapped_in\nupnp_nat_postrouting_chain=mapped_out\n"
        f"lease_file={directory / 'leases'}\nuuid=00000000-0000-0000-0000-000000000001\n"
        "allow 1024-65535 10.0.0.0/8 1024-65535\n"
    )
    with (directory / "miniupnpd.log").open("wb") as log:
        process = subprocess.Popen(
            [*within(nat), program, "-d", "-f", str(settings), "-P", str(directory / "miniupnpd.pid")],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def mapped_ports(nat: str) -> list[str]:
    """The rules by which the NAT passes ports on."""
    command = (*within(nat), "nft", "list", "chain", "inet", "upnp_nat", "mapped_in")
    rules = subprocess.run(command, capture_output=True, text=True).stdout
    return [line.strip() for line in rules.splitlines() if "dnat" in line]


def need_namespaces() -> None:
    """Skip, saying why, where this machine cannot make them."""
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    name = f"p2psync-{os.getpid()}-probe"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"network namespaces cannot be made in this container: {probe.stderr.strip()}")
    _ip(f"netns del {name}")


@contextmanager
def two_nats(kind: Nat, network: str = DOCUMENTATION) -> Iterator[Hosts]:
    """`network`: the first three numbers of the addresses outside."""
    need_namespaces()
    prefix = f"p2psync-{os.getpid()}-"
    names = [prefix + name for name in ("public", "natleft", "natright", "left", "right")]
    public, nat_left, nat_right, left, right = names
    try:
        for name in names:
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
        _ip(f"-n {public} link add bridge0 type bridge")
        _ip(f"-n {public} addr add {network}.1/24 dev bridge0")
        _ip(f"-n {public} link set bridge0 up")
        _connect(public, nat_left, left, 1, kind, network)
        _connect(public, nat_right, right, 2, kind, network)
        yield Hosts(public, left, right, nat_left)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextmanager
def one_lan() -> Iterator[tuple[str, str]]:
    """Two hosts on one cable, 10.5.0.1 and 10.5.0.2."""
    need_namespaces()
    left, right = (f"p2psync-{os.getpid()}-{side}" for side in ("lanleft", "lanright"))
    try:
        for name in (left, right):
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
        _ip(f"link add eth0 netns {left} type veth peer name eth0 netns {right}")
        for number, name in enumerate((left, right), 1):
            # The other one's tentative address would take a second or two to become usable.
            _run(*within(name), "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad")
            _ip(f"-n {name} addr add 10.5.0.{number}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
        yield left, right
    finally:
        for name in (left, right):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextmanager
def one_switch(count: int) -> Iterator[list[str]]:
    """Hosts on one switch, 10.6.0.1 and on; host number n is at its port n."""
    need_namespaces()
    switch, *hosts = (f"p2psync-{os.getpid()}-{name}" for name in ("switch", *(f"host{n + 1}" for n in range(count))))
    try:
        for name in (switch, *hosts):
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
        _ip(f"-n {switch} link add bridge0 type bridge")
        _ip(f"-n {switch} link set bridge0 up")
        for number, name in enumerate(hosts, 1):
            _ip(f"link add eth0 netns {name} type veth peer name port{number} netns {switch}")
            _ip(f"-n {switch} link set port{number} master bridge0")
            _ip(f"-n {switch} link set port{number} up")
            _ip(f"-n {name} addr add 10.6.0.{number}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
        yield hosts
    finally:
        for name in (switch, *hosts):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two hosts that nothing joins yet (see `wire`), with the congestion control of old: the kernel's own default."""
    need_namespaces()
    left, right = (f"p2psync-{os.getpid()}-far{side}" for side in ("left", "right"))
    try:
        for name in (left, right):
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
            _run(*within(name), "sh", "-c", "echo reno > /proc/sys/net/ipv4/tcp_congestion_control")
        yield left, right
    finally:
        for name in (left, right):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextmanager
def silence(namespace: str, *directions: str, other: str = "0.0.0.0/0") -> Iterator[None]:
    """Packets of the host from or to `other` disappear without a word: `input`, `output`, or both. IPv6 does anyway."""
    chains = "".join(
        f'chain {each} {{ type filter hook {each} priority 0; {name} "lo" accept; ip {side} {other} drop; '
        "meta nfproto ipv6 drop; }\n"
        for each in directions
        for name, side in (("iifname", "saddr") if each == "input" else ("oifname", "daddr"),)
    )
    _run(*within(namespace), "nft", "-f", "-", text=f"table inet silence {{\n{chains}}}\n")
    try:
        yield
    finally:
        _run(*within(namespace), "nft", "delete", "table", "inet", "silence")


@contextmanager
def refusing(nat: str, other: str) -> Iterator[None]:
    """The NAT answers everything between its hosts and `other` with a TCP reset, connections that stand included."""
    reset = "reject with tcp reset"
    rules = f"""
table ip refusal {{
    chain forward {{
        type filter hook forward priority -10;
        meta l4proto tcp ip daddr {other} {reset}; meta l4proto tcp ip saddr {other} {reset};
    }}
}}
"""
    _run(*within(nat), "nft", "-f", "-", text=rules)
    try:
        yield
    finally:
        _run(*within(nat), "nft", "delete", "table", "ip", "refusal")


def move_host(namespace: str, address: str) -> None:
    """The host loses its IPv4 addresses and gets another one."""
    take_v4(namespace)
    _ip(f"-n {namespace} addr add {address} dev eth0")


def received_bytes(namespace: str) -> int:
    """What the host's cable has brought since it was plugged in, headers included."""
    command = [*within(namespace), "cat", "/sys/class/net/eth0/statistics/rx_bytes"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def take_v4(namespace: str) -> None:
    """The host loses its IPv4 addresses and keeps the cable."""
    _ip(f"-n {namespace} -4 addr flush dev eth0")


def _connect(public: str, nat: str, host: str, number: int, kind: Nat, network: str) -> None:
    _ip(f"link add outside netns {nat} type veth peer name port{number} netns {public}")
    _ip(f"-n {public} link set port{number} master bridge0")
    _ip(f"-n {public} link set port{number} up")
    _ip(f"-n {nat} addr add {network}.{10 + number}/24 dev outside")
    _ip(f"-n {nat} link set outside up")
    _ip(f"link add inside netns {nat} type veth peer name eth0 netns {host}")
    _ip(f"-n {nat} addr add 10.{number}.0.1/24 dev inside")
    _ip(f"-n {nat} link set inside up")
    _ip(f"-n {host} addr add 10.{number}.0.2/24 dev eth0")
    _ip(f"-n {host} link set eth0 up")
    _ip(f"-n {host} route add default via 10.{number}.0.1")
    _run(*within(nat), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    rules = f"""
table ip translation {{
    chain out {{ type nat hook postrouting priority 100; oifname "outside" {kind.value}; }}
}}
table ip door {{
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "inside" accept; ct state established,related accept; ct status dnat accept;
    }}
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname {{ "lo", "inside" }} accept; ct state established,related accept;
    }}
}}
"""
    _run(*within(nat), "nft", "-f", "-", text=rules)


def _ip(words: str) -> None:
    _run("ip", *words.split())


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr}"
