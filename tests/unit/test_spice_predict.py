"""Predictions from datasets over a real engine, and over one that has no room: each is told once, whatever happens."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto as T

from fastserve.config import Config, DatasetConfig, ModelConfig, RepositoryConfig
from fastserve.datasets.mapping import ROWS_AT_A_TIME
from fastserve.datasets.table import Table, columns_of
from fastserve.engine.engine import Engine
from fastserve.errors import DeadlineExceeded, FastServeError, ModelNotReady, QueueFull
from fastserve.metrics import rendered
from fastserve.protocols.spice import answers
from fastserve.protocols.spice.answers import Prediction
from fastserve.protocols.spice.predict import Budget, Item, Several
from fastserve.types import Batching, DType, InferRequest, InferResult, Signature, TensorSpec, Timing
from tests.support import models, slow_models
from tests.support.graphs import node, tensor
from tests.support.waiting import WITHIN_S, until


def patient() -> Any:
    """The slow model, with an answer of floats."""
    model = slow_models.patient()
    model.graph.node.append(node("Cast", "done", "y", to=T.FLOAT))
    model.graph.output[0].CopyFrom(tensor("y", ["N"]))
    return model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("spice")
    models.save(patient(), folder / "models" / "slow" / "1")
    (folder / "d.csv").write_text("steps\n5\n")
    (folder / "long.csv").write_text("steps\n100000000\n")
    datasets = tuple(
        DatasetConfig(name=name, source=f"file:{folder}/{name}.csv", refresh_seconds=3600) for name in ("d", "long")
    )
    models.save(patient(), folder / "models" / "endless" / "1")
    configured = (ModelConfig(name="slow", dataset="d"), ModelConfig(name="endless", dataset="long"))
    repository = RepositoryConfig(path=(str(folder / "models"),), poll_seconds=0)
    made = Engine(Config(repository=repository, models=configured, datasets=datasets))
    made.start()
    made.refresh()
    until(lambda: all(one.state == "Ready" for one in made.datasets.statuses()))
    yield made
    made.stop()


def predicted(engine: Any, model: str, deadline_ns: int = 0, budget: Budget | None = None) -> Prediction:
    told: SimpleQueue[Prediction] = SimpleQueue()
    Item(engine, model, deadline_ns, budget or Budget(), told.put).start()
    found = told.get(timeout=WITHIN_S)
    assert told.empty(), "it was told twice"
    return found


def runs(engine: Engine) -> float:
    """Of the slow model, so far."""
    lines = rendered(engine.metrics.snapshot()).decode().splitlines()
    (count,) = (line for line in lines if line.startswith("fastserve_batch_rows_count") and 'model="slow"' in line)
    return float(count.split()[-1])


def test_items_of_a_long_model_are_under_way_at_the_same_time(engine: Engine):
    told: SimpleQueue[tuple[list[Prediction], int]] = SimpleQueue()
    before = runs(engine)
    Several(engine, ["slow"] * 40, 0, lambda *found: told.put(found)).start()
    predictions, _ = told.get(timeout=WITHIN_S)
    assert [one.values[0].tolist() for one in predictions] == [[5.0]] * 40
    assert runs(engine) - before < 40  # one after the other they would be as many


def test_more_items_than_at_a_time_are_all_answered_in_order(engine: Engine):
    told: SimpleQueue[list[Prediction]] = SimpleQueue()
    names = ["slow" if at % 3 else f"gone {at}" for at in range(200)]
    Several(engine, names, 0, lambda found, _: told.put(found)).start()
    found = told.get(timeout=WITHIN_S)
    assert [one.model_name for one in found] == names
    assert [one.status for one in found] == ["Success" if at % 3 else "BadRequest" for at in range(200)]


def test_one_that_is_given_up_is_told_once_and_leaves_the_queue(engine: Engine):
    told: SimpleQueue[Prediction] = SimpleQueue()
    items = [Item(engine, "slow", 0, Budget(), told.put) for _ in range(8)]
    for item in items:
        item.start()
        item.cancel()
    found = [told.get(timeout=WITHIN_S) for _ in items]
    assert {one.error_message for one in found} <= {"Unable to run model: the client went away", None}
    until(lambda: engine.lease("slow").batcher.queued_rows == 0)
    assert told.empty()


def test_time_that_is_over_is_told_by_its_own_status(engine: Engine):
    found = predicted(engine, "slow", deadline_ns=1)
    assert isinstance(found.error, DeadlineExceeded)
    assert answers.encode_one(found).status == 504


def test_an_answer_has_a_bound(engine: Engine):
    found = predicted(engine, "slow", budget=Budget(0))
    assert found.status == "InternalError"
    assert "the answer would hold more than" in str(found.error_message)


class FullEngine:
    """An engine that refuses the pieces it is told to; everything happens at once, on this thread."""

    def __init__(self, refuse: Callable[[int], bool], rows: int) -> None:
        self._refuse = refuse
        self._asked = 0
        self.started: list[int] = []
        found = Table(rows, columns_of({"x": np.arange(rows, dtype=np.float32)}))
        self.datasets = SimpleNamespace(use=lambda _, then: then(found))
        self.executor = SimpleNamespace(post=self._post)
        self._posted: list[Callable[[], None]] = []
        self._busy = False
        self.waits = 0

    def clock(self) -> int:
        return 0

    def _post(self, work: Callable[[], None]) -> None:
        self._posted.append(work)
        if not self._busy:
            self._busy = True
            while self._posted:
                self._posted.pop(0)()
            self._busy = False

    def at(self, _: int, callback: Callable[[int], None]) -> None:
        self.waits += 1
        callback(0)

    def lease(self, _: str) -> Any:
        signature = Signature((TensorSpec("x", DType.FLOAT, (-1,)),), (TensorSpec("y", DType.FLOAT, (-1,)),))
        config = ModelConfig(name="m", dataset="d")
        return SimpleNamespace(
            recording=None,
            signature=signature,
            config=config,
            codecs={},
            batching=Batching(True, ""),
            version=1,
            subject=("m", "1"),
        )

    def submit(self, _: Any, request: InferRequest, answer: Callable[[InferResult | FastServeError], None]) -> None:
        self._asked += 1
        if self._refuse(self._asked):
            raise QueueFull("the queue is full")
        self.started.append(int(request.inputs["x"][0]))
        answer(InferResult("m", 1, {"y": request.inputs["x"]}, Timing()))


def test_a_later_piece_waits_for_room():
    rows = 3 * ROWS_AT_A_TIME + 1
    full = FullEngine(lambda asked: asked in (2, 3, 5), rows)
    found = predicted(full, "m")
    assert found.status == "Success"
    assert np.concatenate(found.values).tolist() == list(range(rows))
    assert full.started == [0, ROWS_AT_A_TIME, 2 * ROWS_AT_A_TIME, 3 * ROWS_AT_A_TIME]
    assert full.waits == 3


def test_the_first_piece_is_refused_where_there_is_no_room():
    found = predicted(FullEngine(lambda _: True, 10), "m")
    answer = answers.encode_one(found)
    assert answer.status == 429
    assert ("retry-after", "1") in answer.headers
    assert json.loads(answer.body)["status"] == "InternalError"


def test_a_fault_of_ours_is_told_and_logged(caplog: pytest.LogCaptureFixture):
    broken = FullEngine(lambda _: bool(1 / 0), 10)
    found = predicted(broken, "m")
    assert found.error_message == "Unable to run model: internal error; the server's log says more"
    assert "ZeroDivisionError" in caplog.text


def test_what_a_version_is_called_before_it_is_there():
    statuses: list[Any] = []

    def lease(_: str) -> Any:
        raise ModelNotReady("not yet")

    known = ModelConfig(name="m", version_name="")
    waiting = SimpleNamespace(clock=lambda: 0, lease=lease, config_of=lambda _: known, status=lambda _: statuses)
    assert predicted(waiting, "m").model_version == "1.0"
    statuses.append(SimpleNamespace(version=7))
    assert predicted(waiting, "m").model_version == "7"
    known = ModelConfig(name="m", version_name="v2")
    assert predicted(waiting, "m").model_version == "v2"


@given(st.lists(arrays(np.float32, st.integers(0, 30)), max_size=4).map(tuple))
def test_numbers_are_short_and_exact_and_null_where_they_are_none(values: tuple[Any, ...]):
    text = answers.encoded(Prediction("Success", "m", 3, "1", values))
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["prediction"]
    flat = [value for array in values for value in array]
    assert len(found) == len(flat)
    for got, value in zip(found, flat, strict=True):
        assert (got is None) == (not np.isfinite(value))
        assert got is None or np.float32(got).tobytes() == value.tobytes()


@given(st.text(), st.none() | st.text())
def test_any_name_is_written(name: str, message: str | None):
    text = answers.encoded(Prediction("BadRequest", name, 0, error_message=message))
    found = json.loads(text)
    printable = name.encode("utf-8", "backslashreplace").decode()
    assert found == {
        "status": "BadRequest",
        **({} if message is None else {"error_message": message.encode("utf-8", "backslashreplace").decode()}),
        "model_name": printable,
        "duration_ms": 0,
    }


def test_check_says_which_columns_do_not_fit(tmp_path: Path):
    from fastserve.cli.check import inspect

    models.save(models.tiny(), tmp_path / "models" / "m" / "1")
    (tmp_path / "d.csv").write_text("a\n1\n")
    config = Config(
        repository=RepositoryConfig(path=(str(tmp_path / "models"),)),
        models=(ModelConfig(name="m", dataset="d"),),
        datasets=(DatasetConfig(name="d", source=f"file:{tmp_path}/d.csv"),),
    )
    (finding,) = inspect(config).findings
    assert not finding.ok
    assert finding.reason.startswith('dataset d: expected 4 columns for the input "x", got 1: a')
