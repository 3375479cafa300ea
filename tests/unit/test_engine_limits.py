"""The engine with real models: what fails, fails alone; deadlines, full queues, and turns that are fair."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from fastserve.config import ModelConfig
from fastserve.engine import batch, load
from fastserve.engine.executor import Executor
from fastserve.errors import (
    Cancelled,
    DeadlineExceeded,
    FastServeError,
    InvalidRequest,
    InvalidTensor,
    OutOfMemory,
    QueueFull,
    RunFailed,
)
from fastserve.types import InferRequest, Tensor
from tests.support import models, slow_models
from tests.support.shelf import LONG_STEPS, Outcome, Shelf, ask, index, steps
from tests.support.waiting import WITHIN_S, until


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def test_a_request_whose_run_fails_fails_alone(shelf: Shelf):
    shelf.put("m", models.lookup())
    with shelf.engine(ModelConfig(name="m", max_queue_delay_us=50_000, max_batch_rows=64)) as engine:
        rows = [i % 8 if i != 13 else 99 for i in range(40)]
        asked = [ask(engine, "m", index(row)) for row in rows]
        for i, one in enumerate(asked):
            if i == 13:
                assert isinstance(one.outcome, FastServeError)
            else:
                assert one.outputs["row"].tolist() == [[2.0 * rows[i], 2.0 * rows[i] + 1]]
        assert b'fastserve_batch_isolated_total{model="m"}' in engine.metrics.text()
        assert ask(engine, "m", index(3)).outputs["row"].tolist() == [[6.0, 7.0]], "the slots are free again"


def test_a_large_request_of_which_one_part_fails_fails_once_and_frees_its_slots(shelf: Shelf):
    shelf.put("m", models.lookup())
    with shelf.engine(ModelConfig(name="m", max_batch_rows=4, max_queue_rows=8)) as engine:
        rows = [*range(8)] * 8
        rows[37] = 99
        one = ask(engine, "m", index(*rows))
        assert isinstance(one.outcome, FastServeError)
        until(lambda: engine.lease("m").batcher.queued_rows == 0)
        assert ask(engine, "m", index(*[1] * 40)).outputs["row"].shape == (40, 2)
        assert one.answers == 1


def widening() -> Any:
    """`x` [N, 1] -> `y` [N, K]: x, once for each thousand of the greatest of all rows; no probe finds that out."""
    return models.build(
        [
            models.node("ReduceMax", "x", "most", keepdims=0),
            models.node("Div", "most thousand", "thousands"),
            models.node("Cast", "thousands", "whole", to=T.INT64),
            models.node("Max", "whole one", "width"),
            models.node("Shape", "x", "shape"),
            models.node("Gather", "shape zero", "rows"),
            models.node("Concat", "rows width", "wide", axis=0),
            models.node("Expand", "x wide", "y"),
        ],
        [models.tensor("x", ["N", 1])],
        [models.tensor("y", ["N", "K"])],
        [
            models.weight("thousand", np.array(1000, np.float32)),
            models.weight("one", np.array([1])),
            models.weight("zero", np.array([0])),
        ],
    )


def test_a_large_request_whose_parts_answers_do_not_fit_together_is_told_so(shelf: Shelf):
    shelf.put("m", widening())
    with shelf.engine(ModelConfig(name="m", max_batch_rows=4)) as engine:
        one = ask(engine, "m", {"x": np.array([[1]] * 7 + [[3000]], np.float32)})
        assert isinstance(one.outcome, RunFailed)
        assert "send at most 4 rows at a time" in str(one.outcome)
        assert ask(engine, "m", {"x": np.ones((8, 1), np.float32)}).outputs["y"].shape == (8, 1)


def test_where_there_is_no_memory_for_the_whole_answer_it_is_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    def no_memory(*_: Any) -> Any:
        raise MemoryError

    shelf.put("m", models.lookup())
    with shelf.engine(ModelConfig(name="m", max_batch_rows=4)) as engine:
        monkeypatch.setattr(batch, "_joined", no_memory)
        assert isinstance(ask(engine, "m", index(*range(8))).outcome, OutOfMemory)


@pytest.mark.parametrize(
    ("inputs", "error"),
    [({}, InvalidRequest), ({"y": np.zeros(1)}, InvalidRequest), ({"index": np.zeros(1, np.int32)}, InvalidTensor)],
)
def test_what_does_not_fit_the_signature_is_refused_at_once(
    shelf: Shelf, inputs: dict[str, Tensor], error: type[FastServeError]
):
    shelf.put("m", models.lookup())
    with shelf.engine() as engine, pytest.raises(error):
        ask(engine, "m", inputs)


def test_a_caller_that_cannot_take_its_answer_costs_nobody_else_anything(shelf: Shelf):
    shelf.put("m", models.identity(T.INT64))
    config = ModelConfig(name="m", slots=1, max_queue_delay_us=20_000, max_batch_rows=64)
    with shelf.engine(config) as engine:
        lease = engine.lease("m")
        x = np.array([[1, 2]])

        def broken(_: Outcome) -> None:
            raise RuntimeError("no pen")

        for _ in range(3):
            engine.submit(lease, InferRequest({"x": x}), broken)
            asked = ask(engine, "m", {"x": x})
            assert asked.outputs["y"].tolist() == [[1, 2]]


@pytest.mark.parametrize("fault", ["too few answers", "an output is missing"])
def test_a_backend_that_answers_wrongly_costs_nobody_the_slot(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, fault: str
):
    backend_for = load.backend_for
    faulty = threading.Event()

    class Runner:
        def __init__(self, runner: Any) -> None:
            self._runner = runner

        def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
            answers: list[dict[str, Tensor]] = self._runner.run(requests, rows)
            if not faulty.is_set():
                return answers
            return answers[1:] if fault == "too few answers" else [{} for _ in answers]

    class Faulty:
        def __init__(self, path: Path) -> None:
            self._backend = backend_for(path)

        def load(self, *arguments: Any) -> Any:
            model = self._backend.load(*arguments)
            runner = model.runner
            model.runner = lambda: Runner(runner())  # type: ignore[method-assign]
            return model

    monkeypatch.setattr(load, "backend_for", Faulty)
    shelf.put("m", models.identity(T.INT64))
    x = {"x": np.array([[1, 2]])}
    with shelf.engine(ModelConfig(name="m", slots=1, max_queue_delay_us=10_000)) as engine:
        for broken in (True, False, True, False):
            faulty.set() if broken else faulty.clear()
            asked = [ask(engine, "m", x, outputs=("y",)) for _ in range(3)]
            assert [isinstance(one.outcome, FastServeError) for one in asked] == [broken] * 3


def test_a_large_request_that_is_given_up_is_let_go_without_the_collector(shelf: Shelf):
    shelf.put("m", slow_models.patient())
    gone = threading.Event()

    class Steps(np.ndarray):  # type: ignore[type-arg]
        """An array that says when it is gone."""

    gc.disable()
    try:
        with shelf.engine(ModelConfig(name="m", slots=1, max_batch_rows=1, max_queue_rows=4)) as engine:
            running = ask(engine, "m", steps(LONG_STEPS))
            large = steps(*range(500))["steps"].view(Steps)
            weakref.finalize(large, gone.set)
            asked = ask(engine, "m", {"steps": large})
            del large
            assert asked.pending is not None
            asked.pending.cancel()
            assert isinstance(asked.outcome, Cancelled)
            del asked
            assert running.outputs["done"].tolist() == [LONG_STEPS]
            assert gone.wait(WITHIN_S)
    finally:
        gc.enable()


def test_a_deadline_is_kept_in_the_queue_and_in_the_run_and_the_others_go_on(shelf: Shelf):
    shelf.put("m", slow_models.patient())
    with shelf.engine(ModelConfig(name="m", slots=1, max_batch_rows=1)) as engine:
        running = ask(engine, "m", steps(LONG_STEPS))
        soon = engine.clock() + 50_000_000
        queued = ask(engine, "m", steps(1), deadline_ns=soon)
        later = ask(engine, "m", steps(2), deadline_ns=soon + 60_000_000_000)
        assert isinstance(queued.outcome, DeadlineExceeded)
        assert engine.clock() >= soon
        assert running.outputs["done"].tolist() == [LONG_STEPS]
        assert later.outputs["done"].tolist() == [2]
        ran = ask(engine, "m", steps(LONG_STEPS), deadline_ns=engine.clock() + 50_000_000)
        assert isinstance(ran.outcome, DeadlineExceeded)
        assert ask(engine, "m", steps(3)).outputs["done"].tolist() == [3]
        assert ran.answers == 1


def test_a_full_queue_refuses_and_a_caller_that_leaves_makes_room(shelf: Shelf):
    shelf.put("m", slow_models.patient())
    with shelf.engine(ModelConfig(name="m", slots=1, max_batch_rows=1, max_queue_rows=2)) as engine:
        running = ask(engine, "m", steps(LONG_STEPS))
        until(lambda: engine.lease("m").batcher.queued_rows == 0)
        waiting = [ask(engine, "m", steps(i)) for i in range(2)]
        with pytest.raises(QueueFull):
            ask(engine, "m", steps(9))
        assert waiting[0].pending is not None
        waiting[0].pending.cancel()
        assert isinstance(waiting[0].outcome, Cancelled)
        last = ask(engine, "m", steps(7))
        assert [one.outputs["done"].tolist() for one in (running, waiting[1], last)] == [[LONG_STEPS], [1], [7]]


def test_a_model_that_is_never_idle_leaves_the_others_their_turn(shelf: Shelf):
    shelf.put("busy", slow_models.patient())
    shelf.put("other", slow_models.patient())
    over = threading.Event()
    with shelf.engine(ModelConfig(name="busy", max_batch_rows=1)) as engine, ThreadPoolExecutor(12) as pool:

        def client() -> int:
            answered = 0
            while not over.is_set():
                answered += ask(engine, "busy", steps(100)).outputs["done"].tolist() == [100]
            return answered

        clients = [pool.submit(client) for _ in range(12)]
        try:
            until(lambda: engine.lease("busy").batcher.queued_rows > 4)
            for i in range(5):
                assert ask(engine, "other", steps(i)).outputs["done"].tolist() == [i]
            assert engine.lease("busy").batcher.queued_rows > 0
        finally:
            over.set()
        assert all(one.result(WITHIN_S) for one in clients)


def test_as_many_batches_run_at_a_time_as_slots_are_configured(shelf: Shelf):
    shelf.put("m", slow_models.patient())
    with shelf.engine(ModelConfig(name="m", slots=5, max_batch_rows=1)) as engine:
        asked = [ask(engine, "m", steps(LONG_STEPS)) for _ in range(5)]
        until(lambda: engine.lease("m").batcher.queued_rows == 0)
        assert [one.answers for one in asked].count(0) >= 3, "they did not run one after the other"
        assert [one.outputs["done"].tolist() for one in asked] == [[LONG_STEPS]] * 5


def test_a_request_whose_time_is_over_is_not_run(shelf: Shelf):
    shelf.put("m", models.lookup())
    with shelf.engine() as engine, pytest.raises(DeadlineExceeded):
        ask(engine, "m", index(1), deadline_ns=engine.clock() - 1)


def test_stopping_answers_everything_that_waits(shelf: Shelf):
    shelf.put("m", models.identity(T.INT64))
    with shelf.engine(ModelConfig(name="m", max_queue_delay_us=60_000_000)) as engine:
        asked = [ask(engine, "m", {"x": np.array([[1, i]])}) for i in range(3)]
    assert [one.answers for one in asked] == [1, 1, 1]


def test_a_models_priority_is_that_of_its_batches(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    posted: list[int] = []
    post = Executor.post

    def noted(self: Executor, work: Any, priority: int = 0) -> None:
        posted.append(priority)
        post(self, work, priority)

    monkeypatch.setattr(Executor, "post", noted)
    shelf.put("m", models.tiny())
    with shelf.engine(ModelConfig(name="m", priority=7, max_queue_delay_us=1)) as engine:
        assert ask(engine, "m", {"x": np.ones((1, 4), np.float32)}).outputs
    assert 7 in posted
