"""The main job on real input: real processes, a real relay over TCP and TLS, real directories."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from p2psync.crypto.signing import SigningKey
from p2psync.errors import AccessRefused
from p2psync.ids import NamespaceId
from p2psync.net.network import TcpNetwork
from p2psync.net.urls import parse_relay_url
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.relay_link import open_relay_link
from tests.support.devices import tree_of
from tests.support.folders import SharedFolder, copy_library, peak_megabytes, shared_folder

pytestmark = pytest.mark.slow

MIB = 1 << 20


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, 4 * MIB):
            file.write(os.urandom(min(4 * MIB, size - start)))


def test_the_standard_library_syncs_both_ways(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        count = copy_library(folder.root("a") / "library")
        folder.share()
        folder.join()
        copied = copy_library(folder.root("b") / "from b", "json", "asyncio", "email")
        folder.sync()
        assert count > 1000 and copied > 30
        assert len(tree_of(folder.root("a"))) > count + copied


@pytest.mark.huge
def test_a_gibibyte_arrives_whole_and_no_process_grows_above_300_megabytes(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        write_random(folder.root("a") / "big.bin", 1024 * MIB)
        folder.share()
        folder.join()
        folder.machine.run("a", "sync", "--timeout", "110")
        folder.sync()
        peaks = {name: peak_megabytes(process) for name, process in folder.processes.items()}
        peaks["relay"] = peak_megabytes(folder.machine.relay_process)
        assert max(peaks.values()) < 300, peaks


def test_names_and_kinds_of_every_sort_arrive_and_special_files_are_flagged_and_left(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        root = folder.root("a")
        names = [
            "with space",
            "new\nline",
            "emoji 😀",
            "n" * 255,
            "é" * 127,
            "e\u0301",
            "é",
            "tab\t",
            "-dash",
            "~",
            "a\\b",
        ]
        for name in names:
            (root / name).write_bytes(name.encode())
        (root / os.fsdecode(b"not utf-8 \xff\xfe")).write_bytes(b"bytes")
        (root / "sparse").touch()
        os.truncate(root / "sparse", 64 * MIB)
        (root / "empty dir").mkdir()
        (root / "dangling").symlink_to("no/such\nplace")
        os.mkfifo(root / "fifo")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(root / "socket"))
        folder.share()
        folder.join()
        for device in ("a", "b"):
            done = folder.machine.run(device, "sync", "--timeout", "60")
            assert done.returncode == 0, done.stderr
        expected = {name: seen for name, seen in tree_of(root).items() if seen[0] != "special"}
        folder.machine.run("b", "sync", "--timeout", "60")
        assert tree_of(folder.root("b")) == expected
        assert len(expected) == len(names) + 4
        flagged = {problem["path"]: problem["reason"] for problem in folder.status("a")["problems"]}  # type: ignore[attr-defined]
        assert "FIFO" in flagged["fifo"] and "socket" in flagged["socket"]


def test_unreadable_files_and_directories_are_flagged_and_never_taken_for_deletes(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        if os.geteuid() == 0:  # root reads everything unless that power is taken from it
            folder.machine.wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
        root = folder.root("a")
        (root / "closed").mkdir()
        (root / "closed" / "inside").write_bytes(b"inside")
        (root / "secret").write_bytes(b"readable at first")
        folder.share()
        folder.join()
        folder.sync()
        for name in ("secret", "closed"):
            (root / name).chmod(0)
        (root / "never seen").write_bytes(b"")
        (root / "never seen").chmod(0)
        folder.machine.run("a", "sync", "--timeout", "60")
        folder.machine.run("b", "sync", "--timeout", "60")
        assert (folder.root("b") / "secret").read_bytes() == b"readable at first"
        assert (folder.root("b") / "closed").exists()
        flagged = {problem["path"]: problem["reason"] for problem in folder.status("a")["problems"]}  # type: ignore[attr-defined]
        assert {"never seen", "closed"} <= flagged.keys()
        (root / "closed").chmod(0o755)
        folder.machine.run("a", "sync", "--timeout", "60")
        folder.machine.run("b", "sync", "--timeout", "60")
        assert (folder.root("b") / "closed" / "inside").read_bytes() == b"inside"


def test_a_file_replaced_by_a_fifo_is_no_deletion(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        root = folder.root("a")
        (root / "kept").write_bytes(b"kept on b")
        folder.share()
        folder.join()
        folder.sync()
        (root / "kept").unlink()
        os.mkfifo(root / "kept")
        folder.machine.run("a", "sync", "--timeout", "60")
        folder.machine.run("b", "sync", "--timeout", "60")
        assert (folder.root("b") / "kept").read_bytes() == b"kept on b"


async def test_a_stranger_with_the_relays_address_gets_nothing(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        (folder.root("a") / "private.txt").write_bytes(b"nobody else's")
        folder.share()
        folder.machine.run("a", "sync", "--timeout", "60")
        namespace = NamespaceId(bytes.fromhex(next((tmp_path / "relay" / "namespaces").iterdir()).name))
        async with open_relay_link(
            parse_relay_url(folder.url), network=TcpNetwork(), clock=SystemClock(), randomness=SystemRandomness()
        ) as link:
            for key in (SigningKey(os.urandom(32)), SigningKey(bytes(32))):
                with pytest.raises(AccessRefused):
                    await link.login(namespace, key)


def test_a_relay_killed_and_restarted_in_the_middle_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        size = 192 * MIB
        write_random(folder.root("a") / "big.bin", size)
        folder.share()
        for _ in range(3):
            _wait_for_packs(folder, len(folder.packs()) + 2)
            folder.machine.relay_process.end(signal.SIGKILL)
            folder.restart_relay()
        folder.code = _fresh_code(folder)
        folder.join()
        folder.sync()
        assert sum(pack.stat().st_size for pack in folder.packs()) < size * 1.07 + 3 * 16 * MIB


def test_devices_killed_in_the_middle_go_on_where_they_were(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        size = 160 * MIB
        write_random(folder.root("a") / "big.bin", size)
        copy_library(folder.root("a") / "library", "asyncio", "email", "json", "unittest")
        folder.share()
        for _ in range(2):
            _wait_for_packs(folder, len(folder.packs()) + 2)
            folder.processes["a"].end(signal.SIGKILL)
            folder.start("a")
        folder.machine.run("a", "sync", "--timeout", "100")
        assert sum(pack.stat().st_size for pack in folder.packs()) < (size + 16 * MIB) * 1.07 + 2 * 16 * MIB
        folder.code = _fresh_code(folder)
        folder.join()
        for _ in range(3):
            _wait_for_bytes(folder.root("b"), 24 * MIB)
            folder.processes["b"].end(signal.SIGKILL)
            folder.start("b")
        folder.sync()
        assert not any("sync-conflict" in name for name in tree_of(folder.root("b")))
        assert not list(folder.root("b").rglob(".p2psync.*.tmp"))


def test_a_flipped_byte_in_a_stored_pack_is_refused_named_and_fetched_again_once_good(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        content = os.urandom(3 * MIB)
        (folder.root("a") / "precious.bin").write_bytes(content)
        folder.share()
        assert folder.machine.run("a", "sync", "--timeout", "60").returncode == 0
        (pack,) = folder.packs()
        _flip(pack, pack.stat().st_size // 3)
        folder.join()
        done = folder.machine.run("b", "sync", "--timeout", "5")
        assert done.returncode == 4
        reasons = [problem["reason"] for problem in folder.status("b")["problems"]]  # type: ignore[attr-defined]
        assert any(pack.name[:16] in reason and "damaged" in reason for reason in reasons), reasons
        assert not (folder.root("b") / "precious.bin").exists()
        _flip(pack, pack.stat().st_size // 3)
        folder.sync()
        assert (folder.root("b") / "precious.bin").read_bytes() == content
        assert not folder.status("b")["problems"]


def _flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def _wait_for_packs(folder: SharedFolder, count: int) -> None:
    """Poll until the relay holds this many packs (or everything)."""
    for _ in range(200_000):
        if len(folder.packs()) >= count:
            return
    raise AssertionError(f"the relay holds {len(folder.packs())} packs, not {count}")


def _wait_for_bytes(root: Path, count: int) -> None:
    for _ in range(200_000):
        if sum(path.lstat().st_blocks * 512 for path in root.iterdir()) >= count:
            return
    raise AssertionError("nothing arrives")


def _fresh_code(folder: SharedFolder) -> str:
    """A code from the running peer, printed while it waits."""
    pairing = folder.machine.device("a", "pair", "--json")
    code: str = pairing.first_json(lambda said: "code" in said)["code"]
    return code
