"""Allowed batch sizes: padding changes no answer, no padded row reaches one, and runs have an allowed size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from fastserve.engine.padded import Padded, padded, with_allowed_sizes
from fastserve.errors import LoadFailed
from tests.support import models
from tests.support.shelf import Asked, Shelf, ask

SIZES = (2, 4, 8)


class Parts:
    """Doubles rows, and notes how many came; takes them where they lie, too."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.ended: list[str] = []

    def run(self, requests: list[dict[str, Any]], rows: list[int]) -> list[dict[str, Any]]:
        self.ran.append(sum(rows))
        return [{"y": 2 * request["x"]} for request in requests]

    def run_one(self, request: dict[str, Any], rows: int) -> dict[str, Any]:
        return self.run([request], [rows])[0]

    def run_parts(self, parts: list[Any], rows: int) -> Any:
        self.ran.append(rows)
        assert sum(map(len, parts)) == rows
        return (2 * np.concatenate(parts),) if rows != 4 else None

    def stop(self) -> None:
        self.ended.append("stop")

    def go_on(self) -> None:
        self.ended.append("go on")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_padded_rows_reach_no_answer(rows: list[int]) -> None:
    bare = Parts()
    runner: Any = padded(bare, SIZES)
    requests = [{"x": np.full((count, 2), i, np.float32)} for i, count in enumerate(rows)]
    answers = runner.run(requests, rows)
    assert [answer["y"].tolist() for answer in answers] == [(2 * request["x"]).tolist() for request in requests]
    total = sum(rows)
    assert bare.ran == [total if total in (0, *range(9, 99)) else next(size for size in SIZES if size >= total)]
    outputs = runner.run_parts([request["x"] for request in requests], total) if total else None
    if outputs is not None:
        assert outputs[0].tolist() == (2 * np.concatenate([request["x"] for request in requests])).tolist()


def test_one_request_is_padded_and_one_of_an_allowed_size_is_not() -> None:
    bare = Parts()
    runner = padded(bare, SIZES)
    for rows in (1, 4, 5, 0):
        assert len(runner.run_one({"x": np.ones((rows, 1), np.float32)}, rows)["y"]) == rows
    assert bare.ran == [2, 4, 8, 0]
    runner.stop()
    runner.go_on()
    assert bare.ended == ["stop", "go on"]
    assert padded(bare, ()) is bare


def test_allowed_sizes_bound_the_batch() -> None:
    config = with_allowed_sizes(ModelConfig(name="m", batch_sizes=(8, 2, 2, 100), max_batch_rows=64))
    assert (config.batch_sizes, config.max_batch_rows) == ((2, 8), 8)
    with pytest.raises(LoadFailed, match=r"expected one of at most max_batch_rows \(64\), got \[100\]"):
        with_allowed_sizes(ModelConfig(name="m", batch_sizes=(100,)))


def test_a_model_answers_the_same_with_padding_as_without(tmp_path: Path) -> None:
    """Through the engine, alone and together, on a model with matrix products."""
    shelf = Shelf(tmp_path)
    shelf.put("m", models.mlp())
    rand = np.random.default_rng(5)
    inputs = [rand.standard_normal((rows, 784)).astype(np.float32) for rows in (1, 3, 5, 2, 13, 40)]
    bare, full = (answers(shelf, inputs, sizes) for sizes in ((), (4, 8, 16)))
    for one, other in zip(bare, full, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def answers(shelf: Shelf, inputs: list[Any], sizes: tuple[int, ...]) -> list[Any]:
    with shelf.engine(ModelConfig(name="m", batch_sizes=sizes)) as engine:
        lease = engine.lease("m")
        assert isinstance(lease.batcher.short.runner, Padded) == bool(sizes)
        (name,), (output,) = lease.input_names, lease.output_names
        alone = [ask(engine, "m", {name: x}) for x in inputs]
        together: list[Asked] = []
        engine.gather(lambda: together.extend(ask(engine, "m", {name: x}) for x in inputs))
        return [one.outputs[output] for one in [*alone, *together]]
