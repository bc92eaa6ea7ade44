"""Runs a device again and again in a process of its own that is killed (SIGKILL) after the time it is given.

    python -m tests.support.mortal HOME        a number of milliseconds on each line of standard input, and, if the
                                               death shall come while the disk is being changed, the word `changing`

Each life is a fork of this process, so everything is imported already and a life begins within milliseconds; what it
runs is the peer of `p2psync serve`. After each death one JSON object is printed.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import trio

from p2psync.cli.hosting import serve
from p2psync.cli.options import PeerOptions
from p2psync.cli.screen import Screen
from p2psync.node.link_options import LinkOptions

WAIT_SECONDS = 0.5


def live(home: Path) -> None:
    """The child: a peer until it dies."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    links = LinkOptions(listen=("127.0.0.1", 0))
    trio.run(serve, PeerOptions(home, True, None, links=links), Screen(as_json=True))


def is_changing(home: Path) -> bool:
    """Whether the device is, or was when it died, in the middle of changing the disk."""
    (catalog,) = (home / "folders").glob("*.db")
    with closing(sqlite3.connect(catalog)) as opened:
        return bool(opened.execute("SELECT count(*) FROM intent").fetchone()[0])


def wait_for_change(home: Path) -> None:
    """Until the device changes the disk, or a while has passed in which it had nothing to do."""
    end = time.monotonic() + WAIT_SECONDS
    while not is_changing(home) and time.monotonic() < end:
        time.sleep(0.001)


def main(home: Path) -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            live(home)
            os._exit(1)
        milliseconds, _, when = line.strip().partition(" ")
        time.sleep(int(milliseconds) / 1000)
        if when:
            wait_for_change(home)
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print(json.dumps({"killed": not ended, "status": status}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
