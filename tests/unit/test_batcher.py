"""The batcher under a clock and an executor that only move when told: every timing rule, every way a ticket may end."""

from typing import Any

import pytest

from fastserve.engine.batch import paying_rows
from fastserve.engine.short import INLINE_NS, TOGETHER_NS
from fastserve.errors import Cancelled, DeadlineExceeded, Draining, QueueFull, RunFailed
from fastserve.types import InferResult
from tests.support.bench import POISON, SLOW_NS, Bench, together


def test_a_short_run_is_answered_on_the_thread_that_brought_it():
    bench = Bench(run_ns=INLINE_NS)
    bench.submit("a", 1, 2)
    assert bench.answer("a") == [2, 4]
    assert "a" not in bench.cancels
    assert not bench.executor.posted


def test_a_long_run_goes_to_an_executor_thread():
    bench = Bench(run_ns=SLOW_NS)
    bench.submit("a", 1)
    assert bench.answer("a") is None
    bench.executor.run_all()
    assert bench.answer("a") == [2]


def test_a_size_that_was_never_measured_goes_to_the_queue():
    bench = Bench(known=False, run_ns=1)
    bench.submit("a", 1)
    assert bench.answer("a") is None
    bench.executor.run_all()
    bench.submit("b", 1)
    assert bench.answer("b") == [2]


def test_what_arrives_during_a_run_leaves_together_after_it():
    bench = Bench()
    bench.submit("a", 1)
    bench.runners[0].during = lambda: (
        setattr(bench.runners[0], "during", None),
        bench.submit("b", 2),
        bench.submit("c", 3),
    )
    bench.executor.run_all()
    assert bench.batches == [[1], [1, 1]]
    assert [bench.answer(name) for name in "abc"] == [[2], [4], [6]]


def test_nothing_waits_while_a_slot_is_free():
    bench = Bench(slots=2)
    bench.submit("a", 1)
    bench.submit("b", 2)
    assert len(bench.executor.posted) == 2


def test_a_batch_holds_no_more_than_max_batch_rows():
    bench = Bench()
    for name in "abcdef":
        bench.submit(name, 1)
    bench.executor.run_all()
    assert bench.batches == [[1, 1, 1, 1], [1, 1]]


def test_different_row_shapes_do_not_share_a_run():
    bench = Bench()
    bench.submit("a", 1, bucket=(3,))
    bench.submit("b", 2, bucket=(4,))
    bench.submit("c", 3, bucket=(3,))
    bench.executor.run_all()
    assert bench.batches == [[1, 1], [1]]


def test_with_a_delay_a_lone_request_leaves_after_it_and_not_before():
    bench = Bench(max_queue_delay_ns=500, run_ns=1)
    bench.submit("a", 1)
    bench.clock.advance(499)
    assert not bench.executor.posted
    bench.clock.advance(1)
    bench.executor.run_all()
    assert bench.answer("a") == [2]


def test_with_a_delay_a_full_batch_leaves_at_once():
    bench = Bench(max_queue_delay_ns=500)
    bench.submit("a", 1, 2, 3)
    bench.submit("b", 4)
    bench.executor.run_all()
    assert bench.batches == [[3, 1]]


def test_a_full_queue_refuses_and_says_when_to_come_back():
    bench = Bench(max_queue_rows=4)
    bench.submit("a", 1, 2, 3, 4)
    with pytest.raises(QueueFull) as refusal:
        bench.submit("b", 1)
    assert refusal.value.retry_after_s
    bench.executor.run_all()
    assert bench.answer("a") == [2, 4, 6, 8]
    assert bench.answer("b") is None


@pytest.mark.parametrize("rows", [5, 8, 9, 40])
def test_a_request_larger_than_a_batch_is_split_and_joined(rows: int):
    bench = Bench(slots=2)
    bench.submit("a", *range(rows))
    bench.executor.run_all()
    assert bench.answer("a") == [2.0 * value for value in range(rows)]
    assert all(sum(batch) <= 4 for batch in bench.batches)


def test_a_request_larger_than_the_queue_is_served_when_nothing_waits():
    bench = Bench(max_queue_rows=4)
    bench.submit("a", *range(100))
    bench.executor.run_all()
    assert bench.answer("a") == [2.0 * value for value in range(100)]


