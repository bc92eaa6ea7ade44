"""What every blind store must do, sentence by sentence of its interface, run over every store there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

import p2psync.store.memory
import p2psync.store.rows
from p2psync.errors import IntegrityError, NotFound, PeerError, QuotaExceeded
from p2psync.ids import Ciphertext, FeedId
from p2psync.sealed.keys import ObjectKey, after_seq, entry_prefix
from p2psync.store.interface import BlindStore, Flag, Head, Listed
from tests.support.objects import BlindObject, blind, make_chain, make_entry, make_envelope, make_feed_key, make_pack
from tests.support.stores import STORE_FACTORIES, SettableClock, StoreFactory

FEED = make_feed_key(1)
CHAIN = make_chain(FEED, 4)
FORK = make_entry(FEED, 2, CHAIN[0].hash, branch=1)
OTHER = make_chain(make_feed_key(2), 2)
PACK = make_pack(1, 20_000)
BIG_PACK = make_pack(2, 700_000)
ENVELOPE = blind(make_envelope(1))
ALL = [*(blind(made) for made in CHAIN), PACK, BIG_PACK, ENVELOPE]
UNKNOWN = ObjectKey("p/" + "0" * 64)
MALFORMED = ["", "p/", "p/" + "0" * 63, "p/" + "A" * 64, "../../etc/passwd", "e/" + "0" * 64, UNKNOWN + "\n"]


@pytest.fixture(params=STORE_FACTORIES)
def factory(request: pytest.FixtureRequest) -> StoreFactory:
    return STORE_FACTORIES[request.param]


@pytest.fixture
async def store(factory: StoreFactory, tmp_path: Path) -> AsyncIterator[BlindStore]:
    async with factory(tmp_path / "store", SettableClock(), None) as opened:
        yield opened


async def keys_of(store: BlindStore) -> set[ObjectKey]:
    return {item.key for item in await store.list("")}


def damaged(thing: BlindObject) -> BlindObject:
    return thing[0], Ciphertext(thing[1][:-1] + bytes([thing[1][-1] ^ 1]))


@pytest.mark.parametrize("thing", ALL, ids=lambda thing: thing[0][:6])
async def test_what_was_put_is_got_back_byte_for_byte(store: BlindStore, thing: BlindObject) -> None:
    key, data = thing
    await store.put([thing])
    assert await store.get(key) == data
    assert await store.missing([key, UNKNOWN]) == {UNKNOWN}


@pytest.mark.parametrize("thing", [ALL[0], PACK, ENVELOPE], ids=lambda thing: thing[0][:6])
async def test_a_range_is_exactly_those_bytes(store: BlindStore, thing: BlindObject) -> None:
    key, data = thing
    await store.put([thing])
    for offset, length in [(0, 1), (5, 100), (len(data) - 1, 1), (0, len(data)), (len(data), 0), (7, 0)]:
        assert await store.get(key, offset, length) == data[offset : offset + length]
    assert await store.get(key, 100) == data[100:]
    assert await store.get(key, len(data)) == b""


@pytest.mark.parametrize("thing", [ALL[0], PACK, ENVELOPE], ids=lambda thing: thing[0][:6])
async def test_a_range_outside_the_object_is_a_peer_error(store: BlindStore, thing: BlindObject) -> None:
    key, data = thing
    await store.put([thing])
    for offset, length in [(0, len(data) + 1), (len(data), 1), (len(data) + 1, None), (-1, 1), (0, -1), (5, 2**70)]:
        with pytest.raises(PeerError):
            await store.get(key, offset, length)


async def test_what_is_not_held_is_not_found(store: BlindStore) -> None:
    with pytest.raises(NotFound):
        await store.get(UNKNOWN)


@pytest.mark.parametrize("key", MALFORMED)
async def test_a_malformed_key_is_a_peer_error_in_every_verb(store: BlindStore, key: str) -> None:
    bad = ObjectKey(key)
    with pytest.raises(PeerError):
        await store.get(bad)
    with pytest.raises(PeerError):
        await store.put([(bad, PACK[1])])
    with pytest.raises(PeerError):
        await store.missing([bad])
    with pytest.raises(PeerError):
        await store.delete([bad])
    with pytest.raises(PeerError):
        await store.restore([bad])


@pytest.mark.parametrize(("prefix", "after"), [("e/é", ""), ("", "\ud800"), ("\udcff", "x")])
async def test_a_list_request_that_is_not_ascii_is_a_peer_error(store: BlindStore, prefix: str, after: str) -> None:
    with pytest.raises(PeerError):
        await store.list(prefix, after)


@pytest.mark.parametrize("bad", [damaged(thing) for thing in (ALL[0], PACK, ENVELOPE)], ids=lambda bad: bad[0][:6])
async def test_one_bad_object_keeps_out_its_whole_batch(store: BlindStore, bad: BlindObject) -> None:
    with pytest.raises((IntegrityError, PeerError)):
        await store.put([BIG_PACK, blind(CHAIN[1]), bad, blind(OTHER[0])])
    assert await keys_of(store) == set()
    assert await store.heads() == {}
    usage = await store.usage()
    assert (usage.objects, usage.stored_bytes) == (0, 0)


async def test_right_bytes_can_be_stored_after_wrong_ones_were_refused(store: BlindStore) -> None:
    with pytest.raises(IntegrityError):
        await store.put([damaged(PACK)])
    await store.put([PACK])
    assert await store.get(PACK[0]) == PACK[1]


async def test_a_valid_object_under_the_key_of_another_is_refused(store: BlindStore) -> None:
    for wrong in [(PACK[0], BIG_PACK[1]), (ALL[0][0], ALL[1][1]), (ENVELOPE[0], blind(make_envelope(2))[1])]:
        with pytest.raises((IntegrityError, PeerError)):
            await store.put([wrong])
    for wrong in [(PACK[0], ALL[0][1]), (ALL[0][0], ENVELOPE[1]), (ENVELOPE[0], PACK[1])]:
        with pytest.raises((IntegrityError, PeerError)):
            await store.put([wrong])
    assert await keys_of(store) == set()


async def test_putting_what_is_held_changes_nothing(store: BlindStore) -> None:
    await store.put(ALL)
    before, usage = await store.watch(-1), await store.usage()
    await store.put([*ALL, *ALL])
    assert await store.watch(-1) == before
    assert await store.usage() == usage


async def test_an_empty_batch_is_no_change(store: BlindStore) -> None:
    before = await store.watch(-1)
    await store.put([])
    assert await store.watch(-1) == before


async def test_a_key_twice_in_one_batch_counts_once(store: BlindStore) -> None:
    await store.put([PACK, PACK])
    usage = await store.usage()
    assert (usage.objects, usage.stored_bytes) == (1, len(PACK[1]))


async def test_siblings_and_gaps_are_kept_and_flagged(store: BlindStore) -> None:
    await store.put([blind(CHAIN[0]), blind(CHAIN[1]), blind(FORK), blind(CHAIN[3])])
    flagged = (await store.usage()).flagged
    assert flagged == {CHAIN[1].key: Flag.SIBLING, FORK.key: Flag.SIBLING, CHAIN[3].key: Flag.GAP}
    await store.put([blind(CHAIN[2])])
    assert (await store.usage()).flagged == {CHAIN[1].key: Flag.SIBLING, FORK.key: Flag.SIBLING}
    await store.delete([FORK.key])
    assert (await store.usage()).flagged == {}
    assert await store.get(CHAIN[3].key) == CHAIN[3].data


async def test_an_entry_that_follows_another_branch_than_the_one_held_is_a_gap(store: BlindStore) -> None:
    await store.put([blind(CHAIN[0]), blind(FORK), blind(CHAIN[2])])
    assert (await store.usage()).flagged == {CHAIN[2].key: Flag.GAP}


async def test_a_flood_of_gaps_is_reported_up_to_a_bound(store: BlindStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Property 65."""
    for module in (p2psync.store.memory, p2psync.store.rows):
        monkeypatch.setattr(module, "FLAGS_MAX", 3)
    gaps = [make_entry(FEED, seq, CHAIN[0].hash) for seq in range(3, 13, 2)]
    await store.put([*map(blind, gaps), blind(CHAIN[0]), blind(CHAIN[1]), blind(FORK)])
    flagged = (await store.usage()).flagged
    first = {CHAIN[1].key: Flag.SIBLING, FORK.key: Flag.SIBLING, gaps[0].key: Flag.GAP}
    assert flagged == first


