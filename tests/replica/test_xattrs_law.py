"""The law of sync for extended attributes: whoever talked agrees on them, shows them where he syncs them, and is then at rest.

The users of three devices tag, edit, move and switch while their devices are off, as in `test_replica_law.py`. Of two concurrent
changes of one file the winner's attributes stand, so of their values nothing is promised here: `test_replica_xattrs.py` has that.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2psync.catalog.catalog import Catalog
from p2psync.index.xattrs import Xattrs
from p2psync.replica.replica import Replica
from tests.replica.test_replica_law import DEVICES, NAMES, Step, World, live
from tests.support.devices import Device, converge, tagged_of
from tests.support.power import still_watcher

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "6"))

devices, paths = st.integers(0, DEVICES - 1), st.sampled_from(NAMES)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["tag", "tag", "untag", "write", "mode", "move", "delete"]), devices, paths, paths),
        st.tuples(st.just("switch"), devices, st.just(""), st.just("")),
        st.tuples(st.just("meet"), st.integers(1, 2**DEVICES - 1), st.just(""), st.just("")),
    ),
    min_size=2, max_size=14,
)  # fmt: skip


class TaggedWorld(World):
    """The last device does not sync them at first; `switch` changes that, at its next meeting, for any of them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        for device in self.devices[:-1]:
            device.xattrs = True
        self.on = [device.xattrs for device in self.devices]
        self.tags = 0

    def change(self, what: str, device: Device, name: str, other: str) -> None:
        path = device.root / name
        if what == "switch":
            number = self.devices.index(device)
            self.on[number] = not self.on[number]
        elif what == "tag" and path.exists():
            self.tags += 1
            os.setxattr(path, f"user.{self.tags % 3}", b"%d" % self.tags)
        elif what == "untag" and path.exists():
            for tag in [tag for tag in os.listxattr(path) if tag.startswith("user.")][:1]:
                os.removexattr(path, tag)
        elif what == "mode" and path.exists():
            path.chmod(path.stat().st_mode ^ 0o050)
        else:
            super().change(what, device, name, other)

    async def meet(self, who: Sequence[Device], sum_up: bool) -> None:
        del sum_up  # no story here asks for it
        async with AsyncExitStack() as running:
            replicas = [
                await running.enter_async_context(device.running(self.store, watcher=still_watcher)) for device in who
            ]
            for device, replica in zip(who, replicas, strict=True):
                wanted = self.on[self.devices.index(device)]
                if replica.reshaping.xattrs != wanted:
                    await replica.reshaping.switch_xattrs(wanted)
            await converge(*replicas, seconds=900)
            if len(who) == DEVICES:
                await self.check_rest(replicas)

    async def check_rest(self, replicas: Sequence[Replica]) -> None:
        await converge(*replicas, seconds=900)
        heads = [replica._heads() for replica in replicas]
        await converge(*replicas, seconds=900)
        assert [replica._heads() for replica in replicas] == heads, "somebody goes on publishing"
        self.check()
        shown = [tagged_of(device.root) for device, on in zip(self.devices, self.on, strict=True) if on]
        agreed = [_agreed(device) for device in self.devices]
        assert agreed[0] == agreed[1] == agreed[2]
        for each in shown:
            assert each == {
                os.fsdecode(b"/".join(path)): {os.fsdecode(name): value for name, value in xattrs}
                for path, xattrs in agreed[0].items()
            }


def _agreed(device: Device) -> dict[tuple[bytes, ...], Xattrs]:
    catalog = Catalog(device.catalog)
    rows = catalog.placed.page(None)
    catalog.close()
    return {row.path: row.xattrs.agreed for row in rows if row.live and row.xattrs.agreed}


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps)
@example(
    [
        ("write", 0, "d/a", ""), ("tag", 0, "d/a", ""), ("tag", 0, "d", ""), ("meet", 7, "", ""), ("write", 2, "d/a", ""),
        ("mode", 2, "d", ""), ("meet", 5, "", ""), ("tag", 2, "d/a", ""), ("switch", 2, "", ""), ("meet", 6, "", ""),
    ]
)  # fmt: skip
def test_who_has_talked_agrees_on_extended_attributes_and_is_at_rest(story: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(live, TaggedWorld(Path(directory)), story, clock=trio.testing.MockClock(autojump_threshold=0))
