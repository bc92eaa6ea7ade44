"""The turn: one job of small steps at a time, unless the system takes most of their time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from p2psync import turn as module
from p2psync.turn import Turn


def free(turn: Turn) -> bool:
    """Whether another thread could take the turn now."""
    found = []

    def probe() -> None:
        found.append(turn._lock.acquire(blocking=False))
        if found[0]:
            turn._lock.release()

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return found[0]


def spending(
    monkeypatch: pytest.MonkeyPatch, user: float, system: float, *, seconds: float = 1.0, blocks: int = 0
) -> None:
    """Every job takes so many CPU seconds in the program and in the system, so many seconds in all, and reads so much."""

    def clock() -> Iterator[tuple[float, float, float, int]]:
        job = 0
        while True:
            yield seconds * job, user * job, system * job, blocks * job
            job += 1

    ticks = clock()
    monkeypatch.setattr(module, "_spent", lambda: next(ticks))


def run(turn: Turn, jobs: int) -> None:
    for _ in range(jobs):
        with turn.while_quick():
            pass


def test_one_holds_it_at_a_time_and_may_take_it_again() -> None:
    turn = Turn()
    with turn, turn.while_quick(), turn:
        assert not free(turn)
    assert free(turn)


def test_it_is_given_back_when_a_job_fails() -> None:
    turn = Turn()
    with pytest.raises(ZeroDivisionError), turn.while_quick():
        raise ZeroDivisionError
    assert free(turn)


def test_small_steps_go_in_turn_where_the_system_answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn()
    spending(monkeypatch, 0.02, 0.02)
    run(turn, 100)
    with turn.while_quick():
        assert not free(turn)


def test_they_go_side_by_side_where_the_system_takes_long_and_in_turn_again_when_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = Turn()
    spending(monkeypatch, 0.02, 0.14)
    run(turn, 100)
    with turn.while_quick():
        assert free(turn)
    with turn:
        assert not free(turn)
    spending(monkeypatch, 0.02, 0.01)
    run(turn, 100)
    with turn.while_quick():
        assert not free(turn)


def test_they_go_side_by_side_while_they_wait_for_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn()
    spending(monkeypatch, 0.02, 0.01, seconds=0.1, blocks=8)
    run(turn, 100)
    with turn.while_quick():
        assert free(turn)
    spending(monkeypatch, 0.02, 0.01, seconds=0.1)  # it waited for something else
    run(turn, 100)
    with turn.while_quick():
        assert not free(turn)


def test_what_this_thread_spends_is_counted() -> None:
    _, user, system, _ = module._spent()
    while sum(module._spent()[1:3]) < user + system + 0.02:
        sum(range(1000))