def test_a_large_request_with_one_bad_part_fails_once_and_its_other_parts_are_not_run():
    bench = Bench()
    bench.submit("a", POISON, *range(99))
    bench.executor.run_all()
    assert bench.answer("a") is RunFailed
    assert len(bench.batches) < 10


def test_only_the_wanted_outputs_are_answered():
    bench = Bench()
    bench.submit("a", 1, outputs=("z",))
    bench.submit("b", *range(6), outputs=("z",))
    bench.executor.run_all()
    for name in "ab":
        (answer,) = bench.answers[name]
        assert isinstance(answer, InferResult)
        assert list(answer.outputs) == ["z"]


@pytest.mark.parametrize("place", range(4))
def test_a_request_that_fails_fails_alone(place: int):
    bench = Bench()
    values = [1.0, 2.0, 3.0, 4.0]
    values[place] = POISON
    for i, value in enumerate(values):
        bench.submit(str(i), value)
    bench.executor.run_all()
    assert [bench.answer(str(i)) for i in range(4)] == [RunFailed if v == POISON else [2 * v] for v in values]
    assert b"fastserve_batch_isolated_total" in bench.metrics.text()


def test_a_backend_that_raises_anything_else_answers_its_tickets(caplog: pytest.LogCaptureFixture):
    bench = Bench()
    bench.runners[0].during = lambda: 1 / 0
    bench.submit("a", 1)
    bench.executor.run_all()
    assert bench.answer("a") is RunFailed
    assert "ZeroDivisionError" in caplog.text
    bench.runners[0].during = None
    bench.submit("b", 1)
    bench.executor.run_all()
    assert bench.answer("b") == [2]


def test_a_cancelled_request_leaves_the_queue_and_is_never_run():
    bench = Bench()
    for name in "abc":
        bench.submit(name, 1)
    bench.cancels["b"]()
    bench.executor.run_all()
    assert bench.batches == [[1, 1]]
    assert bench.answer("b") is Cancelled
    assert bench.batcher.queued_rows == 0


def test_a_request_cancelled_during_its_run_does_not_harm_its_batch():
    bench = Bench()
    bench.submit("a", 1)
    bench.submit("b", 2)
    bench.runners[0].during = bench.cancels["a"]
    bench.executor.run_all()
    assert bench.answer("a") is Cancelled
    assert bench.answer("b") == [4]


def test_a_cancelled_large_request_gives_its_queued_rows_back():
    bench = Bench()
    bench.submit("a", *range(40))
    bench.cancels["a"]()
    bench.executor.run_all()
    assert bench.answer("a") is Cancelled
    assert bench.batcher.queued_rows == 0
    assert bench.batches == []


def test_a_deadline_in_the_queue_is_honoured_when_it_comes():
    bench = Bench()
    start = bench.clock.now_ns
    bench.submit("a", 1)
    bench.submit("b", 2, deadline_ns=start + 700)
    bench.clock.advance(699)
    assert bench.answer("b") is None
    bench.clock.advance(1)
    assert bench.answer("b") is DeadlineExceeded
    bench.executor.run_all()
    assert bench.batches == [[1]]


def test_a_deadline_during_the_run_is_answered_when_it_comes():
    bench = Bench(known=False)
    bench.submit("a", 1, deadline_ns=bench.clock.now_ns + 700)
    bench.runners[0].during = lambda: (bench.clock.advance(700), seen.append(bench.answer("a")))
    seen: list[Any] = []
    bench.executor.run_all()
    assert seen == [DeadlineExceeded]
    assert bench.answer("a") is DeadlineExceeded


def test_requests_with_far_deadlines_do_not_pile_up_alarms():
    bench = Bench(max_queue_rows=1000)
    for i in range(100):
        bench.submit(str(i), 1, deadline_ns=bench.clock.now_ns + 10**12 + i)
        bench.executor.run_all()
    assert len(bench.clock.alarms) <= 2


def test_all_slots_busy_and_a_delay_over_does_not_ring_again_and_again():
    bench = Bench(max_queue_delay_ns=500)
    bench.submit("a", 1, 2, 3, 4)
    bench.submit("b", 1)
    bench.clock.advance(10_000)
    assert len(bench.clock.alarms) == 0
    bench.executor.run_all()
    assert bench.answer("b") == [2]


