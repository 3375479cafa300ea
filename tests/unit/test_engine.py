"""The engine with real models: answers under concurrency, versions that come and go beneath running requests."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T

from fastserve.config import Config, ModelConfig, RepositoryConfig
from fastserve.engine import load
from fastserve.engine.engine import Engine
from fastserve.engine.lease import Lease
from fastserve.errors import Cancelled, DeadlineExceeded, FastServeError, InvalidRequest, InvalidTensor, QueueFull
from fastserve.types import InferRequest, InferResult, Tensor, VersionState
from tests.support import models, slow_models

WITHIN_S = 30.0
LONG_STEPS = 6_000
"""Some tenths of a second of `slow_models.patient`."""

Outcome = InferResult | FastServeError


class Shelf:
    """A repository on disk, and the engine over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, model: Any, version: int = 1) -> Path:
        return models.save(model, self.folder / name / str(version))

    @contextmanager
    def engine(self, *configured: ModelConfig, **repository: Any) -> Iterator[Engine]:
        found = RepositoryConfig(path=(str(self.folder),), **{"poll_seconds": 0, **repository})
        engine = Engine(Config(repository=found, models=configured))
        engine.start()
        try:
            engine.refresh()
            yield engine
        finally:
            engine.stop()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


class Asked:
    """One request under way."""

    def __init__(self, engine: Engine, lease: Lease, inputs: dict[str, Tensor], **request: Any) -> None:
        self._future: Future[Outcome] = Future()
        self.answers = 0
        self.pending = engine.submit(lease, InferRequest(inputs, **request), self._answer)

    def _answer(self, outcome: Outcome) -> None:
        self.answers += 1
        self._future.set_result(outcome)  # raises when called twice

    @property
    def outcome(self) -> Outcome:
        return self._future.result(WITHIN_S)

    @property
    def outputs(self) -> dict[str, Tensor]:
        outcome = self.outcome
        assert isinstance(outcome, InferResult), outcome
        return outcome.outputs


def ask(engine: Engine, name: str, inputs: dict[str, Tensor], **request: Any) -> Asked:
    return Asked(engine, engine.lease(name), inputs, **request)


def until(condition: Callable[[], bool]) -> None:
    """Wait, within bounds, for what another thread brings about."""
    done = threading.Event()
    for _ in range(int(WITHIN_S / 0.01)):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("it did not come about in time")


# --- answers


DELAYED = {"max_queue_delay_us": 300, "max_batch_rows": 6}
"""Requests wait for each other, so that they meet in batches; without a delay short runs stay with their callers."""

ZOO: dict[str, Callable[[], Any]] = {
    "ints": lambda: models.identity(T.INT64, ("N", 2)),
    "free": models.free_rows,
    "strings": models.strings,
    "two": models.two_inputs,
    "tiny": models.tiny,
    "recurrent": models.recurrent,
    "fixed": models.fixed_first_axis,
    "cumulated": models.running_sum,
}
_unique = count(1)


