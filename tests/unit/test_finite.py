"""Strict models: no NaN and no infinity goes in or out, and whoever sends none is not troubled by those who do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from fastserve.config import Config, ModelConfig, RepositoryConfig, ServerConfig
from fastserve.engine import finite
from fastserve.engine.engine import Engine
from fastserve.errors import ErrorCode, InvalidTensor, NonFiniteOutput, OutOfMemory
from fastserve.types import DType, InferResult, Tensor, TensorSpec, Timing
from tests.support import models
from tests.support.shelf import Shelf, ask

XS = models.tensor("x", ["N", 2])


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "models")
    shelf.put("same", models.identity(T.FLOAT))
    inverse = [models.node("Reciprocal", "x", "y"), models.node("Neg", "x", "n")]
    shelf.put("inverse", models.build(inverse, [XS], [models.tensor("y", ["N", 2]), models.tensor("n", ["N", 2])]))
    return shelf


def strict(name: str, **more: Any) -> ModelConfig:
    return ModelConfig(name=name, non_finite="error", **more)


def rows(*values: list[float]) -> dict[str, Tensor]:
    return {"x": np.array(values, np.float32)}


def test_what_goes_in_is_looked_at_whatever_it_came_in(shelf: Shelf):
    with shelf.engine(strict("same")) as engine:
        assert ask(engine, "same", rows([1, 2])).outputs["y"].tolist() == [[1, 2]]
        for bad, text in ((np.nan, "NaN"), (np.inf, "Infinity"), (-np.inf, "-Infinity")):
            with pytest.raises(InvalidTensor, match=rf"got {text} at \[1, 0\]") as refused:
                ask(engine, "same", rows([1, 2], [bad, 4]))
            assert refused.value.path == "x"


def test_what_comes_out_is_told_by_output_and_place(shelf: Shelf):
    with shelf.engine(strict("inverse")) as engine:
        outcome = ask(engine, "inverse", rows([1, 2], [4, 0])).outcome
        assert isinstance(outcome, NonFiniteOutput)
        assert outcome.code is ErrorCode.INTERNAL
        assert str(outcome).startswith('the model computed Infinity in output "y" at [1][1]')
        assert "non_finite" in str(outcome)
        assert ask(engine, "inverse", rows([4, 0]), outputs=("n",)).outputs["n"].tolist() == [[-4, 0]]


def test_others_of_the_same_batch_get_their_answers(shelf: Shelf):
    with shelf.engine(strict("inverse", max_queue_delay_us=20_000, max_batch_rows=3)) as engine:
        asked = [ask(engine, "inverse", rows([value, 1])) for value in (1, 0, 2)]
        assert asked[0].outputs["y"].tolist() == [[1, 1]]
        assert isinstance(asked[1].outcome, NonFiniteOutput)
        assert asked[2].outputs["y"].tolist() == [[0.5, 1]]


def test_errors_pass_as_they_are(shelf: Shelf):
    with shelf.engine(strict("same")) as engine, pytest.raises(InvalidTensor, match="shape"):
        ask(engine, "same", {"x": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize(
    ("server", "model", "is_strict"),
    [("token", None, False), ("error", None, True), ("error", "token", False), ("token", "error", True)],
)
def test_a_model_may_differ_from_its_server(shelf: Shelf, server: Any, model: Any, is_strict: bool):
    repository = RepositoryConfig(path=(str(shelf.folder),), poll_seconds=0)
    configured = ModelConfig(name="same", non_finite=model)
    engine = Engine(Config(server=ServerConfig(non_finite=server), repository=repository, models=(configured,)))
    engine.start()
    try:
        engine.refresh()
        assert engine.lease("same").strict == is_strict
        assert engine.lease("inverse").strict == (server == "error")
        if is_strict:
            with pytest.raises(InvalidTensor):
                ask(engine, "same", rows([np.nan, 1]))
        else:
            assert np.isnan(ask(engine, "same", rows([np.nan, 1])).outputs["y"]).any()
    finally:
        engine.stop()


def test_where_there_is_no_memory_to_look_it_is_said(monkeypatch: pytest.MonkeyPatch):
    """Nobody else would answer."""

    def no_memory(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(finite, "first_non_finite", no_memory)
    told: list[Any] = []
    result = InferResult("m", 1, {"y": np.zeros(1, np.float32)}, Timing())
    finite.answer_finite((TensorSpec("y", DType.FLOAT, (-1,)),), told.append, result)
    assert [type(one) for one in told] == [OutOfMemory]
