"""The table of docs/formats.md, "Versions and merging": each of its cells once, on the real disks of three devices.

A cell is played in a directory of its own by two devices that are apart, what each does as a line of shell; a third
device is away from before the first change until all is over. Then all talk, and every tree must be what the table
says. All cells are played at once, since they do not touch each other, and once more with the two devices exchanged.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from p2psync.seams import SystemClock
from p2psync.store.memory import MemoryStore
from tests.support.devices import Device, converge, idle, until, xattrs_of

pytestmark = pytest.mark.slow

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
COPY = re.compile(r"\.sync-conflict-\d{8}-\d{6}-[A-Z2-7]{7}")

Shown = dict[str, str]
"""name → a file's content, `/` for a directory, `-> target` for a symlink. A conflict copy of f is `f (copy)`."""


@dataclass(frozen=True)
class Cell:
    before: str
    """What is done before the devices part."""
    one: str
    other: str
    outcomes: list[Shown]
    """Any of these: which of two states has the higher record hash is not known beforehand."""
    mode: str = ""
    """A path whose permissions and extended attributes are shown too, behind its content."""


def either(name: str, one: str, other: str, **rest: str) -> list[Shown]:
    """One of two states stands, the other is its conflict copy."""
    return [{name: one, f"{name} (copy)": other, **rest}, {name: other, f"{name} (copy)": one, **rest}]


CONFLICT = "two devices have edited f"
"""A `before` that leaves f and its conflict copy, which hold 1 and 2."""
_COPY = "$(ls | grep sync-conflict)"


def tag(value: int) -> str:
    return f"{sys.executable} -c \"import os; os.setxattr('f', 'user.tag', b'{value}')\""


