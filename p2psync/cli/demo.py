"""`p2psync demo`: two devices and a relay on this machine, a folder both ways, and what the relay saw.

Every claim on the screen is checked: after each change both trees are compared file by file and byte by byte (by hash),
and at the end everything the relay stores is searched for the folder's names and contents; the same search over the
plain folder shows that it would find them. Ends with 0 only if all of that held.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2psync.cli.screen import bytes_text, clean
from p2psync.cli.sightings import Sightings, files_below, search
from p2psync.cli.stage import Stage
from p2psync.errors import IntegrityError, TimedOut, UsageError

EQUAL_SECONDS = 30.0
SAMPLE_BYTES_MAX = 64 * 1024 * 1024
_LIBRARY = ("json", "email", "http", "logging", "html")
_PERSONAL = {
    "Tax return 2024/Letter to the tax office.txt": "Dear Sir or Madam,\nplease find my income of 48,211 euros below.\n"
    * 40,
    "Tax return 2024/Bank accounts.csv": "bank,account,balance\nSavings bank,DE00 1234 5678,18204.11\n" * 200,
    "Medical/Diagnosis of Doctor Miller.txt": "The patient shows every sign of a broken leg, left side.\n" * 60,
    "Diary of a winter.txt": "Snow again. I have told nobody about the letter under the floor.\n" * 500,
    "Passwords of the household.txt": "router: correct horse battery staple\nalarm: 4711-0815\n",
}


class Demonstration:
    def __init__(self, stage: Stage, console: Console, sample: Path | None) -> None:
        self.stage, self.console, self.sample = stage, console, sample
        self.here, self.there = stage.directory / "laptop", stage.directory / "desktop"
        self._started = time.monotonic()

    def run(self) -> None:
        self._prepare()
        self._connect()
        self._change()
        self._look_at_relay()
        self._say(f"All of it held. It took {time.monotonic() - self._started:.0f} seconds.", style="bold green")

    def _prepare(self) -> None:
        self._say("Two devices, laptop and desktop, and a relay, all on this machine", style="bold")
        self.here.mkdir()
        if self.sample is not None:
            shutil.copytree(self.sample, self.here, symlinks=True, dirs_exist_ok=True)
        else:
            _write_sample(self.here)
        files = list(files_below(self.here))
        size = sum(path.stat().st_size for path in files)
        self._step(f"the laptop has a folder of {len(files)} files, {bytes_text(size)}")

    def _connect(self) -> None:
        url = self.stage.start_relay()
        self._step(f"a relay runs at {clean(url.split('#')[0])} and knows nothing")
        shared = self.stage.start_device("laptop", ["share", str(self.here), "--label", "household", "--relay", url])
        self._step(f"laptop:  p2psync share laptop          shows the code {clean(shared['code'])}")
        started = time.monotonic()
        self.stage.start_device("desktop", ["join", str(self.there), "--relay", url], P2PSYNC_CODE=str(shared["code"]))
        self._step(f"desktop: p2psync join {clean(shared['code'])} desktop")
        self._equal("the desktop has every file", started)

    def _change(self) -> None:
        self._say("Changes on either side", style="bold")
        text = self.here / "Notes for both.txt"
        self._do("laptop writes a new file", lambda: text.write_text("Milk, bread, and a new bell for the bicycle.\n"))
        there = self.there / "Notes for both.txt"
        self._do("desktop edits it", lambda: there.write_text(there.read_text() + "And a lamp.\n"))
        self._do("desktop renames it", lambda: there.rename(self.there / "Shopping list.txt"))
        self._do(
            "laptop makes directories and 50 files in them", lambda: _write_many(self.here / "Photos of the summer")
        )
        moved = self.there / "Photos of the summer"
        self._do("desktop renames the directory", lambda: moved.rename(self.there / "Photos of the autumn"))
        self._do("laptop deletes the shopping list", (self.here / "Shopping list.txt").unlink)
        self._delete_much(self.there / "Photos of the autumn")

    def _do(self, what: str, change: Callable[[], object]) -> None:
        before = _tree(self.here)
        started = time.monotonic()
        change()
        self._equal(what, started, different_from=before)

    def _delete_much(self, directory: Path) -> None:
        """The laptop's brake holds that, unless the sample is so large that 50 files are little of it."""
        what, before, started = "desktop deletes a whole directory", _tree(self.here), time.monotonic()
        shutil.rmtree(directory)
        there = _tree(self.there)
        while _tree(self.here) != there:
            (folder,) = self.stage.ask("laptop", "status")["folders"]
            if folder["state"] == "held":
                self._step(f"{what}; the laptop holds that: {folder['held'][0]['files']} files would go")
                what, started = "laptop:  p2psync folder accept", time.monotonic()
                self.stage.ask("laptop", "folder", "accept")
                break
            if time.monotonic() - started > EQUAL_SECONDS:
                break
        self._equal(what, started, different_from=before)

    def _equal(self, what: str, started: float, different_from: dict[str, str] | None = None) -> None:
        """Wait until both trees are equal and show the change."""
        while True:
            here, there = _tree(self.here), _tree(self.there)
            if here == there and here and here != different_from:
                break
            if time.monotonic() - started > EQUAL_SECONDS:
                raise TimedOut(
                    f"{what}: the two folders were not equal after {EQUAL_SECONDS:.0f} s: {_difference(here, there)}"
                )
            time.sleep(0.02)
        self._step(f"{what:47} equal after {time.monotonic() - started:5.2f} s ({len(here)} files, by hash)")

    def _look_at_relay(self) -> None:
        self._say("What the relay has of all this", style="bold")
        objects = self.stage.stored_objects()
        table = Table(box=None, padding=(0, 2, 0, 4), show_header=False)
        table.add_column(overflow="ellipsis", no_wrap=True, max_width=56)
        table.add_column(justify="right", no_wrap=True)
        for name, size in _some_of_each_kind(objects):
            table.add_row(Text(clean(name)), bytes_text(size))
        self.console.print(table)
        kinds = {"p": "packs of content", "e": "entries of changes", "k": "envelopes of keys"}
        counts = [f"{word} {sum(name[0] == kind for name, _ in objects)}" for kind, word in kinds.items()]
        self._step(f"{len(objects)} objects ({', '.join(counts)}); every name is a hash or a key")
        plain = search(self.here, self.here)
        if not plain.found:
            raise IntegrityError("the search for names and contents found nothing even in the plain folder")
        self._report(search(self.stage.relay_directory, self.here))
        self._step("the same search over the plain folder finds them at once")

    def _report(self, seen: Sightings) -> None:
        if seen.found:
            raise IntegrityError(f"the relay holds plain text: {clean(seen.found[0])}")
        self._step(
            f"searched {bytes_text(seen.searched_bytes)} for {seen.names} names and {seen.blocks:,} pieces of content: "
            "found none"
        )

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style))

    def _step(self, text: str) -> None:
        self.console.print(Text("  ✓ ", style="green") + Text(text))


