"""The batch queue's rules one by one, told the time; then any mix of calls against its plain twin."""

import gc
import weakref
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastserve._ext.batchqueue import BatchQueue, Pace
from tests.reference import batchqueue as reference

LARGEST = 2**63 - 1


def queue(max_batch_rows: int = 4, max_delay_ns: int = 0, max_queue_rows: int = 100) -> BatchQueue:
    return BatchQueue(max_batch_rows, max_delay_ns, max_queue_rows)


def push_all(queue: BatchQueue, *tickets: str, now_ns: int = 1000, **how: Any) -> None:
    for ticket in tickets:
        assert queue.push(ticket, "bucket", 1, now_ns, **how)


# ---- when a batch leaves ---------------------------------------------------------------------------------------------


def test_a_lone_request_leaves_after_the_delay_and_not_before() -> None:
    waiting = queue(max_delay_ns=500)
    push_all(waiting, "a", now_ns=1000)
    assert waiting.next_event_ns() == 1500
    assert waiting.pop(1499) == []
    assert not waiting.ready(1499)
    assert waiting.ready(1500)
    assert waiting.pop(1500) == ["a"]


def test_without_a_delay_nothing_waits() -> None:
    waiting = queue()
    push_all(waiting, "a", now_ns=1000)
    assert waiting.next_event_ns() == 0
    assert waiting.pop(1000) == ["a"]
    assert waiting.pop(1000) == []


def test_a_full_batch_leaves_before_the_delay_ends() -> None:
    waiting = queue(max_batch_rows=3, max_delay_ns=500)
    push_all(waiting, "a", "b")
    assert waiting.pop(1000) == []
    push_all(waiting, "c", "d")
    assert waiting.pop(1000) == ["a", "b", "c"]
    assert waiting.pop(1000) == []
    assert waiting.pop(1500) == ["d"]


def test_a_batch_that_is_large_enough_leaves_before_it_is_full() -> None:
    waiting = BatchQueue(8, 500, 100, enough_rows=3)
    push_all(waiting, "a", "b")
    assert (waiting.ready(1000), waiting.pop(1000)) == (False, [])
    push_all(waiting, "c", "d")
    assert (waiting.ready(1000), waiting.pop(1000)) == (True, ["a", "b", "c", "d"])


def test_a_due_ticket_takes_the_others_of_its_bucket_along() -> None:
    waiting = queue(max_delay_ns=500)
    push_all(waiting, "a", now_ns=1000)
    push_all(waiting, "b", now_ns=1400)
    assert waiting.pop(1500) == ["a", "b"]


def test_a_ticket_waits_for_company_no_longer_than_half_its_time() -> None:
    waiting = queue(max_delay_ns=500)
    push_all(waiting, "a", now_ns=1000, deadline_ns=1200)
    assert waiting.next_event_ns() == 1100
    assert waiting.pop(1099) == []
    assert waiting.pop(1100) == ["a"]


def test_a_distant_deadline_does_not_change_the_delay() -> None:
    waiting = queue(max_delay_ns=500)
    push_all(waiting, "a", now_ns=1000, deadline_ns=1_000_000)
    assert waiting.next_event_ns() == 1500


def test_a_delay_without_end_does_not_overflow() -> None:
    waiting = queue(max_delay_ns=LARGEST)
    push_all(waiting, "a", now_ns=LARGEST - 5)
    assert waiting.pop(LARGEST - 1) == []
    assert waiting.pop(LARGEST) == ["a"]


# ---- who is in it ----------------------------------------------------------------------------------------------------


def test_tickets_of_a_bucket_leave_by_priority_and_then_by_arrival() -> None:
    waiting = queue(max_batch_rows=10)
    for ticket, priority in [("a", 0), ("b", 5), ("c", -5), ("d", 5), ("e", 0), ("f", 9), ("g", 2)]:
        waiting.push(ticket, "bucket", 1, 1000, 0, priority)
    assert waiting.pop(1000) == ["f", "b", "d", "g", "a", "e", "c"]


