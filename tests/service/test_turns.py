"""Turns: who works does so one after the other, in the order in which they asked, and nobody can hold up the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from attachd import turns
from attachd.turns import Turns
from waiting import wait_until


def started(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def asked_for(made: Turns, number: int) -> Callable[[], bool]:
    return lambda: len(made._waiting) == number


def test_one_works_at_a_time_in_the_order_in_which_they_asked() -> None:
    made, worked, working = Turns(), list[int](), list[int]()

    def work(number: int) -> None:
        with made.taken():
            working.append(number)
            assert len(working) == 1
            worked.append(number)
            working.remove(number)

    with made.taken():
        threads = []
        for number in range(5):
            threads.append(started(lambda number=number: work(number)))  # type: ignore[misc]
            wait_until(asked_for(made, number + 1))
        assert worked == []
    for thread in threads:
        thread.join(10)
    assert worked == [0, 1, 2, 3, 4]


def test_who_waits_for_something_lets_others_work_and_gets_the_turn_back() -> None:
    made, happened = Turns(), list[str]()

    def other() -> None:
        with made.taken():
            happened.append("other")

    with made.taken():
        thread = started(other)
        wait_until(asked_for(made, 1))
        with made.left():
            thread.join(10)
            happened.append("waited")
        later = started(other)
        wait_until(asked_for(made, 1))
        happened.append("goes on")
    later.join(10)
    assert happened == ["other", "waited", "goes on", "other"]


def test_leaving_a_turn_that_one_does_not_have_takes_none() -> None:
    made = Turns()
    with made.left():
        pass
    began = time.monotonic()
    with made.taken():
        assert time.monotonic() - began < turns.LONGEST_WAIT


def test_the_turn_of_one_that_hangs_is_taken_over_and_what_it_does_later_is_no_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LONGEST_WAIT", 0.05)
    made, answers, hangs = Turns(), threading.Event(), threading.Event()

    def hang() -> None:
        with made.taken():
            hangs.set()
            answers.wait(30)

    stuck = started(hang)
    assert hangs.wait(10)
    with made.taken():
        monkeypatch.setattr(turns, "LONGEST_WAIT", 30.0)
        others = started(lambda: made._take())
        wait_until(asked_for(made, 1))
        answers.set()
        stuck.join(10)
        # It gives up what it no longer has: the turn is still ours, and another one waits for it.
        assert made._holder is made._mine.turn
    others.join(10)
    assert not made._waiting


def test_a_turn_that_is_taken_over_in_the_moment_in_which_it_is_handed_over_is_nobody_s_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was handed to one who has not noticed yet, and the next one's patience is over."""
    made, done = Turns(), list[str]()

    def work(name: str) -> None:
        with made.taken():
            done.append(name)

    monkeypatch.setattr(turns, "LONGEST_WAIT", 30.0)
    with made.taken():
        slow = started(lambda: work("slow"))
        wait_until(asked_for(made, 1))
        with made._lock:
            handed = made._waiting.popleft()
            made._holder = handed
        monkeypatch.setattr(turns, "LONGEST_WAIT", 0.05)
        started(lambda: work("impatient")).join(10)
        assert done == ["impatient"]
        handed.release()
        slow.join(10)
    assert done == ["impatient", "slow"]


def test_an_error_ends_the_turn() -> None:
    made = Turns()
    with pytest.raises(ValueError, match="wrong"), made.taken():
        raise ValueError("wrong")
    with pytest.raises(ValueError, match="wrong"), made.taken(), made.left():
        raise ValueError("wrong")
    assert made._holder is None