def _some_of_each_kind(objects: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The three largest objects of each kind; the kind is a name's first letter."""
    largest = sorted(objects, key=lambda item: -item[1])
    return [item for kind in "pek" for item in [o for o in largest if o[0].startswith(kind)][:3]]


def run(path: Path | None, *, keep: bool) -> None:
    """The whole demonstration in a temporary directory, which stays if `keep`."""
    if path is not None:
        _check_sample(path)
    console = Console(highlight=False, soft_wrap=True)
    directory = Path(tempfile.mkdtemp(prefix="p2psync-demo-"))
    done = False
    try:
        with Stage(directory) as stage:
            Demonstration(stage, console, path).run()
        done = True
    finally:
        if keep or not done:
            console.print(Text(f"Everything is left in {clean(directory)}"))
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _check_sample(path: Path) -> None:
    if not path.is_dir():
        raise UsageError(f"{path} is not a directory to show it with")
    if sum(file.stat().st_size for file in files_below(path)) > SAMPLE_BYTES_MAX:
        raise UsageError(f"{path} is larger than {bytes_text(SAMPLE_BYTES_MAX)}; choose a smaller directory")


def _write_sample(target: Path) -> None:
    """A piece of Python's own library, and files with telling names."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in _LIBRARY:
        if (library / name).is_dir():
            shutil.copytree(library / name, target / "library" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for relative, text in _PERSONAL.items():
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _write_many(directory: Path) -> None:
    for number in range(50):
        path = directory / f"week {number // 10}" / f"picture {number}.raw"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4096))


def _tree(root: Path) -> dict[str, str]:
    """Every file's relative path with the hash of its content; a file that goes while we look counts as gone."""
    tree = {}
    for path in files_below(root):
        if path.name.startswith(".p2psync."):
            continue
        try:
            tree[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            continue
    return tree


def _difference(here: dict[str, str], there: dict[str, str]) -> str:
    different = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    return f"{len(different)} files differ, the first is {different[0]}" if different else "nothing had changed"
