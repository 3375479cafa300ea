"""Runs that nobody waits for, or that hold up a door, are ended: in the batcher, in the engine, and at load."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from fastserve.backends import ort
from fastserve.backends.base import LoadOptions
from fastserve.clock import monotonic_ns
from fastserve.engine.engine import Engine
from fastserve.engine.watch import LIMIT_NS
from fastserve.errors import Cancelled, DeadlineExceeded
from tests.support import models, slow_models
from tests.support.bench import POISON, SLOW_NS, Bench, together
from tests.support.shelf import Shelf, ask, steps

ENDLESS = 10**12
"""Steps: years of them."""


def test_a_run_whose_deadline_is_over_is_ended_and_the_slot_serves_on():
    bench = Bench(run_ns=SLOW_NS)
    (runner,) = bench.runners
    bench.submit("a", 1, deadline_ns=bench.clock.now_ns + 700)
    runner.during = lambda: bench.clock.advance(700)
    bench.executor.run_all()
    assert bench.answer("a") is DeadlineExceeded
    assert runner.stops == 1
    runner.during = None
    bench.submit("b", 2)
    bench.executor.run_all()
    assert bench.answer("b") == [4]


def test_a_run_that_somebody_waits_for_goes_on():
    bench = Bench(run_ns=SLOW_NS, max_queue_delay_ns=10)
    (runner,) = bench.runners
    bench.submit("a", 1, deadline_ns=bench.clock.now_ns + 700)
    bench.submit("b", 2)
    bench.clock.advance(10)
    runner.during = lambda: bench.clock.advance(700)
    bench.executor.run_all()
    assert bench.batches == [[1, 1]]
    assert (bench.answer("a"), bench.answer("b")) == (DeadlineExceeded, [4])
    assert runner.stops == 0


def test_a_run_whose_only_client_left_is_ended():
    bench = Bench(run_ns=SLOW_NS)
    (runner,) = bench.runners
    bench.submit("a", 1)
    runner.during = bench.cancels["a"]
    bench.executor.run_all()
    assert bench.answer("a") is Cancelled
    assert (runner.stops, runner.stopped) == (1, False)


def test_a_batch_that_failed_is_not_run_again_for_those_who_are_answered():
    bench = Bench(run_ns=SLOW_NS, max_queue_delay_ns=10)
    (runner,) = bench.runners
    bench.submit("late", 1, deadline_ns=bench.clock.now_ns + 700)
    bench.submit("bad", POISON)
    bench.submit("good", 3)
    bench.clock.advance(10)
    runner.during = lambda: bench.clock.advance(700)
    bench.executor.run_all()
    assert bench.batches == [[1, 1, 1], [1], [1]]
    assert bench.answer("good") == [6]


def test_a_run_that_is_not_short_after_all_leaves_the_door():
    bench = Bench(run_ns=100)
    bench.short_runner.during = lambda: bench.clock.advance(LIMIT_NS)
    bench.submit("a", 1)
    assert bench.answer("a") is None
    assert bench.short_runner.stops == 1
    bench.executor.run_all()
    assert bench.answer("a") == [2]
    bench.short_runner.during = None
    bench.submit("b", 3)
    bench.executor.run_all()
    assert bench.answer("b") == [6]


def test_those_that_came_together_and_are_not_short_leave_the_door():
    bench = Bench(run_ns=100)
    bench.short_runner.during = lambda: bench.clock.advance(LIMIT_NS)
    bench.batcher.run_together(together(bench, *"abc"))
    assert [bench.answer(name) for name in "abc"] == [None] * 3
    bench.executor.run_all()
    assert [bench.answer(name) for name in "abc"] == [[0], [2], [4]]


def test_a_run_stopped_by_mistake_loses_nothing():
    bench = Bench(run_ns=100)
    bench.submit("a", 1)
    # The run ended as the alarm looked: what it stops is the next one.
    bench.batcher.short.watch.begun_ns = bench.clock.now_ns
    bench.clock.advance(LIMIT_NS)
    bench.submit("b", 2)
    bench.executor.run_all()
    assert (bench.answer("a"), bench.answer("b")) == ([2], [4])
    assert not bench.short_runner.stopped


def test_short_runs_are_looked_at_no_more_than_once_per_limit():
    bench = Bench(run_ns=100)
    for i in range(50):
        bench.submit(str(i), 1)
    assert len(bench.clock.alarms) == 1
    bench.clock.advance(2 * LIMIT_NS)
    assert not bench.clock.alarms


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def one_after_the_other(engine: Engine) -> Any:
    return ask(engine, "m", steps(3)).outputs["done"].tolist()


def test_endless_runs_end_at_their_deadline_and_every_slot_serves_on(shelf: Shelf):
    shelf.put("m", slow_models.patient())
    with shelf.engine() as engine:
        for _ in range(4):  # more than there are slots, or threads
            late = [ask(engine, "m", steps(ENDLESS), deadline_ns=monotonic_ns() + 50_000_000) for _ in range(2)]
            assert [type(each.outcome) for each in late] == [DeadlineExceeded] * 2
        assert one_after_the_other(engine) == [3]


def test_an_endless_run_whose_client_left_is_ended(shelf: Shelf):
    shelf.put("m", slow_models.patient())
    with shelf.engine() as engine:
        for _ in range(8):
            asked = ask(engine, "m", steps(ENDLESS))
            assert asked.pending is not None
            asked.pending.cancel()
            assert isinstance(asked.outcome, Cancelled)
        assert one_after_the_other(engine) == [3]


def test_an_endless_run_of_a_model_that_is_short_as_a_rule_does_not_keep_the_door(shelf: Shelf):
    shelf.put("m", slow_models.patient(base_steps=0))
    with shelf.engine() as engine:
        lease = engine.lease("m")
        for _ in range(10):  # so that it is known to be short, whatever the machine was doing when it was measured
            lease.batcher._costs.observe(1, 1000)
        assert lease.batcher.short.fits(1, 1)
        # Returns: this thread is the door's.
        asked = ask(engine, "m", steps(ENDLESS), deadline_ns=monotonic_ns() + 1_000_000_000)
        assert isinstance(asked.outcome, DeadlineExceeded)
        assert one_after_the_other(engine) == [3]


def test_a_model_that_never_answers_does_not_keep_the_others_from_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ort, "PROBE_WITHIN_S", 0.2)
    body = helper.make_graph(
        [models.node("Identity", "go_on", "go_on_out"), models.node("MatMul", "s turn", "s_out")],
        "body",
        [models.tensor("at", [], T.INT64), models.tensor("go_on", [], T.BOOL), models.tensor("s", [9, 9])],
        [models.tensor("go_on_out", [], T.BOOL), models.tensor("s_out", [9, 9])],
    )
    endless = models.build(
        [
            models.node("Loop", "trips yes turn", "state", body=body),
            models.node("ReduceMax", "state", "most", keepdims=0),
            models.node("Add", "x most", "y"),
        ],
        [models.tensor("x", ["N", 2])],
        [models.tensor("y", ["N", 2])],
        [
            models.weight("turn", np.eye(9, dtype=np.float32)),
            numpy_helper.from_array(np.array(ENDLESS), "trips"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    model = ort.OrtBackend().load(models.save(endless, tmp_path), LoadOptions())
    assert model.example(1) is None
    assert "terminate" in model.batching.reason
