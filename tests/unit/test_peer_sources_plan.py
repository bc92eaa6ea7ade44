"""Which chunks from which source: whatever answers, vanishes or stays silent, every chunk comes once or is given up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.ids import ChunkId
from p2psync.limits import MIB
from p2psync.planner.sources import REQUEST_CHUNKS_MAX, REQUEST_MAX, SLOW_SECONDS, Piece, Sharing
from p2psync.wire.peer_bodies import CHUNKS_BYTES_MAX, CHUNKS_MAX


def piece(number: int, length: int = MIB, generation: int = 0) -> Piece:
    return Piece(ChunkId(number.to_bytes(32, "big")), length, generation)


def chunks(asked: list[Piece]) -> set[ChunkId]:
    return {each.chunk for each in asked}


def test_requests_fit_what_an_answer_may_hold() -> None:
    assert REQUEST_MAX <= CHUNKS_BYTES_MAX and REQUEST_CHUNKS_MAX <= CHUNKS_MAX
    sharing = Sharing([piece(n, 100) for n in range(5000)] + [piece(n, 4 * MIB) for n in range(5000, 5010)])
    sharing.join("a")
    while asked := sharing.take("a", 0):
        assert len(asked) <= REQUEST_CHUNKS_MAX and sum(each.length for each in asked) <= REQUEST_MAX


def test_without_peers_everything_is_for_the_stores() -> None:
    sharing = Sharing([piece(1), piece(2)])
    assert not sharing.finished(stores=True) and sharing.finished(stores=False)
    asked = sharing.take_unserved(0)
    assert len(asked) == 2 and not sharing.take_unserved(0)
    assert not sharing.finished(stores=True)
    sharing.settle_stores(asked, {piece(1).chunk})
    assert sharing.finished(stores=True)


def test_stores_are_asked_only_for_what_no_live_peer_has() -> None:
    sharing = Sharing([piece(1), piece(2)])
    sharing.join("a")
    sharing.join("b")
    first = sharing.take("a", 0) + sharing.take("a", 0)
    sharing.settle("a", first, {piece(1).chunk})
    assert not sharing.take_unserved(0)
    second = sharing.take("b", 0)
    assert chunks(second) == {piece(2).chunk}
    sharing.settle("b", second, set())
    assert chunks(sharing.take_unserved(0)) == {piece(2).chunk}


def test_the_share_of_a_vanished_source_moves_on() -> None:
    sharing = Sharing([piece(n) for n in range(4)])
    sharing.join("a")
    sharing.join("b")
    taken = sharing.take("a", 0)
    sharing.settle("a", taken, set(), lost=True)
    sharing.leave("a")
    got: set[ChunkId] = set()
    while asked := sharing.take("b", 0):
        got |= chunks(asked)
        sharing.settle("b", asked, chunks(asked))
    assert got == {piece(n).chunk for n in range(4)} and sharing.finished(stores=False)


def test_a_slow_sources_share_is_asked_of_an_idle_one_and_of_the_stores_after_a_while() -> None:
    sharing = Sharing([piece(1)])
    sharing.join("slow")
    sharing.join("idle")
    assert sharing.take("slow", 0)
    assert not sharing.take("idle", SLOW_SECONDS - 1) and not sharing.take_unserved(SLOW_SECONDS - 1)
    asked = sharing.take("idle", SLOW_SECONDS)
    assert chunks(asked) == {piece(1).chunk}
    assert not sharing.take_unserved(SLOW_SECONDS) and sharing.take_unserved(2 * SLOW_SECONDS)
    sharing.settle("idle", asked, chunks(asked))
    assert sharing.finished(stores=False)
    sharing.settle("slow", [piece(1)], {piece(1).chunk})  # the late answer changes nothing


def test_stores_are_not_asked_twice_for_what_a_slow_peer_owes() -> None:
    sharing = Sharing([piece(1)])
    sharing.join("slow")
    assert sharing.take("slow", 0)
    asked = sharing.take_unserved(SLOW_SECONDS)
    sharing.settle_stores(asked, set())
    assert not sharing.take_unserved(SLOW_SECONDS + 1) and not sharing.finished(stores=True)


def test_a_request_is_of_one_generation() -> None:
    sharing = Sharing([piece(1, generation=0), piece(2, generation=1)])
    sharing.join("a")
    assert len(sharing.take("a", 0)) == len(sharing.take("a", 0)) == 1


def test_near_the_end_requests_shrink_so_that_sources_finish_together() -> None:
    sharing = Sharing([piece(n, 256 * 1024) for n in range(16)])
    sharing.join("a")
    sharing.join("b")
    assert len(sharing.take("a", 0)) <= 2


SOURCES = ("a", "b", "c")


def number(each: Piece) -> int:
    return int.from_bytes(each.chunk, "big")


class World:
    """Sources that have what `has` says, and the requests under way to them."""

    def __init__(self, has: dict[str, set[int]]) -> None:
        self.has, self.now = has, 0.0
        self.sharing = Sharing([piece(n, 600_000) for n in range(12)])
        self.flying: list[tuple[str, list[Piece]]] = []
        self.got: set[int] = set()

    def join(self, source: str) -> None:
        self.sharing.join(source)

    def leave(self, source: str) -> None:
        self.sharing.leave(source)
        self.flying = [each for each in self.flying if each[0] != source]

    def take(self, source: str) -> None:
        if asked := self.sharing.take(source, self.now):
            assert not {number(each) for each in asked} & self.got
            self.flying.append((source, asked))

    def answer(self, source: str, lost: bool = False) -> None:
        for index, (name, asked) in enumerate(self.flying):
            if name == source:
                del self.flying[index]
                given = [] if lost else [each for each in asked if number(each) in self.has[source]]
                self.got.update(number(each) for each in given)
                self.sharing.settle(source, asked, {each.chunk for each in given}, lost=lost)
                return

    def cut(self, source: str) -> None:
        self.answer(source, lost=True)

    def stores(self, source: str = "") -> None:
        asked = self.sharing.take_unserved(self.now)
        given = [each for each in asked if number(each) in self.has["store"]]
        self.got.update(number(each) for each in given)
        self.sharing.settle_stores(asked, {each.chunk for each in given})

    def wait(self, source: str) -> None:
        self.now += SLOW_SECONDS / 2

    def finish(self) -> None:
        """From here on everybody who is there answers."""
        for _ in range(100):
            while self.flying:
                self.answer(self.flying[0][0])
            for source in sorted(self.sharing.peers):
                self.take(source)
            self.stores()


MOVES = ("join", "leave", "take", "answer", "cut", "stores", "wait")


@settings(max_examples=300, deadline=None)
@given(
    has=st.fixed_dictionaries({name: st.sets(st.integers(0, 11)) for name in (*SOURCES, "store")}),
    moves=st.lists(st.tuples(st.sampled_from(MOVES), st.sampled_from(SOURCES)), max_size=80),
)
def test_whatever_happens_all_that_somebody_present_has_comes_and_the_transfer_ends(
    has: dict[str, set[int]], moves: list[tuple[str, str]]
) -> None:
    world = World(has)
    for move, source in moves:
        getattr(world, move)(source)
    world.finish()
    assert world.sharing.finished(stores=True) and not world.flying
    for source in world.sharing.peers:
        assert has[source] <= world.got
