"""Collecting: local versions that retention lets go, once an hour, and sooner when the disk is nearly full.

By age only while the clock is trusted; by size and for lack of room the oldest first, whatever the clock says. A file goes
before its row: a row without a file is dropped when found, a file without a row a day after it came. What room alone
drives out is told as a trouble, never dropped silently. Source: formats, "History".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import trio

from p2psync.catalog.kept import Kept
from p2psync.catalog.settings import load_settings
from p2psync.encoding import decode, encode
from p2psync.errors import StorageError
from p2psync.planner.retention import DAY, KeepRules, SteadyClock, look_at_clock, outdated, over_size
from p2psync.replica.context import Context
from p2psync.replica.keeping import VERSIONS, kept_path

COLLECT_SECONDS = 3600
LOOK_SECONDS = 60
"""How often free space is looked at."""
ROOM_BYTES = 256 << 20
"""Local versions make room when less than this is free."""
_PAGE = 2000
_CLOCK = "collecting"


class Collecting:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self) -> None:
        """Collect now and then until cancelled."""
        await self._try(self.drop_strays)
        while True:
            await self._try(self.collect)
            for _ in range(COLLECT_SECONDS // LOOK_SECONDS):
                await trio.sleep(LOOK_SECONDS)
                await self._try(self.make_room)

    async def _try(self, work: Callable[[], object]) -> None:
        """A disk that refuses is told, and asked again later; syncing goes on."""
        try:
            await self._context.workers.run(work)
            failure = None
        except (StorageError, OSError) as error:
            failure = f"old local versions cannot be removed: {error}"
        if failure or "collecting" in self._context.trouble:
            self._context.set_trouble("collecting", failure)

    def collect(self) -> int:
        """Remove what retention lets go; returns how many versions went."""
        context = self._context
        rules, now_ms = load_settings(context.catalog).keep, int(context.clock.now() * 1000)
        clock = self._look_at_clock(now_ms)
        gone = self._by_age(now_ms, rules) if clock.trusted else 0
        if rules.size:
            gone += self._down_to(rules.size)
        return gone + self.make_room()

    def make_room(self) -> int:
        """While the disk is nearly full, the oldest versions go; status says so."""
        context = self._context
        free = context.filesystem.free_bytes()
        if free >= ROOM_BYTES:
            return 0
        _, total = context.catalog.kept.total()
        gone = self._down_to(max(0, total - (ROOM_BYTES - free)))
        if gone:
            context.set_trouble_quietly(
                "history", f"the disk is nearly full: {gone} of the oldest local versions were dropped to make room"
            )
        return gone

    def _look_at_clock(self, now_ms: int) -> SteadyClock:
        catalog = self._context.catalog
        data = catalog.get(_CLOCK)
        clock = look_at_clock(None if data is None else SteadyClock(*decode(data, 64)), now_ms)
        catalog.set(_CLOCK, encode([clock.seen_ms, clock.since_ms]))
        return clock

    def _by_age(self, now_ms: int, rules: KeepRules) -> int:
        """Path by path, in pages: memory does not grow with the number of versions."""
        kept, gone, after, room = self._context.catalog.kept, 0, None, _PAGE
        while rows := kept.after(after, room):
            groups = [list(group) for _, group in groupby(rows, key=lambda row: row.path)]
            if len(rows) == room and len(groups) == 1:
                room *= 2  # a page must hold one path whole
                continue
            whole = groups[:-1] if len(rows) == room else groups
            old = [
                group[position]
                for group in whole
                for position in outdated([row.kept_ms for row in group], now_ms, rules)
            ]
            gone += self._remove(old)
            after, room = whole[-1][-1].path, _PAGE
        return gone

    def _down_to(self, limit: int) -> int:
        gone = 0
        while True:
            _, total = self._context.catalog.kept.total()
            rows = self._context.catalog.kept.oldest(_PAGE)
            count = over_size([row.size for row in rows], total, limit)
            if not count:
                return gone
            gone += self._remove(rows[:count])

    def _remove(self, rows: Iterable[Kept]) -> int:
        context, rows = self._context, list(rows)
        for row in rows:
            context.filesystem.remove_file(kept_path(row.file))
        context.catalog.kept.remove(row.id for row in rows)
        return len(rows)

    def drop_strays(self) -> None:
        """Files that no row leads to (a lost catalog, a crash) go after a day; rows whose file is gone go now."""
        context = self._context
        try:
            files = {
                name.decode("ascii", "replace"): stat for name, stat in context.filesystem.list_directory(VERSIONS)
            }
        except (FileNotFoundError, NotADirectoryError):
            files = {}
        old = int(context.clock.now() * 1e9) - DAY * 10**9
        for name, stat in files.items():
            if stat.ctime_ns < old and not context.catalog.kept.has_file(name):
                context.filesystem.remove_file(kept_path(name))
        after = 0
        while rows := context.catalog.kept.page(after, _PAGE):
            after = rows[-1].id
            context.catalog.kept.remove(row.id for row in rows if row.file not in files)