async def test_the_head_is_the_smallest_hash_at_the_highest_seq(store: BlindStore) -> None:
    await store.put([blind(CHAIN[1]), blind(FORK), blind(CHAIN[0]), *map(blind, OTHER)])
    smallest = min(CHAIN[1].hash, FORK.hash)
    expected = {FeedId(FEED.public): Head(2, smallest), OTHER[0].feed: Head(2, OTHER[1].hash)}
    assert await store.heads() == expected
    assert (await store.watch(-1)).heads == expected
    await store.delete([CHAIN[1].key, FORK.key, *(made.key for made in OTHER)])
    assert await store.heads() == {FeedId(FEED.public): Head(1, CHAIN[0].hash)}


async def test_list_pages_through_everything_in_key_order(store: BlindStore) -> None:
    await store.put(ALL)
    expected = [Listed(key, len(data)) for key, data in sorted(ALL)]
    assert list(await store.list("")) == expected
    found: list[Listed] = []
    while page := await store.list("", found[-1].key if found else "", 2):
        assert len(page) <= 2
        found += page
    assert found == expected
    assert list(await store.list("", limit=0)) == []


async def test_list_of_a_feed_starts_behind_a_seq(store: BlindStore) -> None:
    await store.put([*ALL, blind(FORK), *map(blind, OTHER)])
    feed = FeedId(FEED.public)
    page = await store.list(entry_prefix(feed), after_seq(feed, 2))
    assert [item.key for item in page] == [CHAIN[2].key, CHAIN[3].key]
    assert {item.key for item in await store.list(entry_prefix(feed))} == {made.key for made in [*CHAIN, FORK]}
    assert [item.key for item in await store.list("k/")] == [ENVELOPE[0]]
    assert list(await store.list("x")) == []


