"""Which requests are traced, and what a trace says of one that failed."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from fastserve.errors import RunFailed
from fastserve.protocols.oip.trace_settings import Sampling
from fastserve.protocols.oip.tracing import Sampler, Tracing
from fastserve.types import DType, InferRequest, InferResult, Signature, TensorSpec, Timing
from tests.support.fake_engine import FakeLease

X = TensorSpec("x", DType.FLOAT, (-1,))


class SettableEngine:
    """An engine of one model whose settings a test writes."""

    def __init__(self) -> None:
        self.areas: dict[str, dict[str, Any]] = {}
        self.now_ns = 100
        self.follow: Callable[[], None] = lambda: None

    def clock(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def when_changed(self, call: Callable[[], None]) -> None:
        self.follow = call

    def settings(self, area: str) -> Mapping[str, Any]:
        return self.areas.get(area, {})

    def models(self) -> list[str]:
        return ["m"]


@pytest.fixture
def engine() -> SettableEngine:
    return SettableEngine()


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    logger = logging.getLogger("fastserve.protocols.oip.tracing")
    kept = Kept()
    logger.addHandler(kept)
    logger.setLevel("INFO")
    yield lambda: [json.loads(message.removeprefix("trace ")) for message in kept.messages]
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(kept)


def asked(tracing: Tracing, outcome: Any, model: str = "m") -> list[Any]:
    lease: Any = FakeLease(model, 3, Signature((X,), (X,)), lambda inputs: inputs)
    request = InferRequest({"x": np.zeros(2, np.float32)}, None, "id", received_ns=50)
    answers: list[Any] = []
    tracing.traced(lease, request, answers.append)(outcome)
    return answers


@pytest.mark.parametrize(
    ("rate", "count", "taken"), [(1, -1, 12), (5, -1, 2), (1, 3, 3), (4, 2, 2), (100, -1, 0), (1, 0, 0)]
)
def test_every_so_many_requests_and_no_more_than_asked(rate: int, count: int, taken: int):
    sampler = Sampler(Sampling(rate, count, False))
    assert sum(sampler.takes() for _ in range(12)) == taken


def test_nothing_is_active_until_it_is_asked_for(engine: SettableEngine):
    tracing = Tracing(engine)  # type: ignore[arg-type]
    engine.follow()
    assert not tracing.active
    engine.areas["trace"] = {"trace_level": ["TIMESTAMPS"]}
    engine.follow()
    assert tracing.active
    engine.areas["trace/m"] = {"trace_level": ["OFF"]}
    engine.follow()
    assert not tracing.active


def test_counts_go_on_where_nothing_changes(engine: SettableEngine, lines: Callable[[], list[dict[str, Any]]]):
    tracing = Tracing(engine)  # type: ignore[arg-type]
    engine.areas["trace"] = {"trace_level": ["TIMESTAMPS"], "trace_rate": "2"}
    for _ in range(4):
        engine.follow()
        asked(tracing, InferResult("m", 3, {"x": np.zeros(2, np.float32)}, Timing()))
    assert len(lines()) == 2
    asked(tracing, RunFailed("x"), model="other")
    assert len(lines()) == 2


def test_what_failed_says_so(engine: SettableEngine, lines: Callable[[], list[dict[str, Any]]]):
    tracing = Tracing(engine)  # type: ignore[arg-type]
    engine.areas["trace"] = {"trace_level": ["TENSORS"], "trace_rate": "1"}
    engine.follow()
    error = RunFailed("secret")
    assert asked(tracing, error) == [error]
    (line,) = lines()
    assert line == {
        "model_name": "m",
        "model_version": 3,
        "request_id": "id",
        "timestamps": [
            {"name": "REQUEST_START", "ns": 50},
            {"name": "QUEUE_START", "ns": 101},
            {"name": "REQUEST_END", "ns": 102},
        ],
        "error": "INTERNAL",
        "tensors": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    }
