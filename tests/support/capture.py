"""All that crosses a cable, byte for byte, as somebody beside it would see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_RECORD = """
import socket, sys
cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
cable.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
cable.bind(("eth0", 0))
print("ready", flush=True)
with open(sys.argv[1], "wb", buffering=0) as record:
    while True:
        record.write(cable.recv(1 << 17))
"""


@contextmanager
def captured(wrapper: Sequence[str], record: Path) -> Iterator[None]:
    """Write every frame at eth0 of the namespace of `wrapper` into the file `record`."""
    process = subprocess.Popen([*wrapper, sys.executable, "-c", _RECORD, str(record)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.communicate()
