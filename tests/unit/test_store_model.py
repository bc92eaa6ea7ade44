"""Any sequence of puts, deletes, restores and lists leaves a store as it leaves two dicts."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2psync.errors import NotFound
from p2psync.ids import Ciphertext, FeedId
from p2psync.sealed.keys import ObjectKey
from p2psync.store.interface import BlindStore, Head
from tests.support.objects import BlindObject, blind, make_chain, make_entry, make_envelope, make_feed_key, make_pack
from tests.support.stores import STORE_FACTORIES, SettableClock

CHAIN = make_chain(make_feed_key(1), 4)
FORK = make_entry(make_feed_key(1), 2, CHAIN[0].hash, branch=1)
OTHER = make_chain(make_feed_key(2), 2)
WORLD = [
    *(blind(made) for made in [*CHAIN, FORK, *OTHER]),
    make_pack(1),
    make_pack(3),
    blind(make_envelope(1)),
]
WORLD_KEYS = [key for key, _ in WORLD]
WORLD_ENTRIES = {made.key: made for made in [*CHAIN, FORK, *OTHER]}
SOME = st.lists(st.integers(0, len(WORLD) - 1), max_size=5)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete", "restore", "list"]), SOME), max_size=14)


class Model:
    """A store as two dicts: what is held, and what is hidden but still there."""

    def __init__(self) -> None:
        self.held: dict[ObjectKey, Ciphertext] = {}
        self.hidden: dict[ObjectKey, Ciphertext] = {}

    def put(self, chosen: list[BlindObject]) -> None:
        for key, data in chosen:
            self.hidden.pop(key, None)
            self.held[key] = data

    def delete(self, keys: list[ObjectKey]) -> None:
        for key in keys:
            if key in self.held:
                self.hidden[key] = self.held.pop(key)

    def restore(self, keys: list[ObjectKey]) -> bool:
        if not all(key in self.held or key in self.hidden for key in keys):
            return False
        for key in keys:
            if key in self.hidden:
                self.held[key] = self.hidden.pop(key)
        return True

    def heads(self) -> dict[FeedId, Head]:
        heads: dict[FeedId, Head] = {}
        for made in sorted((WORLD_ENTRIES[key] for key in self.held if key in WORLD_ENTRIES), key=lambda e: e.seq):
            known = heads.get(made.feed)
            if known is None or made.seq > known.seq or made.hash < known.hash:
                heads[made.feed] = Head(made.seq, made.hash)
        return heads


async def _take_step(store: BlindStore, model: Model, verb: str, chosen: list[BlindObject]) -> None:
    keys = [key for key, _ in chosen]
    if verb == "put":
        model.put(chosen)
        await store.put(chosen)
    elif verb == "delete":
        model.delete(keys)
        await store.delete(keys)
    elif verb == "restore":
        if model.restore(keys):
            await store.restore(keys)
        else:
            with pytest.raises(NotFound):
                await store.restore(keys)
    elif keys:
        expected = sorted(key for key in model.held if key.startswith(keys[0][:2]) and key > keys[-1])[:3]
        assert [item.key for item in await store.list(keys[0][:2], keys[-1], 3)] == expected


@pytest.mark.parametrize("name", ["memory", "disk"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_store_behaves_as_two_dicts(
    name: str, steps: list[tuple[str, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("model")

    async def run() -> None:
        model = Model()
        async with STORE_FACTORIES[name](directory / "store", SettableClock(), None) as store:
            for verb, places in steps:
                await _take_step(store, model, verb, [WORLD[place] for place in places])
                assert {item.key for item in await store.list("")} == set(model.held)
                assert await store.missing(WORLD_KEYS) == set(WORLD_KEYS) - set(model.held)
                assert await store.heads() == model.heads()
                stored = sum(len(data) for data in [*model.held.values(), *model.hidden.values()])
                usage = await store.usage()
                assert (usage.objects, usage.stored_bytes) == (len(model.held), stored)
            for key, data in model.held.items():
                assert await store.get(key) == data

    trio.run(run)
