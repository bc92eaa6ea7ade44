"""A home that was put back from a backup or copied to a second machine, with real processes and a real relay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.folders import shared_folder
from tests.support.processes import tree, wait_until

pytestmark = pytest.mark.slow


def same(*roots: Path) -> set[str]:
    """The names in trees that are equal; nothing while they are not, or while one changes under the reader."""
    try:
        trees = [tree(root) for root in roots]
    except FileNotFoundError:
        return set()
    return set(trees[0]) if all(each == trees[0] for each in trees) else set()


def test_a_home_put_back_from_a_backup_goes_on_and_undoes_nothing(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        a, b = folder.root("a"), folder.root("b")
        for number in range(10):
            (a / f"{number}").write_text(f"number {number}\n" * 1000)
        folder.share()
        folder.join()
        folder.sync()
        home, saved = folder.machine.home("a"), tmp_path / "saved"
        folder.processes["a"].end()
        shutil.copytree(home, saved / "home", symlinks=True)
        shutil.copytree(a, saved / "tree", symlinks=True)
        folder.start("a")
        folder.sync()
        (a / "0").write_text("after the backup")
        (a / "1").unlink()
        (a / "new").write_text("after the backup")
        folder.sync()

        # The disk fails, the backup is put back whole.
        folder.processes["a"].end(9)
        for there, kept in ((home, saved / "home"), (a, saved / "tree")):
            shutil.rmtree(there)
            shutil.copytree(kept, there, symlinks=True)
        folder.start("a")
        wait_until(lambda: (a / "new").exists(), "what the first life wrote")
        folder.sync()
        assert (a / "0").read_text() == (b / "0").read_text() == "after the backup" and not (b / "1").exists()
        (a / "2").write_text("in the second life")
        folder.sync()
        assert (b / "2").read_text() == "in the second life" and len(list(b.iterdir())) == 11


def test_a_home_copied_to_a_second_machine_goes_on_beside_the_first(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        a, b = folder.root("a"), folder.root("b")
        (a / "shared").write_text("shared\n" * 1000)
        folder.share()
        folder.join()
        folder.sync()
        home, other = folder.machine.home("a"), tmp_path / "other"
        folder.processes["a"].end()
        shutil.copytree(home, other / "home", symlinks=True)
        shutil.copytree(a, other / "tree", symlinks=True)
        folder.start("a")
        (a / "by the first").write_text("first")
        folder.sync()

        # The second machine has the copies where the first has its own.
        mounts = f'mount --bind {other / "home"} {home} && mount --bind {other / "tree"} {a} && exec "$@"'
        folder.machine.wrapper = ("unshare", "-m", "sh", "-c", mounts, "sh")
        folder.machine.device("a", "serve", *folder.options)
        folder.machine.wrapper = ()
        wait_until(lambda: (other / "tree" / "by the first").exists(), "the copy's first contact")
        made = {"shared", "by the first"}
        for number in range(3):
            made |= {f"first {number}", f"second {number}", f"b {number}"}
            (a / f"first {number}").write_text("first")
            (other / "tree" / f"second {number}").write_text("second")
            (b / f"b {number}").write_text("b")
            wait_until(lambda made=frozenset(made): same(a, b, other / "tree") == made, "all three")
        (other / "tree" / "shared").write_text("changed by the copy")
        wait_until(lambda: (a / "shared").read_text() == (b / "shared").read_text() == "changed by the copy", "an edit")
        assert tree(b).keys() == made
