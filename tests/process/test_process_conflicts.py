"""Laws of `p2psync conflicts` on the command line, with real processes, a real relay and real disks."""

from __future__ import annotations

import json

import pytest

from tests.support.folders import SharedFolder
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow


def test_a_conflict_is_listed_compared_and_settled_and_texts_merge_unless_told_not_to(folder: SharedFolder) -> None:
    a, b = folder.root("a"), folder.root("b")
    run = folder.machine.run
    (a / "f").write_text("base\n")
    (a / "g.txt").write_text("base\n")
    (a / "text").write_text("one\ntwo\nthree\n")
    folder.share()
    folder.join()
    folder.sync()
    (a / "f").write_text("written on a\n")
    (b / "f").write_text("written on b\n")
    (a / "g.txt").write_text("written on a\n")
    (b / "g.txt").write_text("written on b\n")
    (a / "text").write_text("ONE\ntwo\nthree\n")
    (b / "text").write_text("one\ntwo\nTHREE\n")
    wait_until(lambda: all((root / "text").read_text() == "ONE\ntwo\nTHREE\n" for root in (a, b)), "the merge")
    wait_until(lambda: all(len(list(root.glob("*.sync-conflict-*"))) == 2 for root in (a, b)), "the copies")
    listed = [json.loads(line) for line in run("a", "conflicts", "--json").stdout.splitlines()]
    assert [line["conflict"] for line in listed] == ["f", "g.txt"] and {side["own"] for side in (
        listed[0]["standing"], *listed[0]["copies"])} == {True, False}  # fmt: skip
    shown = run("a", "conflicts", str(a / "f"))
    assert shown.returncode == 0 and "written on a" in shown.stdout and "written on b" in shown.stdout
    wrong = run("a", "conflicts", str(a / "f"), "--keep", "nothing")
    assert wrong.returncode == 2
    settled = run("a", "conflicts", str(a / "f"), "--keep", "theirs")
    assert settled.returncode == 0, settled.stderr
    wait_until(lambda: all((root / "f").read_text() == "written on b\n" for root in (a, b)), "the choice")
    for tool, reason in (
        ("exit 3", "ended with 3"), ("true", "left your side as it was"), ('rm "$MERGED"', "left nothing to read"),
    ):  # fmt: skip
        failed = run("a", "conflicts", str(a / "g.txt"), "--merge", P2PSYNC_MERGE_TOOL=tool)
        assert failed.returncode == 1 and reason in failed.stderr, (failed.stdout, failed.stderr)
    tool = 'case "$MERGED" in *.txt) cat "$BASE" "$LOCAL" "$REMOTE" > "$MERGED";; esac'
    merged = run("a", "conflicts", str(a / "g.txt"), "--merge", "--tool", tool)
    assert merged.returncode == 0, merged.stderr
    made = "base\nwritten on a\nwritten on b\n"
    wait_until(lambda: all((root / "g.txt").read_text() == made for root in (a, b)), "the merge by hand")
    wait_until(lambda: not any(list(root.glob("*.sync-conflict-*")) for root in (a, b)), "no copies")
    none = run("a", "conflicts", str(a / "f"))
    assert none.returncode == 1 and "no conflict copy" in none.stderr and "Traceback" not in none.stderr
    off = json.loads(run("a", "folder", "text-merge", "off", "--json").stdout)
    assert off["text_merge"] is False
    assert json.loads(run("a", "folder", "text-merge", "--json").stdout)["text_merge"] is False