def test_a_ticket_that_does_not_fit_ends_the_batch_and_is_not_overtaken() -> None:
    waiting = queue(max_batch_rows=4)
    for ticket, rows in [("a", 3), ("b", 2), ("c", 1)]:
        waiting.push(ticket, "bucket", rows, 1000)
    assert waiting.pop(1000) == ["a"]
    assert waiting.pop(1000) == ["b", "c"]


def test_a_batch_is_of_one_bucket() -> None:
    waiting = queue()
    for ticket, bucket in [("a", (1, 2)), ("b", (3,)), ("c", (1, 2))]:
        waiting.push(ticket, bucket, 1, 1000)
    assert waiting.pop(1000) == ["a", "c"]
    assert waiting.pop(1000) == ["b"]


def test_the_bucket_with_the_highest_priority_goes_first_then_the_oldest() -> None:
    waiting = queue(max_batch_rows=1)
    for ticket, priority in [("old", 0), ("young", 0), ("urgent", 1)]:
        waiting.push(ticket, ticket, 1, 1000, 0, priority)
    assert [waiting.pop(1000) for _ in range(3)] == [["urgent"], ["old"], ["young"]]


def test_no_bucket_starves_behind_higher_priorities() -> None:
    waiting = queue(max_batch_rows=1)
    for bucket in ("poor", "poorer"):
        waiting.push(bucket, bucket, 1, 1000)
    urgent = [f"urgent{i}" for i in range(40)]
    left = []
    for ticket in urgent:  # one comes for each that leaves
        waiting.push(ticket, "urgent", 1, 1000, 0, 9)
        left += waiting.pop(1000)
    assert left.index("poor") == 7
    assert left.index("poorer") == 15


# ---- deadlines -------------------------------------------------------------------------------------------------------


def test_a_late_ticket_is_never_in_a_batch_and_is_answered_by_expire() -> None:
    waiting = queue()
    push_all(waiting, "a", deadline_ns=1100)
    push_all(waiting, "b", deadline_ns=1101)
    assert waiting.next_event_ns() == 1100
    assert waiting.pop(1100) == ["b"]
    assert (len(waiting), waiting.queued_rows, waiting.next_event_ns()) == (1, 1, 1100)
    assert waiting.ready(1100)
    assert waiting.expire(1100) == ["a"]
    assert (len(waiting), waiting.queued_rows, waiting.next_event_ns()) == (0, 0, 0)


def test_expired_tickets_come_by_deadline_then_by_arrival() -> None:
    waiting = queue()
    for ticket, deadline_ns in [("a", 3000), ("b", 2000), ("c", 2000), ("d", 9000)]:
        waiting.push(ticket, ticket, 1, 1000, deadline_ns)
    assert waiting.expire(1999) == []
    assert waiting.expire(3000) == ["b", "c", "a"]
    assert waiting.next_event_ns() == 9000


def test_a_ticket_that_comes_too_late_expires_at_once() -> None:
    waiting = queue()
    push_all(waiting, "a", now_ns=1000, deadline_ns=999)
    assert waiting.pop(1000) == []
    assert waiting.expire(1000) == ["a"]


def test_time_that_goes_back_does_not_unmake_what_was_found() -> None:
    waiting = queue(max_delay_ns=500)
    push_all(waiting, "a", now_ns=1000)
    push_all(waiting, "b", now_ns=1000, deadline_ns=1200)
    assert waiting.ready(1500)
    assert waiting.pop(1300) == ["a"]
    assert waiting.expire(0) == ["b"]


# ---- coming and going ------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_until_rows_leave() -> None:
    waiting = queue(max_batch_rows=4, max_queue_rows=5)
    assert waiting.push("a", "bucket", 4, 1000)
    assert not waiting.push("b", "bucket", 2, 1000)
    assert waiting.push("c", "bucket", 1, 1000)
    assert not waiting.push("d", "bucket", 1, 1000)
    assert waiting.push("rest", "bucket", 4, 1000, admitted=True)
    assert (len(waiting), waiting.queued_rows) == (3, 9)
    assert waiting.pop(1000) == ["a"]
    assert waiting.pop(1000) == ["c"]
    assert waiting.push("d", "bucket", 1, 1000)


