"""What the batcher counts of a version: every request once, whatever becomes of it; every run once."""

from typing import Any

import numpy as np
import pytest

from fastserve._ext.ticket import Ticket
from fastserve.engine.short import INLINE_NS
from fastserve.errors import QueueFull
from fastserve.protocols.oip.statistics import Now, model_stats
from fastserve.types import InferRequest
from tests.support.bench import POISON, SLOW_NS, Bench


def stats(bench: Bench) -> dict[str, Any]:
    (one,) = model_stats(bench.metrics.snapshot(), [("m", "1")], Now(bench.clock(), 10**18))["model_stats"]
    return dict(one)


def counts(bench: Bench) -> tuple[int, int, int, int]:
    """Requests answered, requests failed, rows, runs."""
    one = stats(bench)
    told = one["inference_stats"]
    return told["success"]["count"], told["fail"]["count"], one["inference_count"], one["execution_count"]


def sizes(bench: Bench) -> dict[int, int]:
    """Runs by their rows."""
    return {one["batch_size"]: one["compute_infer"]["count"] for one in stats(bench)["batch_stats"]}


@pytest.mark.parametrize("run_ns", [INLINE_NS, SLOW_NS])
def test_a_request_is_counted_wherever_it_ran(run_ns: int):
    bench = Bench(run_ns=run_ns)
    bench.submit("a", 1, 2)
    bench.executor.run_all()
    one = stats(bench)
    assert counts(bench) == (1, 0, 2, 1)
    assert one["inference_stats"]["compute_infer"] == {"count": 1, "ns": run_ns}
    assert one["batch_stats"] == [
        {
            "batch_size": 2,
            "compute_input": {"count": 1, "ns": 0},
            "compute_infer": {"count": 1, "ns": run_ns},
            "compute_output": {"count": 1, "ns": 0},
        }
    ]


def test_of_a_batch_each_request_has_the_whole_run_and_the_size_has_it_once():
    bench = Bench()
    for name in "abc":
        bench.submit(name, 1)
        bench.clock.now_ns += 5
    bench.executor.run_all()
    one = stats(bench)
    assert counts(bench) == (3, 0, 3, 1)
    assert sizes(bench) == {3: 1}
    assert one["inference_stats"]["compute_infer"]["ns"] == 3 * SLOW_NS
    assert one["inference_stats"]["queue"]["ns"] == 15 + 10 + 5
    assert one["inference_stats"]["success"]["ns"] == 30 + 3 * SLOW_NS
    assert one["batch_stats"][0]["compute_infer"]["ns"] == SLOW_NS


def test_the_time_before_the_queue_is_the_inputs():
    bench = Bench(run_ns=INLINE_NS)
    bench.clock.now_ns = 1000
    request = InferRequest({"x": np.array([1.0], np.float32)}, received_ns=400)
    assert bench.batcher.run_inline(request, 1, 1, lambda _: None)
    told = stats(bench)["inference_stats"]
    assert (told["compute_input"]["ns"], told["success"]["ns"]) == (600, 600 + INLINE_NS)


def test_a_large_request_is_one_request_of_several_runs():
    bench = Bench(max_batch_rows=4)
    bench.submit("large", *range(10))
    bench.executor.run_all()
    assert counts(bench) == (1, 0, 10, 3)
    assert sizes(bench) == {4: 2, 2: 1}
    told = stats(bench)["inference_stats"]
    assert told["compute_infer"] == {"count": 1, "ns": 3 * SLOW_NS}
    assert told["success"] == {"count": 1, "ns": 3 * SLOW_NS}


def test_a_large_request_that_fails_fails_once():
    bench = Bench(max_batch_rows=4)
    bench.submit("large", *range(9), POISON)
    bench.executor.run_all()
    assert counts(bench)[:2] == (0, 1)


@pytest.mark.parametrize("run_ns", [INLINE_NS, SLOW_NS])
def test_a_request_that_fails_is_counted_as_that(run_ns: int):
    bench = Bench(run_ns=run_ns)
    bench.submit("bad", POISON)
    bench.executor.run_all()
    assert counts(bench) == (0, 1, 0, 0)
    assert stats(bench)["inference_stats"]["fail"]["ns"] == run_ns


def test_of_a_batch_with_a_bad_request_the_others_are_answered():
    bench = Bench()
    bench.submit("first", 1)
    for value in (1, POISON, 2):
        bench.submit(str(value), value)
    bench.executor.run_all()
    assert counts(bench)[:2] == (3, 1)


def test_who_finds_the_queue_full_has_failed():
    bench = Bench(max_queue_rows=1, slots=1)
    bench.runners[0].during = lambda: (setattr(bench.runners[0], "during", None), fill())

    def fill() -> None:
        bench.submit("b", 1)
        with pytest.raises(QueueFull):
            bench.submit("c", 1)

    bench.submit("a", 1)
    bench.executor.run_all()
    assert counts(bench)[:2] == (2, 1)


def test_who_waited_too_long_or_went_away_has_failed_once():
    bench = Bench()
    bench.submit("late", 1, deadline_ns=bench.clock() + 10)
    bench.submit("gone", 1)
    bench.cancels["gone"]()
    bench.clock.advance(10)
    bench.executor.run_all()
    bench.cancels["late"]()
    assert counts(bench)[:2] == (0, 2)


def test_who_went_away_during_the_run_is_no_success():
    bench = Bench()
    ticket = Ticket(bench.batcher, {"x": np.array([1.0], np.float32)}, 1, 1, None, lambda _: None)
    bench.runners[0].during = lambda: bench.batcher.cancel(ticket)
    bench.batcher.submit(ticket)
    bench.submit("other", 2)
    bench.executor.run_all()
    assert counts(bench) == (1, 1, 1, 1)
    assert sizes(bench) == {2: 1}


def test_the_last_run_is_told_on_the_walls_clock():
    bench = Bench(run_ns=INLINE_NS)
    assert stats(bench)["last_inference"] == 0
    bench.clock.now_ns = 5_000_000
    bench.submit("a", 1)
    ended_ns = bench.clock()
    bench.clock.now_ns += 7_000_000_000
    assert stats(bench)["last_inference"] == (10**18 - (bench.clock() - ended_ns)) // 1_000_000
