"""The engine with real models: any mix of requests at a time gets the answers that each gets alone."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T

from fastserve.config import ModelConfig
from fastserve.engine.engine import Engine
from fastserve.errors import Cancelled, FastServeError, InvalidTensor
from fastserve.types import InferResult, Tensor
from tests.support import models
from tests.support.shelf import Asked, Shelf, ask, index
from tests.support.waiting import WITHIN_S


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


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


def test_requests_that_wait_for_each_other_ride_in_one_batch(shelf: Shelf):
    shelf.put("m", models.identity(T.INT64, ("N", 2)))
    patient = ModelConfig(name="m", max_queue_delay_us=10_000_000, max_batch_rows=6)  # the batch goes when it is full
    with shelf.engine(patient) as engine:
        asked = [ask(engine, "m", {"x": np.full((1, 2), i, np.int64)}) for i in range(6)]
        outcomes = [one.outcome for one in asked]
    assert [outcome.timing.batch_rows for outcome in outcomes if isinstance(outcome, InferResult)] == [6] * 6
    assert [one.outputs["y"].tolist() for one in asked] == [[[i, i]] for i in range(6)]


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
