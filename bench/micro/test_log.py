"""What a record of the prediction log costs on a door's thread, and what it costs an answer to be recorded."""

import json
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastserve.engine.own_rows import Shown
from fastserve.engine.recording import Recorder, Recording
from fastserve.http.message import Response
from fastserve.http.recorded import recorded
from fastserve.metrics import Metrics
from fastserve.protocols.arize import rules
from fastserve.protocols.arize.frame import Head, pack
from fastserve.protocols.arize.record import any_json, of_json, read_record
from fastserve.protocols.arize.rows import rows_of
from fastserve.protocols.arize.rules import Limits
from fastserve.types import DType, InferRequest, InferResult, Signature, TensorSpec, Timing

FEATURES = {
    **{f"feature_{i}": {"double": 0.123456 * i} for i in range(8)},
    **{f"count_{i}": {"int": str(7 * i)} for i in range(4)},
    **{f"name_{i}": {"string": "value"} for i in range(3)},
}
RECORD = {
    "model_id": "m",
    "prediction_id": "ef00f52c-d6d4-4e48-84cd-70166b3f423f",
    "prediction": {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "prediction_label": {"score_categorical": {"score_category": {"category": "fraud", "score": 0.93}}},
        "features": FEATURES,
    },
    "environment_params": {"production": {}},
}
BODY = json.dumps(RECORD, separators=(",", ":")).encode()
GROUP = f"a record of {len(BODY)} bytes, {len(FEATURES)} features"


def test_as_most_clients_send_it(benchmark: Any) -> None:
    benchmark.group = GROUP
    limits, head = Limits(), Head("space")

    def take() -> bytes:
        record = read_record(BODY)
        rules.check(record, time.time_ns(), limits)
        return pack(head, BODY)

    assert benchmark(take).endswith(BODY)


def test_by_tables(benchmark: Any) -> None:
    """As it is read in camelCase, or where something is wrong."""
    benchmark.group = GROUP
    limits = Limits()
    benchmark(lambda: rules.check(of_json(any_json(BODY), "$"), time.time_ns(), limits))


def test_as_rows(benchmark: Any) -> None:
    """Once it is compacted, or asked for before."""
    benchmark.group = GROUP
    assert benchmark(lambda: list(rows_of(read_record(BODY), Head(), 1, 1)))


def test_an_answer_that_is_recorded(benchmark: Any) -> None:
    benchmark.group = "an answer's recording"
    log: Any = SimpleNamespace(append=lambda _frames, done, _rows: done(None))
    recorder = Recorder(log, Metrics())
    signature = Signature((TensorSpec("x", DType.FLOAT, (-1, 4)),), (TensorSpec("y", DType.FLOAT, (-1, 3)),))
    recording = Recording(recorder, Shown("m", "1", signature, True, (), ()), 1.0)
    x, response = np.ones((1, 4), np.float32), Response(200, [("content-type", "application/json")], b"{}")
    result = InferResult("m", 1, {"y": np.ones((1, 3), np.float32)}, Timing())

    def answer() -> Response:
        return recorded(recording, InferRequest({"x": x}), {}, lambda _: response)(result)

    assert benchmark(answer).status == 200
    recorder.close()
