"""A long, lossy cable between two network namespaces: delay, loss and rate, in this process of its own.

    python -m tests.support.wire SPEC

SPEC is JSON: {"ends": [[namespace, "address/prefix"], …], "delay_ms": …, "loss": …, "mbit": …}.

Each end is a TUN device `wire0`; packets wait here for their time. Kernels without netem can be tested so. Says `up`
once it carries, and carries until it is killed, which takes the devices away.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DEVICE = "wire0"
QUEUE_SECONDS = 0.1
"""What stands before a full wire; more is dropped, as in any router."""
_TUNSETIFF, _IFF_TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_CLONE_NEWNET = 0x40000000
_ROOT = Path(__file__).parents[2]


@contextmanager
def wire(*ends: tuple[str, str], delay_ms: float, loss: float = 0.0, mbit: float = 0.0) -> Iterator[None]:
    """Join two (namespace, address/prefix) for the length of the block. `delay_ms` one way; `loss` a share; `mbit` 0: any."""
    spec = json.dumps({"ends": ends, "delay_ms": delay_ms, "loss": loss, "mbit": mbit})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.wire", spec], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main(spec: str) -> None:
    wanted = json.loads(spec)
    descriptors = [_open(namespace, address) for namespace, address in wanted["ends"]]
    print("up", flush=True)
    _carry(descriptors, wanted["delay_ms"] / 1000, wanted["loss"], wanted["mbit"] * 1e6 / 8)


def _open(namespace: str, address: str) -> int:
    """A TUN device in the namespace; this process stays in its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN_WITHOUT_HEADER))
        libc.setns(own, _CLONE_NEWNET)
    finally:
        os.close(there)
        os.close(own)
    for words in (f"addr add {address} dev {DEVICE}", f"link set {DEVICE} up mtu 1500 txqueuelen 1000"):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)
    return device


def _carry(devices: Sequence[int], delay: float, loss: float, rate: float) -> None:
    """Until killed. `rate` in bytes a second, 0 for any."""
    waiting: list[tuple[float, int, int, bytes]] = []
    busy_until = [0.0, 0.0]
    chance, number = random.Random(5).random, 0
    poll = select.poll()
    for device in devices:
        poll.register(device, select.POLLIN)
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) * 1000 if waiting else None
        for device, _ in poll.poll(patience):
            end = devices.index(device)
            for packet in _packets(device):
                now = time.monotonic()
                if chance() < loss or (rate and busy_until[end] - now > QUEUE_SECONDS):
                    continue
                if rate:
                    now = busy_until[end] = max(busy_until[end], now) + len(packet) / rate
                number += 1
                heapq.heappush(waiting, (now + delay, number, devices[1 - end], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            try:
                os.write(device, packet)
            except OSError:
                continue  # the device is down or full: lost, as packets are


def _packets(device: int) -> Iterator[bytes]:
    for _ in range(64):
        try:
            yield os.read(device, 65536)
        except BlockingIOError:
            return


if __name__ == "__main__":
    main(sys.argv[1])