async def test_watch_waits_for_a_change_and_shows_the_latest_state(store: BlindStore) -> None:
    start = await store.watch(-1)
    seen = []

    async def wait() -> None:
        seen.append(await store.watch(start.revision))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert seen == []
            await store.put([blind(CHAIN[0])])
    assert seen[0].revision > start.revision
    assert seen[0].heads == {FeedId(FEED.public): Head(1, CHAIN[0].hash)}
    await store.put([blind(CHAIN[1])])
    await store.put([blind(CHAIN[2])])
    late = await store.watch(seen[0].revision)
    assert late.heads == {FeedId(FEED.public): Head(3, CHAIN[2].hash)}


async def test_every_change_wakes_the_watchers(store: BlindStore) -> None:
    await store.put(ALL)
    revisions = [(await store.watch(-1)).revision]
    for change in (store.delete([PACK[0]]), store.restore([PACK[0]]), store.put([blind(FORK)])):
        await change
        with trio.fail_after(20):
            revisions.append((await store.watch(revisions[-1])).revision)
    assert revisions == sorted(set(revisions))


async def test_a_deleted_object_is_hidden_and_can_be_taken_back(store: BlindStore) -> None:
    await store.put(ALL)
    gone = {PACK[0], ALL[0][0], ENVELOPE[0]}
    await store.delete([*gone, UNKNOWN])
    assert await store.missing(key for key, _ in ALL) == gone
    assert await keys_of(store) == {key for key, _ in ALL} - gone
    for key in gone:
        with pytest.raises(NotFound):
            await store.get(key)
    await store.restore(gone)
    for key, data in ALL:
        assert await store.get(key) == data


async def test_putting_a_deleted_object_holds_it_again(store: BlindStore) -> None:
    await store.put(ALL)
    usage = await store.usage()
    await store.delete(key for key, _ in ALL)
    await store.put(ALL)
    assert await store.usage() == usage
    for key, data in ALL:
        assert await store.get(key) == data


async def test_restoring_what_is_gone_is_not_found_and_restores_nothing(store: BlindStore) -> None:
    await store.put([PACK])
    await store.delete([PACK[0]])
    with pytest.raises(NotFound):
        await store.restore([PACK[0], UNKNOWN])
    assert await store.missing([PACK[0]]) == {PACK[0]}


async def test_restoring_what_is_held_changes_nothing(store: BlindStore) -> None:
    await store.put([PACK])
    before = await store.watch(-1)
    await store.restore([PACK[0]])
    assert await store.watch(-1) == before


async def test_usage_counts_held_objects_and_all_stored_bytes(store: BlindStore) -> None:
    await store.put(ALL)
    total = sum(len(data) for _, data in ALL)
    assert (await store.usage()).objects == len(ALL)
    await store.delete([PACK[0]])
    usage = await store.usage()
    assert (usage.objects, usage.stored_bytes, usage.quota) == (len(ALL) - 1, total, None)


async def test_the_quota_is_exact_and_keeps_out_whole_batches(factory: StoreFactory, tmp_path: Path) -> None:
    room = len(PACK[1]) + len(ALL[0][1])
    async with factory(tmp_path / "store", SettableClock(), room) as store:
        with pytest.raises(QuotaExceeded):
            await store.put([PACK, ALL[0], ALL[1]])
        assert await keys_of(store) == set()
        await store.put([PACK, ALL[0]])
        await store.put([PACK, ALL[0]])
        assert (await store.usage()).stored_bytes == room == (await store.usage()).quota
        await store.delete([PACK[0]])
        with pytest.raises(QuotaExceeded):  # deleted bytes still lie there
            await store.put([ALL[1]])
        await store.put([PACK])
        with pytest.raises(QuotaExceeded):
            await store.put([ALL[1]])


async def test_parallel_puts_do_not_pass_the_quota(factory: StoreFactory, tmp_path: Path) -> None:
    packs = [make_pack(number) for number in range(12)]
    refused = []
    async with factory(tmp_path / "store", SettableClock(), 5 * len(packs[0][1])) as store:

        async def put(thing: BlindObject) -> None:
            try:
                await store.put([thing])
            except QuotaExceeded:
                refused.append(thing)

        async with trio.open_nursery() as nursery:
            for thing in packs:
                nursery.start_soon(put, thing)
        assert len(refused) == 7
        assert (await store.usage()).stored_bytes == 5 * len(packs[0][1])


async def test_every_verb_checkpoints(store: BlindStore) -> None:
    await store.put([PACK])
    with trio.testing.assert_checkpoints():
        await store.put([])
    with trio.testing.assert_checkpoints():
        await store.get(PACK[0], 0, 0)
    with trio.testing.assert_checkpoints():
        await store.list("")
    with trio.testing.assert_checkpoints():
        await store.missing([])
    with trio.testing.assert_checkpoints():
        await store.heads()
    with trio.testing.assert_checkpoints():
        await store.watch(-1)
    with trio.testing.assert_checkpoints():
        await store.delete([])
    with trio.testing.assert_checkpoints():
        await store.restore([])
    with trio.testing.assert_checkpoints():
        await store.usage()
