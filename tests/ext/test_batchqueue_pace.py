"""Where the batch queue is told what runs take: batches end in time, and what a ticket would wait for is known."""

from typing import Any

import pytest

from fastserve._ext.batchqueue import BatchQueue, Pace

LARGEST = 2**63 - 1


def queue(max_batch_rows: int = 4) -> BatchQueue:
    return BatchQueue(max_batch_rows, 0, 100)


def push_all(queue: BatchQueue, *tickets: str, now_ns: int = 1000, **how: Any) -> None:
    for ticket in tickets:
        assert queue.push(ticket, "bucket", 1, now_ns, **how)


def paced(*pace: Any, max_batch_rows: int = 8) -> BatchQueue:
    waiting = queue(max_batch_rows=max_batch_rows)
    waiting.pace_of = lambda _: Pace(*pace)
    return waiting


def test_a_batch_grows_as_far_as_its_earliest_deadline_allows() -> None:
    waiting = paced(100, 10)
    push_all(waiting, "a", deadline_ns=1020)  # it must begin by then, and 20 ns are two rows more
    push_all(waiting, *"bcdef", deadline_ns=9000)
    assert waiting.pop(1000) == ["a", "b", "c"]
    assert waiting.pop(1000) == ["d", "e", "f"]


def test_a_hurried_ticket_further_back_ends_the_batch_before_it() -> None:
    waiting = paced(100, 10)
    push_all(waiting, "a", "b", deadline_ns=9000)
    push_all(waiting, "hurried", deadline_ns=1015)
    assert waiting.pop(1000) == ["a", "b"]
    assert waiting.pop(1001) == ["hurried"]


def test_a_batch_has_one_ticket_at_least() -> None:
    waiting = paced(100, 10, 2)
    assert waiting.push("large", "bucket", 5, 1000, 1001)
    push_all(waiting, "small", deadline_ns=9000)
    assert waiting.pop(1000) == ["large"]


def test_the_pace_bounds_a_batch_too() -> None:
    waiting = paced(0, 0, 3)
    push_all(waiting, *"abcd")
    assert waiting.pop(1000) == ["a", "b", "c"]


def test_a_batch_that_is_padded_takes_as_long_as_the_size_it_is_padded_to() -> None:
    waiting = paced(100, 10, 100, (1, 2, 4, 8))
    push_all(waiting, *"abcde", deadline_ns=1035)  # three rows more than one, not seven
    assert waiting.pop(1000) == ["a", "b", "c", "d"]


def test_what_a_ticket_would_wait_for() -> None:
    waiting = queue()
    for ticket, bucket, rows, priority in [("a", "x", 2, 0), ("b", "x", 1, 5), ("c", "y", 3, 0), ("d", "z", 1, -1)]:
        waiting.push(ticket, bucket, rows, 1000, 0, priority)
    assert waiting.ahead("x") == (3, 3, 1)
    assert waiting.ahead("x", 1) == (1, 0, 0)
    assert waiting.ahead("w", -1) == (0, 7, 3)
    waiting.pop(1000)
    assert waiting.ahead("x") == (0, 3, 1)


def test_a_pace_says_what_runs_take() -> None:
    assert [Pace(5, 10, 8, (2, 4)).run_ns(rows) for rows in (1, 2, 3, 9)] == [25, 25, 45, 95]
    assert Pace(1, LARGEST).run_ns(LARGEST) > 10**18  # never a wrap-around
    for wrong in ((-1, 0), (0, -1), (0, 0, 0)):
        with pytest.raises(ValueError, match="expected times"):
            Pace(*wrong)