CELLS: dict[str, Cell] = {
    "create / create": Cell("", "echo 1 > f", "echo 2 > f", either("f", "1", "2")),
    "edit / edit": Cell("echo 0 > f", "echo 1 > f", "echo 2 > f", either("f", "1", "2")),
    "create / create or edit / edit with equal content": Cell(
        "echo 0 > g", "echo 1 > f; echo 1 > g", "echo 1 > f; echo 1 > g; chmod 600 f; touch -d 2001-01-01 g",
        [{"f": "1", "g": "1"}],
    ),
    "edit / delete": Cell("echo 0 > f", "echo 1 > f", "rm f", [{"f": "1"}]),
    "delete / delete": Cell("echo 0 > f", "rm f", "rm f", [{}]),
    "delete / a device that was away and has the file as it was": Cell(
        "echo 0 > f; touch -d 2039-01-01 f", "rm f", "", [{}]
    ),
    "mode / edit": Cell("echo 0 > f", "chmod 600 f", "echo 1 > f", [{"f": "1 600"}], mode="f"),
    "mode / mode": Cell(
        "echo 0 > f", "chmod 600 f", "chmod 700 f", [{"f": "0 600"}, {"f": "0 700"}], mode="f"
    ),
    "mode / delete": Cell("echo 0 > f", "chmod 600 f", "rm f", [{"f": "0 600"}], mode="f"),
    "extended attributes / extended attributes": Cell(
        "echo 0 > f; chmod 600 f", tag(1), tag(2), [{"f": "0 600 tag=1"}, {"f": "0 600 tag=2"}], mode="f"
    ),
    "extended attributes / mode": Cell(
        "echo 0 > f; chmod 600 f", tag(1), "chmod 700 f", [{"f": "0 600 tag=1"}, {"f": "0 700"}], mode="f"
    ),
    "extended attributes / edit": Cell(
        "echo 0 > f; chmod 600 f", tag(1), "echo 1 > f", [{"f": "1 600 tag=1"}], mode="f"
    ),
    "extended attributes / delete": Cell(
        "echo 0 > f; chmod 600 f", tag(1), "rm f", [{"f": "0 600 tag=1"}], mode="f"
    ),
    "rename / rename to the same name": Cell("echo 0 > f", "mv f g", "mv f g", [{"g": "0"}]),
    "two files renamed to one name": Cell("echo 1 > e; echo 2 > f", "mv e g", "mv f g", either("g", "1", "2")),
    "rename / rename to different names": Cell("echo 0 > f", "mv f g", "mv f h", [{"g": "0", "h": "0"}]),
    "rename / edit of the old name": Cell("echo 0 > f", "mv f g", "echo 1 > f", [{"f": "1", "g": "0"}]),
    "rename / delete of the old name": Cell("echo 0 > f", "mv f g", "rm f", [{"g": "0"}]),
    "rename onto a name / edit of that name": Cell(
        "echo 0 > f; echo 1 > g", "mv f g", "echo 2 > g", either("g", "0", "2")
    ),
    "rename onto a name / delete of that name": Cell("echo 0 > f; echo 1 > g", "mv f g", "rm g", [{"g": "0"}]),
    "a renamed to b / b renamed to a": Cell(
        "echo 1 > a; echo 2 > b", "mv a b", "mv b a", [{"a": "2", "b": "1"}]
    ),
    "directory / directory": Cell(
        "", "mkdir -m 700 d; echo 1 > d/e", "mkdir -m 750 d; echo 2 > d/f",
        [{"d": "/ 700", "d/e": "1", "d/f": "2"}, {"d": "/ 750", "d/e": "1", "d/f": "2"}], mode="d",
    ),
    "directory deleted / its mode changed": Cell("mkdir d", "rmdir d", "chmod 700 d", [{"d": "/ 700"}], mode="d"),
    "directory deleted / something created in it": Cell(
        "mkdir d; echo 0 > d/e", "rm -r d", "echo 1 > d/f", [{"d": "/", "d/f": "1"}]
    ),
    "directory deleted / a file in it edited": Cell(
        "mkdir d; echo 0 > d/e; echo 0 > d/f", "rm -r d", "echo 1 > d/f", [{"d": "/", "d/f": "1"}]
    ),
    "directory deleted / directory deleted": Cell("mkdir -p d/d; echo 0 > d/d/f", "rm -r d", "rm -r d", [{}]),
    "directory renamed / something created in it": Cell(
        "mkdir d; echo 0 > d/e", "mv d g", "echo 1 > d/f", [{"d": "/", "d/f": "1", "g": "/", "g/e": "0"}]
    ),
    "directory renamed / a file in it edited": Cell(
        "mkdir d; echo 0 > d/f", "mv d g", "echo 1 > d/f", [{"d": "/", "d/f": "1", "g": "/", "g/f": "0"}]
    ),
    "directory renamed / renamed to another name": Cell(
        "mkdir d; echo 0 > d/f", "mv d g", "mv d h", [{"g": "/", "g/f": "0", "h": "/", "h/f": "0"}]
    ),
    "directory renamed / deleted": Cell(
        "mkdir d; echo 0 > d/f", "mv d g", "rm -r d", [{"g": "/", "g/f": "0"}]
    ),
    "directory a moved into b / b moved into a": Cell(
        "mkdir a b; echo 1 > a/e; echo 2 > b/f", "mv a b/a", "mv b a/b",
        [{"a": "/", "b": "/", "b/a": "/", "b/a/e": "1", "a/b": "/", "a/b/f": "2"}],
    ),
    "directory / file or symlink": Cell(
        "", "mkdir d g; echo 1 > d/f", "echo 2 > d; ln -s x g",
        [{"d": "/", "d/f": "1", "d (copy)": "2", "g": "/", "g (copy)": "-> x"}],
    ),
    "file replaced by a directory / edit": Cell(
        "echo 0 > f", "rm f; mkdir f; echo 1 > f/e", "echo 2 > f", [{"f": "/", "f/e": "1", "f (copy)": "2"}]
    ),
    "directory replaced by a file or symlink / something written below it": Cell(
        "mkdir d g; echo 0 > d/e", "rm -r d g; echo 1 > d; ln -s x g", "echo 2 > d/f; echo 2 > g/f",
        [{"d": "/", "d/f": "2", "d (copy)": "1", "g": "/", "g/f": "2", "g (copy)": "-> x"}],
    ),
    "file / symlink": Cell("", "echo 1 > f", "ln -s x f", [{"f": "1", "f (copy)": "-> x"}]),
    "file replaced by a symlink / edit": Cell(
        "echo 0 > f", "ln -sf x f", "echo 1 > f", [{"f": "1", "f (copy)": "-> x"}]
    ),
    "symlink / symlink": Cell("", "ln -s x f", "ln -s y f", either("f", "-> x", "-> y")),
    "symlink / symlink with one target": Cell("", "ln -s x f", "ln -s x f", [{"f": "-> x"}]),
    "symlink changed / delete": Cell("ln -s w f", "ln -sfn x f", "rm f", [{"f": "-> x"}]),
    "both created": Cell("", "echo 1 > e; echo 3 > ä", "echo 2 > E; echo 4 > a\u0308",
                         [{"e": "1", "E": "2", "ä": "3", "a\u0308": "4"}]),
    "case-only rename / edit of the old name": Cell("echo 0 > f", "mv f F", "echo 1 > f", [{"F": "0", "f": "1"}]),
    "case-only rename / delete of the old name": Cell("echo 0 > f", "mv f F", "rm f", [{"F": "0"}]),
    "case-only rename / case-only rename to another": Cell(
        "echo 0 > ff", "mv ff fF", "mv ff Ff", [{"fF": "0", "Ff": "0"}]
    ),
    "copy edited / copy deleted": Cell(
        CONFLICT, f"echo 3 > {_COPY}", f"rm {_COPY}", [{"f": "1", "f (copy)": "3"}, {"f": "2", "f (copy)": "3"}]
    ),
    "copy edited / what it is a copy of edited": Cell(
        CONFLICT, f"echo 3 > {_COPY}", "echo 4 > f",
        [{"f": "4", "f (copy)": "3"},
         *({"f": "4", **shown} for old in "12" for shown in either("f (copy)", "3", old))],
    ),
    "copy deleted / what it is a copy of edited or deleted": Cell(
        CONFLICT, f"rm {_COPY}", "rm f", [{"f (copy)": "1"}, {"f (copy)": "2"}]
    ),
}  # fmt: skip


