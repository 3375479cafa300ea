"""A repository on disk, an engine over it, and requests under way."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto as T

from fastserve.config import Config, ModelConfig, RepositoryConfig
from fastserve.engine.engine import Engine
from fastserve.engine.lease import Lease
from fastserve.errors import FastServeError
from fastserve.types import InferRequest, InferResult, Tensor, VersionState
from tests.support import models
from tests.support.waiting import WITHIN_S

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


def steps(*counts: int) -> dict[str, Tensor]:
    return {"steps": np.array(counts, dtype=np.int64)}


def index(*rows: int) -> dict[str, Tensor]:
    return {"index": np.array(rows, dtype=np.int64)}


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