def test_a_removed_ticket_is_gone_and_its_neighbours_are_not() -> None:
    waiting = queue()
    push_all(waiting, "a", "b", "c")
    assert waiting.remove("b")
    assert not waiting.remove("b")
    assert waiting.pop(1000) == ["a", "c"]


def test_a_late_ticket_can_be_removed() -> None:
    waiting = queue()
    push_all(waiting, "a", "b", deadline_ns=1100)
    assert waiting.pop(2000) == []
    assert waiting.remove("a")
    assert waiting.expire(2000) == ["b"]


def test_tickets_are_known_by_identity_and_need_not_be_hashable() -> None:
    waiting = queue()
    one: list[int] = []
    other: list[int] = []
    waiting.push(one, "bucket", 1, 1000)
    waiting.push(other, "bucket", 1, 1000)
    assert waiting.remove(other)
    assert waiting.pop(1000)[0] is one


def test_clear_answers_all_in_order_of_arrival() -> None:
    waiting = queue()
    waiting.push("a", "x", 1, 1000, 0, 0)
    waiting.push("b", "y", 1, 1000, 1001, 7)
    waiting.push("c", "x", 1, 1000, 0, 3)
    waiting.ready(2000)
    assert waiting.clear() == ["a", "b", "c"]
    assert (len(waiting), waiting.queued_rows, waiting.next_event_ns()) == (0, 0, 0)
    assert waiting.pop(2000) == []
    push_all(waiting, "d")
    assert waiting.pop(2000) == ["d"]


@pytest.mark.parametrize(
    ("rows", "now_ns", "deadline_ns"),
    [(0, 0, 0), (-1, 0, 0), (5, 0, 0), (1, -1, 0), (1, 0, -1), (-(2**63), 0, 0), (LARGEST, 0, 0)],
)
def test_what_can_never_leave_is_refused(rows: int, now_ns: int, deadline_ns: int) -> None:
    waiting = queue()
    with pytest.raises(ValueError, match="expected 1 to 4 rows"):
        waiting.push("a", "bucket", rows, now_ns, deadline_ns)
    assert len(waiting) == 0


@pytest.mark.parametrize("arguments", [(0, 0, 1), (1, -1, 1), (1, 0, 0), (-5, 0, -5), (1, 0, 1, 0)])
def test_limits_that_let_nothing_through_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchQueue(*arguments)


def test_a_number_that_has_no_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        queue().push("a", "bucket", 1, 2**63)


def test_a_ticket_is_queued_once() -> None:
    waiting = queue()
    push_all(waiting, "a")
    with pytest.raises(ValueError, match="new ticket"):
        waiting.push("a", "another", 1, 1000)
    assert waiting.pop(1000) == ["a"]
    assert waiting.pop(1000) == []


def test_a_bucket_without_a_hash_leaves_the_queue_as_it_was() -> None:
    waiting = queue()
    with pytest.raises(TypeError):
        waiting.push("a", [], 1, 1000)  # type: ignore[arg-type]
    assert (len(waiting), waiting.queued_rows) == (0, 0)
    push_all(waiting, "a")
    assert waiting.pop(1000) == ["a"]


