"""The relay as a real process: blind by its imports, private by its modes, whole after a kill, bounded in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

import p2psync
from p2psync.crypto.signing import SigningKey
from p2psync.net.network import TcpNetwork
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.relay_link import open_relay_link
from p2psync.session.remote import RemoteStore
from p2psync.wire.login import Right
from tests.support.objects import make_chain, make_feed_key, make_pack

ABOVE_THE_LINE = ("vault", "chunking", "index", "planner", "catalog", "replica", "pairing", "node", "cli")
OWNER = SigningKey(b"p" * 32)
SOURCE = Path(p2psync.__file__).parent.parent


def test_the_relay_imports_nothing_above_the_key_line() -> None:
    program = (
        "import sys, relay.__main__\n"
        f"bad = [name for name in sys.modules for floor in {ABOVE_THE_LINE!r} "
        "if name == 'p2psync.' + floor or name.startswith('p2psync.' + floor + '.')]\n"
        "assert 'relay.server' in sys.modules\n"
        "sys.exit(repr(bad) if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@contextmanager
def relay_process(
    directory: Path, *, source: Path = SOURCE, port: int = 0, umask: int = 0o022
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "relay", "serve", "--data", str(directory), "--listen", f"127.0.0.1:{port}"]
    environment = {**os.environ, "PYTHONPATH": str(source), "P2PSYNC_RELAY_OPEN": "1"}
    with subprocess.Popen(
        [*command, "--json"], cwd=source, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        umask=umask,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@asynccontextmanager
async def store_at(url: RelayUrl) -> AsyncIterator[RemoteStore]:
    async with open_relay_link(url, network=TcpNetwork(), clock=SystemClock(), randomness=SystemRandomness()) as link:
        yield await link.login(await link.create_namespace(OWNER), OWNER, Right.OWN)


@pytest.mark.slow
async def test_a_killed_relay_has_kept_what_it_acknowledged(tmp_path: Path) -> None:
    pack, chain = make_pack(1, 5_000_000), make_chain(make_feed_key(), 20)
    with relay_process(tmp_path / "data") as (process, said):
        url = parse_relay_url(said["url"])
        async with store_at(url) as store:
            await store.put([pack])
            for entry in chain:
                await store.put([(entry.key, entry.data)])
            process.kill()
    with relay_process(tmp_path / "data", port=url.port) as (process, said):
        assert said["url"] == str(url)
        async with store_at(url) as store:
            assert await store.get(pack[0]) == pack[1]
            assert (await store.heads())[chain[0].feed].seq == 20
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.slow
async def test_the_relay_runs_without_the_floors_above_the_line(tmp_path: Path) -> None:
    for package in ("p2psync", "relay"):
        shutil.copytree(SOURCE / package, tmp_path / package, ignore=shutil.ignore_patterns(*ABOVE_THE_LINE))
    assert not (tmp_path / "p2psync" / "vault").exists()
    with relay_process(tmp_path / "data", source=tmp_path) as (_, said):
        async with store_at(parse_relay_url(said["url"])) as store:
            await store.put([make_pack(1)])
            assert await store.get(make_pack(1)[0]) == make_pack(1)[1]


@pytest.mark.slow
async def test_everything_is_private_under_any_umask_and_one_relay_holds_a_directory(tmp_path: Path) -> None:
    with relay_process(tmp_path / "data", umask=0) as (process, said):
        async with store_at(parse_relay_url(said["url"])) as store:
            await store.put([make_pack(1)])
        for path in [tmp_path / "data", *_all_below(tmp_path / "data")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600) or (path.is_dir() and not mode & 0o077), path
        second = await trio.run_process(
            [sys.executable, "-m", "relay", "serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"],
            check=False, capture_stderr=True, cwd=SOURCE,
        )  # fmt: skip
        assert second.returncode == 1 and f"process {process.pid}".encode() in second.stderr


@pytest.mark.slow
async def test_many_big_puts_do_not_fill_the_relays_memory(tmp_path: Path) -> None:
    with relay_process(tmp_path / "data") as (process, said):
        url = parse_relay_url(said["url"])

        async def flood(first: int) -> None:
            async with store_at(url) as store, trio.open_nursery() as nursery:
                for seed in range(first, first + 12):
                    nursery.start_soon(store.put, [make_pack(seed, 12 * 1024 * 1024)])

        async with trio.open_nursery() as nursery:
            for first in range(0, 36, 12):
                nursery.start_soon(flood, first)
        status = await trio.Path(f"/proc/{process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 300 * 1024, f"{peak} KiB"


def _all_below(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))