def table() -> list[str]:
    """The first column of the table, without the rows that are headings."""
    lines = FORMATS.read_text().partition("| two concurrent changes |")[2].partition("\n\n")[0].splitlines()[2:]
    return [row for row in (line.split("|")[1].strip() for line in lines) if not row.startswith("**")]


def test_every_row_of_the_table_is_played() -> None:
    assert sorted(table()) == sorted(CELLS)


def shell(directory: Path, line: str) -> None:
    subprocess.run(["sh", "-ec", line or ":"], cwd=directory, check=True)


def shown(directory: Path, mode: str) -> Shown:
    found: Shown = {}
    for path in sorted(directory.rglob("*")):
        name = COPY.sub(" (copy)", str(path.relative_to(directory)))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "/" if path.is_dir() else path.read_text().strip()
            if mode and name == mode:
                found[name] += f" {path.stat().st_mode & 0o777:o}"
                found[name] += "".join(f" {key[5:]}={value.decode()}" for key, value in xattrs_of(path).items())
    return found


async def play(directory: Path, swapped: bool) -> list[dict[str, Shown]]:
    """What every device has of every cell in the end."""
    store = MemoryStore(clock=SystemClock())
    a, b, late = (
        Device(directory / name, seed, xattrs=True) for seed, name in enumerate(("a", "b", "late"), 1 + 3 * swapped)
    )
    one, other = (b, a) if swapped else (a, b)
    a.found()
    async with AsyncExitStack() as running:
        first = await running.enter_async_context(a.running(store))
        await b.admitted_by(first)
        await late.admitted_by(first)
        for number, cell in enumerate(CELLS.values()):
            (a.root / f"{number:02}").mkdir()
            shell(a.root / f"{number:02}", "echo 0 > f" if cell.before is CONFLICT else cell.before)
        await converge(
            first,
            await running.enter_async_context(b.running(store)),
            await running.enter_async_context(late.running(store)),
        )
    conflicts = [number for number, cell in enumerate(CELLS.values()) if cell.before is CONFLICT]
    for number in conflicts:
        shell(one.root / f"{number:02}", "echo 1 > f")
        shell(other.root / f"{number:02}", "echo 2 > f")
    async with a.running(store) as first, b.running(store) as second:
        await converge(first, second)
    for number, cell in enumerate(CELLS.values()):
        shell(one.root / f"{number:02}", cell.one)
        shell(other.root / f"{number:02}", cell.other)
    for device in (a, b):  # each publishes before it hears of the other
        async with device.running(None) as alone:
            await alone.rescan()
            with trio.fail_after(10):
                while (await alone.status()).state != "idle":  # noqa: ASYNC110  deletions wait a moment
                    await trio.sleep(0.01)
    for devices in ((a, b), (a, b, late)):
        async with AsyncExitStack() as running:
            replicas = [await running.enter_async_context(device.running(store)) for device in devices]
            await converge(*replicas)
            await converge(*replicas)
            for replica in replicas:
                status = await until(replica, idle)
                assert (status.need_files, status.problems) == (0, [])
    return [
        {row: shown(device.root / f"{number:02}", cell.mode) for number, (row, cell) in enumerate(CELLS.items())}
        for device in (a, b, late)
    ]


@pytest.fixture(scope="module", params=["", "exchanged"])
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[dict[str, Shown]]]:
    yield trio.run(play, tmp_path_factory.mktemp("table"), bool(request.param))


@pytest.mark.parametrize("row", table())
def test_two_concurrent_changes_come_out_as_the_table_says(played: list[dict[str, Shown]], row: str) -> None:
    """Property 58."""
    a, b, late = (trees[row] for trees in played)
    assert a == b == late
    assert a in CELLS[row].outcomes