def test_a_second_constructor_call_does_not_lose_tickets() -> None:
    waiting = queue()
    push_all(waiting, "a")
    waiting.__init__(1, 1, 1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        BatchQueue.__new__(BatchQueue)
    assert waiting.pop(1000) == ["a"]


# ---- memory ----------------------------------------------------------------------------------------------------------


class Ticket:
    def __init__(self, holds: object = None) -> None:
        self.holds = holds


def test_a_ticket_is_let_go_with_the_answer() -> None:
    waiting = queue()
    for answer in (lambda: waiting.pop(1000), lambda: waiting.expire(9000), waiting.clear):
        ticket = Ticket()
        seen = weakref.ref(ticket)
        waiting.push(ticket, "bucket", 1, 1000, 5000)
        del ticket
        assert seen() is not None
        answer()
        assert seen() is None


def test_a_queue_that_its_own_tickets_hold_is_collected() -> None:
    waiting = queue()
    seen = []
    for _ in range(3):
        ticket = Ticket(waiting)
        seen.append(weakref.ref(ticket))
        waiting.push(ticket, "bucket", 1, 1000, 5000)
    del waiting, ticket
    gc.collect()
    assert [ref() for ref in seen] == [None, None, None]


# ---- against the twin ------------------------------------------------------------------------------------------------

ROWS = st.integers(1, 5)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True).map(lambda sizes: tuple(sorted(sizes)))
STEP = st.sampled_from([0, 0, 0, 1, 3, 10, 100, -1])


class AgainstTwin(RuleBasedStateMachine):
    """Both queues get the same calls at the same times and must say the same."""

    @initialize(
        batch_rows=st.integers(1, 8),
        delay_ns=st.sampled_from([0, 0, 7, 50]),
        queue_rows=st.integers(1, 30),
        enough_rows=st.integers(1, 10),
        pays_rows=st.integers(1, 10),
        pace=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.just(()) | SIZES),
    )
    def start(
        self, batch_rows: int, delay_ns: int, queue_rows: int, enough_rows: int, pays_rows: int, pace: Any
    ) -> None:
        self.batch_rows = batch_rows
        self.native = BatchQueue(batch_rows, delay_ns, queue_rows, enough_rows)
        self.twin = reference.BatchQueue(batch_rows, delay_ns, queue_rows, enough_rows)
        self.native.pays_rows = self.twin.pays_rows = pays_rows
        if pace is not None:
            self.native.pace_of, self.twin.pace_of = lambda _: Pace(*pace), lambda _: reference.Pace(*pace)
        self.now_ns = 100
        self.tickets: list[Ticket] = []

    def both(self, method: str, *arguments: object) -> Any:
        said = getattr(self.native, method)(*arguments)
        assert said == getattr(self.twin, method)(*arguments)
        return said

    @rule(
        bucket=st.sampled_from("xyz"),
        rows=ROWS,
        step=STEP,
        left_ns=st.sampled_from([None, None, -1, 0, 1, 5, 40]),
        priority=st.sampled_from([0, 0, 0, 1, -1, 2**63 - 1, -(2**63)]),
        admitted=st.booleans(),
    )
    def push(self, *, bucket: str, rows: int, step: int, left_ns: int | None, priority: int, admitted: bool) -> None:
        self.now_ns += step
        ticket = Ticket()
        deadline_ns = 0 if left_ns is None else self.now_ns + left_ns
        rows = min(rows, self.batch_rows)
        if self.both("push", ticket, bucket, rows, self.now_ns, deadline_ns, priority, admitted):
            self.tickets.append(ticket)

    @rule(step=STEP, method=st.sampled_from(["pop", "pop", "pop", "ready", "expire"]))
    def ask(self, step: int, method: str) -> None:
        self.now_ns += step
        self.both(method, self.now_ns)

    @rule(bucket=st.sampled_from("xyz"), priority=st.integers(-1, 2))
    def look(self, bucket: str, priority: int) -> None:
        self.both("ahead", bucket, priority)

    @precondition(lambda self: self.tickets)
    @rule(at=st.integers(0, 10**6))
    def remove(self, at: int) -> None:
        self.both("remove", self.tickets[at % len(self.tickets)])

    @rule()
    def clear(self) -> None:
        self.both("clear")

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "native"):
            self.both("next_event_ns")
            assert (len(self.native), self.native.queued_rows) == (len(self.twin), self.twin.queued_rows)


AgainstTwin.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
test_any_mix_of_calls_agrees_with_the_twin = AgainstTwin.TestCase
