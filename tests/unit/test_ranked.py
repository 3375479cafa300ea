"""Levels of priority with rules of their own: how many may wait, how long, and who then goes first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.batchqueue import BatchQueue
from fastserve._ext.ticket import Ticket
from fastserve.engine.ranked import RankedQueue, Ranks, queue_of
from fastserve.errors import DeadlineExceeded, QueueFull
from fastserve.types import HIGHEST_PRIORITY
from tests.support.bench import Bench


def level(number: int) -> int:
    """The engine's priority of a level."""
    return HIGHEST_PRIORITY - number if number else 0


def ticket(priority: int = 0, waits_until_ns: int = 0) -> Ticket:
    return Ticket(None, {}, 1, 1, "bucket", lambda _: None, priority=priority, waits_until_ns=waits_until_ns)


def push(queue: Any, one: Ticket, now_ns: int, **given: Any) -> bool:
    return bool(queue.push(one, one.bucket, 1, now_ns, one.leaves_ns, one.priority, **given))


def ranked(limits: dict[int, int] | None = None, others: int = 0, batch_rows: int = 1) -> RankedQueue:
    queue = queue_of(batch_rows, 0, 1000, batch_rows, Ranks(limits or {}, others))
    assert isinstance(queue, RankedQueue)
    return queue


def test_without_ranks_the_native_queue_is_alone():
    assert isinstance(queue_of(1, 0, 10, 1, None), BatchQueue)


def test_a_level_takes_as_many_requests_as_it_may():
    queue = ranked({1: 2}, others=1)
    first = ticket(level(1))
    assert push(queue, first, 1)
    assert push(queue, ticket(level(1)), 2)
    assert not push(queue, ticket(level(1)), 3)
    assert push(queue, ticket(level(2)), 4), "another level has room of its own"
    assert not push(queue, ticket(level(2)), 5)
    assert push(queue, ticket(level(2)), 6, admitted=True), "the rest of what was taken already"
    assert queue.pop(7) == [first]
    assert push(queue, ticket(level(1)), 8)
    assert (len(queue), queue.queued_rows) == (4, 4)


@pytest.mark.parametrize("leave", ["pop", "expire", "remove", "clear"])
def test_whoever_leaves_makes_room(leave: str):
    queue = ranked(others=1)
    one = ticket(waits_until_ns=50 if leave == "expire" else 0)
    assert push(queue, one, 1)
    assert not push(queue, ticket(), 2)
    left = {
        "pop": lambda: queue.pop(3),
        "expire": lambda: queue.expire(60),
        "remove": lambda: [one] if queue.remove(one) else [],
        "clear": queue.clear,
    }[leave]()
    assert left == [one]
    assert not queue.remove(one)
    assert push(queue, ticket(), 70)


def test_who_has_waited_long_goes_after_the_others_of_its_level_and_before_those_below():
    queue = ranked()
    patient, below, later, last = ticket(level(1), -100), ticket(level(2)), ticket(level(1)), ticket(level(1), -120)
    for at, one in enumerate((patient, below, later, last), start=1):
        assert push(queue, one, at)
    assert queue.next_event_ns() == 100
    assert queue.pop(99) == [patient], "until then it is first"
    assert push(queue, patient, 99)
    assert [queue.pop(130) for _ in range(4)] == [[later], [patient], [last], [below]]
    assert queue.pop(130) == []


def test_who_yields_is_late_at_its_deadline_all_the_same():
    queue = ranked()
    one = Ticket(None, {}, 1, 1, "bucket", lambda _: None, deadline_ns=200, waits_until_ns=-100)
    assert push(queue, one, 1)
    assert queue.expire(150) == []
    assert queue.next_event_ns() == 200
    assert queue.expire(200) == [one]
    assert queue.next_event_ns() == 0


def test_who_left_yields_no_more():
    queue = ranked()
    one = ticket(waits_until_ns=-100)
    assert push(queue, one, 1)
    assert queue.pop(2) == [one]
    assert queue.next_event_ns() == 0
    assert not queue.ready(200)


PUSHES = st.tuples(st.integers(0, 3), st.integers(0, 20), st.sampled_from(["push", "pop", "expire", "remove"]))


@given(st.lists(PUSHES, max_size=30))
def test_with_rules_that_forbid_nothing_it_is_the_native_queue(steps: list[tuple[int, int, str]]):
    native, queue = BatchQueue(3, 5, 1000, 3), queue_of(3, 5, 1000, 3, Ranks({}, 0))
    now, tickets = 0, []
    for number, step, what in steps:
        now += step
        if what == "push":
            tickets.append(ticket(level(number), now + 15 if number == 2 else 0))
            assert push(native, tickets[-1], now) == push(queue, tickets[-1], now)
        elif what == "remove" and tickets:
            assert native.remove(tickets[number % len(tickets)]) == queue.remove(tickets[number % len(tickets)])
        elif what == "expire":
            assert native.expire(now) == queue.expire(now)
        else:
            assert native.ready(now) == queue.ready(now)
            assert native.pop(now) == queue.pop(now)
        assert native.next_event_ns() == queue.next_event_ns()
        assert (len(native), native.queued_rows) == (len(queue), queue.queued_rows)
    assert native.clear() == queue.clear()


def test_a_wait_ends_in_the_queue_and_not_during_the_run():
    bench = Bench(known=False, max_batch_rows=1)
    start = bench.clock.now_ns
    bench.submit("runs", 1, waits_until_ns=start + 500)
    bench.submit("waits", 2, waits_until_ns=start + 700)
    bench.submit("has time", 3, waits_until_ns=start + 10**9)
    seen: list[Any] = []
    bench.runners[0].during = lambda: seen or (bench.clock.advance(700), seen.append(bench.answer("waits")))
    bench.executor.run_all()
    assert seen == [DeadlineExceeded]
    assert (bench.answer("runs"), bench.answer("has time")) == ([2.0], [6.0])


def test_the_queue_of_a_level_that_is_full_refuses():
    bench = Bench(slots=1, ranks=Ranks({1: 1}, 0))
    bench.submit("runs", 1, priority=level(1))
    with pytest.raises(QueueFull):
        bench.submit("too many", 2, priority=level(1))
    bench.submit("of another level", 3, priority=level(2))
    bench.executor.run_all()
    assert (bench.answer("runs"), bench.answer("of another level")) == ([2.0], [6.0])
