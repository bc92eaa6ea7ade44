"""Laws of the command line, with real processes, a real relay and real disks."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2psync.node.home import Home
from tests.support.processes import Machine, clean_environment, tree, wait_until

pytestmark = pytest.mark.slow


def share(machine: Machine, url: str, name: str = "a", files: int = 5) -> str:
    """A shared folder with a few files; returns the code."""
    root = machine.directory / name
    (root / "deep" / "er").mkdir(parents=True)
    for number in range(files):
        (root / "deep" / "er" / f"file {number}").write_text(f"content {number}\n" * 100)
    said = machine.device(name, "share", str(root), "--relay", url, "--json").first_json(lambda line: "folder" in line)
    assert {"folder", "code", "label", "path"} <= said.keys()
    return str(said["code"])


def join(machine: Machine, url: str, code: str, name: str) -> Path:
    target = machine.directory / name
    process = machine.device(name, "join", str(target), "--relay", url, "--json", P2PSYNC_CODE=code)
    assert process.first_json(lambda line: "folder" in line)["path"] == str(target)
    return target


def same(machine: Machine, *names: str) -> None:
    trees = [tree(machine.directory / name) for name in names]
    assert all(other == trees[0] for other in trees)


def test_shared_files_arrive_and_changes_go_both_ways(machine: Machine) -> None:
    url = machine.relay("--open")
    target = join(machine, url, share(machine, url), "b")
    source = machine.directory / "a"
    wait_until(lambda: tree(target) == tree(source), "the first sync")
    (target / "from b").write_text("hello")
    wait_until(lambda: tree(target) == tree(source) and (source / "from b").exists(), "a change of b")
    (source / "from b").unlink()
    wait_until(lambda: not (target / "from b").exists(), "a delete of a")
    status = machine.status("b")
    folder = status["folders"][0]
    assert {"id", "label", "path", "state", "local_bytes", "global_bytes", "need_bytes", "need_files", "upload_bytes",
            "conflicts", "peers", "stores"} <= folder.keys()  # fmt: skip
    wait_until(lambda: machine.status("b")["folders"][0]["state"] == "idle", "idle")
    assert machine.run("b", "sync", "--timeout", "30").returncode == 0


def test_a_third_device_joins_through_any_admin(machine: Machine) -> None:
    url = machine.relay("--open")
    code = share(machine, url)
    target = machine.directory / "b"
    machine.device("b", "join", str(target), "--relay", url, "--json", P2PSYNC_CODE=code)
    wait_until(lambda: tree(target) == tree(machine.directory / "a"), "the first sync")
    refused = machine.run("b", "pair", "--yes", "--no-wait", "--json")
    assert refused.returncode == 1 and "only an admin" in refused.stderr
    admin = machine.device("a", "pair", "--role", "admin", "--json")
    second_code = admin.first_json(lambda line: "code" in line)["code"]
    join(machine, url, second_code, "c")
    assert admin.wait() == 0
    wait_until(lambda: len(machine.status("c")["folders"][0]["peers"]) == 2, "c knows both others")
    third = json.loads(machine.run("c", "pair", "--no-wait", "--json").stdout.splitlines()[0])["code"]
    join(machine, url, third, "d")
    wait_until(lambda: tree(machine.directory / "d") == tree(machine.directory / "a"), "d has everything")
    (machine.directory / "d" / "by d").write_text("from the last one")
    wait_until(lambda: (machine.directory / "b" / "by d").exists(), "b has what d wrote")


def test_a_wrong_code_burns_it_and_tells_both_sides(machine: Machine) -> None:
    url = machine.relay("--open")
    root = machine.directory / "a"
    root.mkdir()
    sharing = machine.device("a", "share", str(root), "--relay", url, "--json")
    code = str(sharing.first_json(lambda line: "code" in line)["code"])
    head, _, last = code.rpartition("-")
    wrong = f"{head}-{'atlas' if last != 'atlas' else 'aztec'}"
    refused = machine.run("b", "join", wrong, "b", "--relay", url)
    assert refused.returncode == 5 and "did not match" in refused.stderr and "Traceback" not in refused.stderr
    assert sharing.wait() == 5 and "did not match" in machine.log("a")
    again = machine.run("b", "join", code, "b", "--relay", url)
    assert again.returncode != 0 and not (machine.directory / "b").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_peer_cleanly(machine: Machine, number: int) -> None:
    url = machine.relay("--open")
    root = machine.directory / "a"
    root.mkdir()
    process = machine.device("a", "share", str(root), "--relay", url, "--json")
    process.first_json(lambda line: "code" in line)
    assert process.end(number) == 0
    assert "Traceback" not in machine.log("a") and not (machine.home("a") / "control.sock").exists()
    serving = machine.device("a", "serve", "--json")
    serving.first_json(lambda line: "device" in line)
    assert serving.end(number) == 0 and "Traceback" not in machine.log("a")


def test_two_peers_on_one_home_are_refused_and_commands_reach_the_first(machine: Machine) -> None:
    serving = machine.device("a", "serve", "--json")
    serving.first_json(lambda line: "device" in line)
    second = machine.run("a", "serve")
    assert second.returncode == 1 and f"process {serving.pid}" in second.stderr
    assert machine.status("a")["folders"] == []
    assert machine.run("a", "stop").returncode == 0
    assert serving.wait() == 0


def test_a_peer_waits_for_a_command_that_runs_its_device_for_a_moment(machine: Machine) -> None:
    with Home(machine.home("a")).lock("explain", stays=False):
        serving = machine.device("a", "serve")
        wait_until(
            lambda: any("waiting for another command" in line for line in serving.lines), "it says what it waits for"
        )
    wait_until(lambda: "runs 0 folders" in serving.lines[-1], "it runs")
    assert serving.end(signal.SIGTERM) == 0


def test_a_killed_peer_comes_back_with_its_folder(machine: Machine) -> None:
    url = machine.relay("--open")
    target = join(machine, url, share(machine, url), "b")
    wait_until(lambda: tree(target) == tree(machine.directory / "a"), "the first sync")
    for name in ("a", "b"):
        os.kill(json.loads(machine.run(name, "paths", "--json").stdout) and _holder(machine, name), signal.SIGKILL)
    (machine.directory / "a" / "while away").write_text("changed while nobody ran")
    assert machine.run("a", "sync", "--timeout", "30").returncode == 0
    assert machine.run("b", "sync", "--timeout", "30").returncode == 0
    same(machine, "a", "b")


def _holder(machine: Machine, name: str) -> int:
    return int((machine.home(name) / "lock").read_text().split()[0])


def test_sharing_through_a_running_peer_and_pairing_again(machine: Machine) -> None:
    url = machine.relay("--open")
    serving = machine.device("a", "serve", "--relay", url, "--json")
    serving.first_json(lambda line: "device" in line)
    root = machine.directory / "a"
    root.mkdir()
    (root / "x").write_text("x")
    added = machine.run("a", "folder", "add", str(root), "--json")
    assert added.returncode == 0 and json.loads(added.stdout)["path"] == str(root)
    code = json.loads(machine.run("a", "pair", "--no-wait", "--json").stdout)["code"]
    target = join(machine, url, code, "b")
    wait_until(lambda: tree(target) == tree(root), "the first sync")
    listed = json.loads(machine.run("a", "folder", "list", "--json").stdout)
    assert [folder["path"] for folder in listed["folders"]] == [str(root)]


def test_a_relay_by_invitation_wants_its_token(machine: Machine) -> None:
    url = machine.relay()
    root = machine.directory / "a"
    root.mkdir()
    refused = machine.run("a", "share", str(root), "--relay", url, "--json")
    assert refused.returncode == 1 and "invite" in refused.stderr
    token = (machine.directory / "relay" / "invite").read_text().strip()
    process = machine.device("a", "share", str(root), "--relay", url, "--json", P2PSYNC_RELAY_INVITE=token)
    process.first_json(lambda line: "code" in line)
    assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()


def test_an_unreachable_relay_is_exit_code_3_and_leaves_no_trace(machine: Machine) -> None:
    url = machine.relay("--open")
    assert machine.relay_process.end() == 0
    root = machine.directory / "a"
    root.mkdir()
    refused = machine.run("a", "share", str(root), "--relay", url)
    assert refused.returncode == 3 and "connect" in refused.stderr and not (root / ".p2psync").exists()


def test_pairing_outlives_a_restart_of_the_relay(machine: Machine) -> None:
    url = machine.relay("--open")
    code = share(machine, url)
    machine.relay_process.end(signal.SIGKILL)
    assert machine.relay("--open", port=int(url.split(":")[2].split("/")[0])) == url
    wait_until(lambda: machine.status("a")["folders"][0]["stores"][0]["connected"], "the link is back")
    target = machine.directory / "b"

    def joined() -> bool:
        # The admin says everything again within seconds; until then the code is not known.
        if target.exists():
            return True
        process = machine.device("b", "join", str(target), "--relay", url, "--json", P2PSYNC_CODE=code)
        try:
            process.first_json(lambda line: "folder" in line)
        except AssertionError:
            return False
        return True

    wait_until(joined, "joined after the restart")
    wait_until(lambda: tree(target) == tree(machine.directory / "a"), "the first sync")


@pytest.mark.parametrize("umask", [0o000, 0o277])
def test_state_is_private_under_any_umask(machine: Machine, umask: int) -> None:
    home = machine.home("a")
    program = "import os, sys; os.umask(int(sys.argv[1])); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(umask), "-m", "p2psync.cli.main", "serve", "--json"],
        env=clean_environment() | {"P2PSYNC_HOME": str(home)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert "device" in process.stdout.readline()
    for path in (home, *home.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()


def test_the_demonstration_holds(machine: Machine) -> None:
    done = machine.run("a", "demo", TMPDIR=str(machine.directory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the laptop holds that: 50 files" in done.stdout
    assert "found none" in done.stdout and not list(machine.directory.glob("p2psync-demo-*"))
