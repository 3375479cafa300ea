"""One thread that calls back: not early, in order, and whatever a callback does."""

import logging
import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from fastserve.clock import monotonic_ns
from fastserve.engine.timer import Timer

WITHIN_S = 60.0
MS = 1_000_000


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer()
    yield timer
    timer.stop()


def test_a_callback_is_told_the_time_and_never_called_early(timer: Timer) -> None:
    called: Queue[tuple[int, int]] = Queue()
    due = monotonic_ns() + 20 * MS
    timer.at(due, lambda now: called.put((now, monotonic_ns())))
    told, really = called.get(timeout=WITHIN_S)
    assert due <= told <= really


def test_callbacks_come_in_the_order_of_their_times_and_of_their_asking(timer: Timer) -> None:
    called: Queue[str] = Queue()
    start = monotonic_ns() + 50 * MS
    for name, when in (("third", 2), ("first", 0), ("second", 0), ("fourth", 3)):
        timer.at(start + when * MS, lambda _, name=name: called.put(name))  # type: ignore[misc]
    assert [called.get(timeout=WITHIN_S) for _ in range(4)] == ["first", "second", "third", "fourth"]


def test_an_earlier_time_overtakes_what_is_waited_for(timer: Timer) -> None:
    called: Queue[str] = Queue()
    timer.at(monotonic_ns() + 3600 * 1000 * MS, lambda _: called.put("in an hour"))
    timer.at(monotonic_ns(), lambda _: called.put("now"))
    assert called.get(timeout=WITHIN_S) == "now"
    assert called.empty()


def test_the_same_callback_may_be_due_twice(timer: Timer) -> None:
    called: Queue[int] = Queue()
    timer.at(monotonic_ns(), called.put)
    timer.at(monotonic_ns() + MS, called.put)
    assert called.get(timeout=WITHIN_S) < called.get(timeout=WITHIN_S)


def test_a_callback_may_ask_for_the_next_one(timer: Timer) -> None:
    called: Queue[int] = Queue()

    def again(now: int) -> None:
        called.put(now)
        if called.qsize() < 3:
            timer.at(now + MS, again)

    timer.at(monotonic_ns(), again)
    times = [called.get(timeout=WITHIN_S) for _ in range(3)]
    assert times == sorted(times)


def test_a_callback_that_fails_is_logged_and_the_next_one_comes(timer: Timer, caplog: pytest.LogCaptureFixture) -> None:
    called: Queue[int] = Queue()

    def fail(_: int) -> None:
        raise RuntimeError("a bad callback")

    logging.getLogger("fastserve").propagate = True
    timer.at(monotonic_ns(), fail)
    timer.at(monotonic_ns(), called.put)
    called.get(timeout=WITHIN_S)
    assert "a bad callback" in caplog.text


def test_stopping_forgets_what_is_due_and_ends_the_thread() -> None:
    before = threading.active_count()
    timer = Timer()
    timer.at(monotonic_ns() + 3600 * 1000 * MS, lambda _: None)
    timer.stop()
    assert threading.active_count() == before
