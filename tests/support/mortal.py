"""Runs a device again and again in a process of its own that is killed (SIGKILL) after the time it is given.

    python -m tests.support.mortal HOME        a number of milliseconds on each line of standard input

Each life is a fork of this process, so everything is imported already and a life begins within milliseconds; what it
runs is the peer of `p2psync serve`. After each death one JSON object is printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import trio

from p2psync.cli.options import PeerOptions
from p2psync.cli.running import serve
from p2psync.cli.screen import Screen
from p2psync.node.links import LinkOptions


def live(home: Path) -> None:
    """The child: a peer until it dies."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    links = LinkOptions(listen=("127.0.0.1", 0))
    trio.run(serve, PeerOptions(home, True, None, links=links), Screen(as_json=True))


def main(home: Path) -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            live(home)
            os._exit(1)
        time.sleep(int(line) / 1000)
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print(json.dumps({"killed": not ended, "status": status}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