def test_a_model_that_is_not_batched_runs_one_request_at_a_time_whatever_its_rows():
    bench = Bench(batchable=False)
    bench.submit("a", *range(9))
    bench.submit("b", 1)
    bench.executor.run_all()
    assert bench.batches == [[1], [1]]
    assert bench.answer("a") == [2.0 * value for value in range(9)]


def test_closing_answers_what_waits_and_refuses_what_comes():
    bench = Bench()
    bench.submit("a", 1)
    bench.batcher.close()
    assert bench.answer("a") is Draining
    with pytest.raises(Draining):
        bench.submit("b", 1)


def test_no_rows_are_a_request_too():
    bench = Bench()
    bench.submit("a")
    bench.executor.run_all()
    assert bench.answer("a") == []


def test_short_requests_that_come_together_share_a_run_on_the_thread_that_brings_them():
    bench = Bench(run_ns=100)
    bench.batcher.run_together(together(bench, *"abcdef"))
    assert bench.batches == [[1, 1, 1, 1], [1, 1]], "no more than max_batch_rows"
    assert [bench.answer(name) for name in "abcdef"] == [[2.0 * i] for i in range(6)]
    assert not bench.executor.posted


def test_different_row_shapes_do_not_come_together():
    bench = Bench(run_ns=100)
    bench.batcher.run_together(together(bench, *"ab", bucket=(3,)) + together(bench, *"cd", bucket=(4,)))
    assert bench.batches == [[1, 1], [1, 1]]


def test_what_would_take_long_one_after_the_other_is_not_one_batch():
    bench = Bench(run_ns=TOGETHER_NS // 2, max_batch_rows=64)
    bench.batcher.run_together(together(bench, *"abcde"))
    assert bench.batches == [[1, 1], [1, 1], [1]]


def test_of_those_that_come_together_a_bad_one_fails_alone():
    bench = Bench(run_ns=100)
    tickets = together(bench, *"abc")
    tickets[1].inputs["x"][:] = POISON
    bench.batcher.run_together(tickets)
    assert [bench.answer(name) for name in "abc"] == [[0], RunFailed, [4]]


def test_those_that_come_together_while_another_thread_has_the_short_runner_are_queued():
    bench = Bench(run_ns=100)
    runner = bench.batcher.short.take()
    bench.batcher.run_together(together(bench, *"ab"))
    assert [bench.answer(name) for name in "ab"] == [None, None]
    bench.executor.run_all()
    assert [bench.answer(name) for name in "ab"] == [[0], [2]]
    assert runner is not None


def test_those_that_come_together_and_find_the_queue_full_are_told():
    bench = Bench(run_ns=100, max_queue_rows=1)
    bench.batcher.short.take()
    bench.batcher.run_together(together(bench, *"ab"))
    assert bench.answer("b") is QueueFull
    bench.executor.run_all()
    assert bench.answer("a") == [0]


@pytest.mark.parametrize(
    ("run_us", "rows"),
    [
        ({1: 1131, 2: 1852, 4: 3564, 8: 6900, 16: 13900}, 8),  # a transformer encoder, measured
        ({1: 6664, 2: 13570, 4: 27400}, 1),  # a CNN, measured; larger ones took too long to be
        ({1: 11_140, 2: 20_280}, 2),  # a large encoder: what took too long to be measured is seen in what did not
        ({1: 12_000, 2: 16_000}, 16),
        ({1: 60, 2: 62, 4: 66, 8: 74, 16: 90}, 16),
        ({}, 16),
    ],
    ids=["encoder", "convolutions", "large encoder", "foretold", "mostly overhead", "never measured"],
)
def test_batches_are_as_large_as_it_pays(run_us: dict[int, int], rows: int):
    times = [(size, us * 1000) for size, us in run_us.items()]
    assert paying_rows(times, [1, 2, 4, 8, 16]) == rows


def test_what_would_be_more_than_pays_is_left_to_the_next_run():
    bench = Bench(max_batch_rows=8, pays_rows=2)
    for name in "abcd":
        bench.submit(name, 1)
    bench.executor.run_all()
    assert bench.batches == [[1, 1], [1, 1]]