class Zoo:
    """One engine over many models, each alone and with a queue delay, and what each answers to a request alone."""

    def __init__(self, engine: Engine, alone: Engine) -> None:
        self.engine = engine
        self._alone = alone

    def inputs(self, model: str, rows: int, width: int) -> dict[str, Tensor]:
        """Inputs of the model of values that no other request has: a row that crosses cannot go unseen."""
        start = next(_unique) * 1000
        numbers = np.arange(start, start + rows * max(width, 4), dtype=np.int64)
        cells = numbers.astype(np.float32)
        match model:
            case "ints":
                return {"x": numbers[: rows * 2].reshape(rows, 2)}
            case "free":
                return {"x": cells[: rows * width].reshape(rows, width)}
            case "strings":
                return {"text": np.array([f"{number} \u00e9" for number in numbers[:rows]], dtype=object)}
            case "two":
                return {"a": cells[: rows * 3].reshape(rows, 3), "b": -cells[: rows * 3].reshape(rows, 3) / 2}
            case "tiny":
                return {"x": np.sin(cells[: rows * 4]).reshape(rows, 4)}
            case "recurrent":
                lengths = np.full(rows, width, dtype=np.int32)
                state = np.cos(cells[: rows * 4]).repeat(5)[: rows * 5].reshape(1, rows, 5)
                steps = np.resize(np.sin(cells), rows * width * 3).reshape(rows, width, 3)
                return {"x": steps, "h0": state, "lengths": lengths}
            case "fixed":
                return {"x": cells[:3].reshape(1, 3)}
            case _:
                return {"x": cells[: rows * 3].reshape(rows, 3)}

    def alone(self, model: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the model answers when nobody else asks."""
        return ask(self._alone, model, inputs).outputs


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    shelf = Shelf(tmp_path_factory.mktemp("zoo"))
    for name, model in ZOO.items():
        shelf.put(name, model())
        shelf.put(f"{name}-delayed", model())
    configured = [ModelConfig(name=f"{name}-delayed", **DELAYED) for name in ZOO]
    configured += [ModelConfig(name=name, max_batch_rows=6) for name in ZOO]
    with shelf.engine(*configured) as engine, shelf.engine() as alone:
        yield Zoo(engine, alone)


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            assert got[name].tolist() == array.tolist(), name


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(sorted(ZOO)),
        st.booleans(),  # with a queue delay
        st.sampled_from([1, 1, 1, 2, 3, 5, 6, 7, 20]),  # rows; a batch takes 6
        st.integers(1, 4),  # width of a row, where it is free
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=30)
@given(requests=REQUESTS, threads=st.integers(1, 6), gathered=st.booleans())
def test_any_mix_of_requests_at_a_time_gets_the_answers_that_each_gets_alone(
    zoo: Zoo, requests: list[tuple[str, bool, int, int]], threads: int, gathered: bool
):
    given_inputs = [(model, delayed, zoo.inputs(model, rows, width)) for model, delayed, rows, width in requests]
    expected = [zoo.alone(model, inputs) for model, _, inputs in given_inputs]
    begin = threading.Barrier(threads)

    def client(mine: list[int]) -> list[tuple[int, Asked]]:
        begin.wait(WITHIN_S)
        asked = []

        def ask_all() -> None:
            for i in mine:
                model, delayed, inputs = given_inputs[i]
                asked.append((i, ask(zoo.engine, f"{model}-delayed" if delayed else model, inputs)))

        if gathered:
            zoo.engine.gather(ask_all)
        else:
            ask_all()
        return asked

    with ThreadPoolExecutor(threads) as pool:
        shares = [list(range(at, len(requests), threads)) for at in range(threads)]
        for i, asked in (pair for pairs in pool.map(client, shares) for pair in pairs):
            same(asked.outputs, expected[i])
            assert asked.answers == 1


@pytest.mark.parametrize("model", ["ints", "ints-delayed", "free", "strings", "two"])
def test_a_request_without_rows_is_answered_without_rows(zoo: Zoo, model: str):
    inputs = zoo.inputs(model.removesuffix("-delayed"), 0, 3)
    outputs = ask(zoo.engine, model, inputs).outputs
    assert {array.shape[0] for array in outputs.values()} == {0}


def test_requests_that_wait_for_each_other_ride_in_one_batch(zoo: Zoo):
    asked = [ask(zoo.engine, "ints-delayed", zoo.inputs("ints", 1, 2)) for _ in range(6)]
    outcomes = [one.outcome for one in asked]
    assert {outcome.timing.batch_rows for outcome in outcomes if isinstance(outcome, InferResult)} == {6}


def test_requests_that_are_gathered_ride_together_and_one_bad_one_fails_alone(shelf: Shelf):
    shelf.put("m", models.lookup())
    with shelf.engine() as engine:
        for _ in range(5):  # the estimate of a run settles
            ask(engine, "m", index(0))
        asked: list[Asked] = []
        refused: list[FastServeError] = []

        def ask_all() -> None:
            asked.extend(ask(engine, "m", index(i)) for i in range(8))
            asked.append(ask(engine, "m", index(99)))
            with pytest.raises(InvalidTensor) as caught:
                ask(engine, "m", {"index": np.zeros(1, np.int32)})
            refused.append(caught.value)
            assert asked[0].pending is not None
            asked[0].pending.cancel()

        engine.gather(ask_all)
        assert isinstance(asked[0].outcome, Cancelled)
        assert [one.outputs["row"].tolist() for one in asked[1:8]] == [[[2.0 * i, 2.0 * i + 1]] for i in range(1, 8)]
        assert isinstance(asked[8].outcome, FastServeError)
        assert len(refused) == 1
        assert ask(engine, "m", index(5)).outputs["row"].tolist() == [[10.0, 11.0]], "nothing is gathered any more"


@pytest.mark.parametrize("rows", [64, 65, 128, 1000])
@pytest.mark.parametrize("wanted", [None, ("length",), ("length", "y")])
def test_a_request_with_more_rows_than_a_batch_takes_is_cut_and_joined(
    shelf: Shelf, rows: int, wanted: tuple[str, ...] | None
):
    shelf.put("m", models.free_rows())
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    with shelf.engine() as engine:
        outputs = ask(engine, "m", {"x": x}, outputs=wanted).outputs
    expected = {"y": 2 * x, "length": x.sum(axis=1, keepdims=True)}
    same(outputs, {name: expected[name] for name in wanted or expected})


def test_outputs_come_in_the_order_that_was_asked_for(zoo: Zoo):
    inputs = zoo.inputs("two", 2, 3)
    for model in ("two", "two-delayed"):
        assert list(ask(zoo.engine, model, inputs, outputs=("product", "sum")).outputs) == ["product", "sum"]
        assert list(ask(zoo.engine, model, inputs, outputs=("product",)).outputs) == ["product"]


def test_answers_are_the_receivers_own(zoo: Zoo):
    """What a later request computes must not write into an answer that was given."""
    for model in ("ints", "ints-delayed", "two"):
        name = model.removesuffix("-delayed")
        kept = [(zoo.inputs(name, 2, 2), {}) for _ in range(4)]
        kept = [(inputs, ask(zoo.engine, model, inputs).outputs) for inputs, _ in kept]
        for inputs, outputs in kept:
            same(outputs, zoo.alone(name, inputs))


# --- failures


def index(*rows: int) -> dict[str, Tensor]:
    return {"index": np.array(rows, dtype=np.int64)}


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


# --- time


def steps(*counts: int) -> dict[str, Tensor]:
    return {"steps": np.array(counts, dtype=np.int64)}


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


def test_a_request_whose_time_is_over_is_not_run(zoo: Zoo):
    with pytest.raises(DeadlineExceeded):
        ask(zoo.engine, "ints", zoo.inputs("ints", 1, 2), deadline_ns=zoo.engine.clock() - 1)


def test_stopping_answers_everything_that_waits(shelf: Shelf):
    shelf.put("m", models.identity(T.INT64))
    with shelf.engine(ModelConfig(name="m", max_queue_delay_us=60_000_000)) as engine:
        asked = [ask(engine, "m", {"x": np.array([[1, i]])}) for i in range(3)]
    assert [one.answers for one in asked] == [1, 1, 1]


# --- versions


def times(factor: int) -> Any:
    """`x` [N, 2] -> `y`, x times the factor."""
    return models.build(
        [models.node("Mul", "x k", "y")],
        [models.tensor("x", ["N", 2], T.INT64)],
        [models.tensor("y", ["N", 2], T.INT64)],
        [models.weight("k", np.array([factor], dtype=np.int64))],
    )


def ready(engine: Engine, model: str = "m") -> list[int]:
    return [status.version for status in engine.status(model) if status.state is VersionState.READY]


def known(engine: Engine, model: str = "m") -> dict[int, VersionState]:
    return {status.version: status.state for status in engine.status(model)}


def test_a_version_that_is_replaced_answers_what_is_queued_and_running(shelf: Shelf):
    shelf.put("m", slow_models.patient(), 1)
    with shelf.engine(ModelConfig(name="m", slots=1, max_batch_rows=1)) as engine:
        asked = [ask(engine, "m", steps(LONG_STEPS + i)) for i in range(3)]
        shelf.put("m", slow_models.patient(), 2)
        engine.refresh()
        assert known(engine) == {2: VersionState.READY, 1: VersionState.DRAINING}
        for i, one in enumerate(asked):
            assert one.outputs["done"].tolist() == [LONG_STEPS + i]
            assert isinstance(one.outcome, InferResult)
            assert one.outcome.version == 1
        until(lambda: known(engine) == {2: VersionState.READY})


def test_a_session_is_closed_when_the_last_lease_ends_and_not_before(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    sessions: list[weakref.ref[Any]] = []
    backend_for = load.backend_for

    class Watched:
        def __init__(self, path: Path) -> None:
            self._backend = backend_for(path)

        def load(self, *arguments: Any) -> Any:
            model = self._backend.load(*arguments)
            sessions.append(weakref.ref(model._session))  # type: ignore[attr-defined]
            return model

    monkeypatch.setattr(load, "backend_for", Watched)
    shelf.put("m", times(3), 1)
    with shelf.engine() as engine:
        lease = engine.lease("m")
        shelf.put("m", times(4), 2)
        engine.refresh()
        assert known(engine) == {2: VersionState.READY, 1: VersionState.DRAINING}
        x = np.array([[1, 2]])
        assert Asked(engine, lease, {"x": x}).outputs["y"].tolist() == [[3, 6]]
        assert sessions[0]() is not None
        del lease
        until(lambda: known(engine) == {2: VersionState.READY})
        gc.collect()
        until(lambda: sessions[0]() is None)
        assert ask(engine, "m", {"x": x}).outputs["y"].tolist() == [[4, 8]]


def test_versions_come_break_and_go_while_requests_run_and_none_fails(shelf: Shelf):
    shelf.put("m", times(1), 1)
    configured = ModelConfig(name="m", max_batch_rows=4)
    wrong: list[str] = []
    seen: set[int] = set()
    over = threading.Event()
    with shelf.engine(configured) as engine:

        def client(number: int) -> None:
            for i in count(number * 1_000_000):
                if over.is_set():
                    return
                x = np.array([[i, -i]] * (1 + i % 6), dtype=np.int64)
                outcome = ask(engine, "m", {"x": x}).outcome
                if not isinstance(outcome, InferResult):
                    wrong.append(repr(outcome))
                elif outcome.outputs["y"].tolist() != (x * outcome.version).tolist():
                    wrong.append(f"version {outcome.version} answered {outcome.outputs['y']}")
                else:
                    seen.add(outcome.version)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, number) for number in range(4)]
            for version in (2, 3, 4):
                shelf.put("m", times(version), version)
                engine.refresh()
                assert ready(engine) == [version]
                until(lambda version=version: version in seen)  # type: ignore[misc]
            shelf.put("m", times(5), 5).write_bytes(b"no model")
            engine.refresh()
            assert known(engine)[5] is VersionState.FAILED
            assert ready(engine) == [4]
            (shelf.folder / "m" / "4" / "model.onnx").unlink()
            engine.refresh()
            assert ready(engine) == [3], "a removed version falls back"
            seen.clear()
            until(lambda: 3 in seen)
            over.set()
            for one in clients:
                one.result(WITHIN_S)
        assert wrong == []
        until(lambda: set(known(engine).values()) <= {VersionState.READY, VersionState.FAILED})


def test_changed_files_of_a_version_are_loaded_anew(shelf: Shelf):
    shelf.put("m", times(1), 1)
    x = np.array([[1, 2]])
    with shelf.engine() as engine:
        assert ask(engine, "m", {"x": x}).outputs["y"].tolist() == [[1, 2]]
        shelf.put("m", times(7), 1)
        engine.refresh()
        assert ask(engine, "m", {"x": x}).outputs["y"].tolist() == [[7, 14]]
        until(lambda: known(engine) == {1: VersionState.READY})


# --- readiness


def test_before_the_first_look_it_is_starting(shelf: Shelf):
    engine = Engine(Config(repository=RepositoryConfig(path=(str(shelf.folder),))))
    assert not engine.started
    assert engine.not_ready().startswith("starting")
    engine.stop()


def test_without_models_it_is_started_and_not_ready(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with Shelf(tmp_path / "empty").engine() as engine:
        assert engine.started
        assert engine.not_ready().startswith("no models")


def test_one_broken_model_is_named_and_the_others_serve(shelf: Shelf):
    shelf.put("good", times(1))
    broken = shelf.put("broken", times(1))
    broken.write_bytes(b"no model")
    with shelf.engine() as engine:
        assert engine.started
        assert "broken" in engine.not_ready()
        assert ready(engine, "good") == [1]
        shelf.put("broken", times(1))
        engine.refresh()
        assert engine.not_ready() == ""


def test_what_fails_later_never_makes_it_unready(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine() as engine:
        assert engine.not_ready() == ""
        shelf.put("m", times(2), 2).write_bytes(b"no model")
        shelf.put("late", times(2), 1).write_bytes(b"no model")
        engine.refresh()
        assert engine.not_ready() == ""


def test_a_configured_model_that_is_nowhere_keeps_it_unready(shelf: Shelf):
    shelf.put("m", times(1))
    with shelf.engine(ModelConfig(name="missing")) as engine:
        assert "missing" in engine.not_ready()


def test_a_loader_that_breaks_costs_its_own_model_only(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    shelf.put("a", times(1))
    shelf.put("z", times(1))
    backend_for = load.backend_for

    def breaking(path: Path) -> Any:
        if "/a/" in str(path):
            raise OSError("the disk is on fire")
        return backend_for(path)

    monkeypatch.setattr(load, "backend_for", breaking)
    with shelf.engine() as engine:
        assert engine.started
        assert ready(engine, "z") == [1]
        assert "a" in engine.not_ready()
