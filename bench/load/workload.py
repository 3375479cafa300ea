"""What is asked: models, one body for each, and what the answer must be.

Memory: files in one temporary folder, which the servers and the generator read.
"""

from collections.abc import Callable, Mapping
from http.client import HTTPMessage
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
from msgspec import Struct

from bench.load.servers import Driven
from tests.support import models

TOLERANCE = 1e-4
"""Sums in another order differ in the last digits of a float32."""


LENGTH_HEADER = "Inference-Header-Content-Length"
HTTP_OK = 200
DECIMALS = 8
"""As pixels divided by 255 come: 8.6 kB for 784 numbers, 1.6 MB for a 224x224x3 image."""


def wide() -> onnx.ModelProto:
    """`x` [N, 100000] -> `y` [N, 1], the row's sum: nearly all of its time is the tensor's way there."""
    return models.build(
        [models.node("ReduceSum", "x axes", "y", keepdims=1)],
        [models.tensor("x", ["N", 100_000])],
        [models.tensor("y", ["N", 1])],
        [models.weight("axes", np.array([1], dtype=np.int64))],
    )


MODELS = {
    "tiny": models.tiny,
    "mlp": models.mlp,
    "encoder": models.encoder,
    "cnn": models.cnn,
    "cnn10": lambda: models.cnn(48),  # about 10 ms a row
    "wide": wide,
}


class Sent(Struct, frozen=True):
    """One request: where to, with which headers, what."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def _tfserving(model: str, _: str, row: np.ndarray) -> Sent:
    return Sent(f"/v1/models/{model}:predict", {}, msgspec.json.encode({"instances": row.tolist()}))


def _v2_json(model: str, name: str, row: np.ndarray) -> Sent:
    entry = {"name": name, "shape": row.shape, "datatype": "FP32", "data": row.reshape(-1).tolist()}
    return Sent(f"/v2/models/{model}/infer", {}, msgspec.json.encode({"inputs": [entry]}))


def _v2_binary(model: str, name: str, row: np.ndarray) -> Sent:
    """As Triton's own clients send it: nothing makes the tensor start at a multiple of four."""
    tensor = row.astype(np.float32).tobytes()
    entry = {"name": name, "shape": row.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(tensor)}}
    head = msgspec.json.encode({"inputs": [entry], "parameters": {"binary_data_output": True}})
    return Sent(f"/v2/models/{model}/infer", {LENGTH_HEADER: str(len(head))}, head + tensor)


def _tfserving_answer(answer: bytes, _: int) -> np.ndarray:
    return np.array(msgspec.json.decode(answer)["predictions"], dtype=np.float32)


def _v2_answer(answer: bytes, json_bytes: int) -> np.ndarray:
    (output,) = msgspec.json.decode(answer[:json_bytes])["outputs"]
    numbers = output.get("data") or np.frombuffer(answer[json_bytes:], np.float32)
    return np.array(numbers, dtype=np.float32).reshape(output["shape"])


Send = Callable[[str, str, np.ndarray], Sent]
Read = Callable[[bytes, int], np.ndarray]

WORKLOADS: dict[str, tuple[str, Send, Read]] = {
    **{model: (model, _tfserving, _tfserving_answer) for model in ("tiny", "mlp", "encoder", "cnn", "wide")},
    "tiny, v2 binary": ("tiny", _v2_binary, _v2_answer),
    "mlp, v2 binary": ("mlp", _v2_binary, _v2_answer),
    "mlp, v2 JSON": ("mlp", _v2_json, _v2_answer),
    "wide, v2 binary": ("wide", _v2_binary, _v2_answer),
    "cnn, v2 binary": ("cnn", _v2_binary, _v2_answer),
    "cnn10": ("cnn10", _tfserving, _tfserving_answer),
    "cnn10, v2 binary": ("cnn10", _v2_binary, _v2_answer),
}
"""Model, how it is asked, and how its answer is read."""


class Workload:
    """One model, one request for it (one row), and the answer that onnxruntime itself gives."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.model, send, self._read = WORKLOADS[name]
        self.repository = folder / "models"
        self.model_file = self.repository / self.model / "1" / "model.onnx"
        if not self.model_file.exists():
            self.model_file.parent.mkdir(parents=True)
            onnx.save(MODELS[self.model](), self.model_file)
        session = onnxruntime.InferenceSession(self.model_file, providers=["CPUExecutionProvider"])
        spec = session.get_inputs()[0]
        self.row = _row(self.model)
        sent = send(self.model, spec.name, self.row)
        self.path, self.headers, self.body = sent.path, sent.headers, sent.body
        self.body_file = folder / f"{name}.body"
        self.body_file.write_bytes(self.body)
        feed = self.row.astype(np.int64 if spec.type == "tensor(int64)" else np.float32)
        self._expected = session.run(None, {spec.name: feed})[0]

    def check(self, server: Driven, expected: bytes | None = None) -> None:
        """Ask once. Raises RuntimeError where the answer is not `expected`, or, without that, not what the model says."""
        status, headers, answer = server.post(self.path, self.body, self.headers)
        if status != HTTP_OK:
            raise RuntimeError(f"{server.name} answers {self.name} with {status}: {answer[:300]!r}")
        if not (self._is_right(answer, headers) if expected is None else answer == expected):
            raise RuntimeError(f"{server.name} answers {self.name} wrongly: {answer[:300]!r}")

    def _is_right(self, answer: bytes, headers: HTTPMessage) -> bool:
        given = self._read(answer, int(headers.get(LENGTH_HEADER) or len(answer)))
        expected = self._expected
        return given.shape == expected.shape and np.allclose(given, expected, rtol=TOLERANCE, atol=TOLERANCE)


LOG_RECORD = "log record"


class LogRecord(Workload):
    """A record of 650 bytes for the prediction log, as a client sends it."""

    def __init__(self, folder: Path) -> None:
        """The models are those of another workload: they are served beside it, and not asked."""
        self.name = LOG_RECORD
        self.repository = folder / "models"
        self.path, self.headers, self.body = "/v1/log", {}, log_record()
        self.body_file = folder / "log-record.body"
        self.body_file.write_bytes(self.body)

    def _is_right(self, answer: bytes, _: HTTPMessage) -> bool:
        return answer == b"{}"


def log_record() -> bytes:
    """Fourteen features, a score and a tag."""
    features = {f"feature_{i:02}": {"double": 1.25 + i} if i % 3 else {"string": f"value{i}"} for i in range(14)}
    prediction = {
        "model_version": "1",
        "prediction_label": {"score_categorical": {"score_category": {"category": "yes", "score": 0.75}}},
        "features": features,
        "tags": {"region": {"string": "eu"}},
    }
    record = {"model_id": "m", "prediction_id": "0123456789abcdef", "prediction": prediction}
    return msgspec.json.encode(record)


def _row(model: str) -> np.ndarray:
    rand = np.random.default_rng(7)
    if model == "tiny":
        return np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
    if model == "encoder":
        return rand.integers(0, 1000, (1, 32))
    shapes = {"mlp": (1, 784), "cnn": (1, 224, 224, 3), "cnn10": (1, 224, 224, 3), "wide": (1, 100_000)}
    return np.round(rand.random(shapes[model]), DECIMALS)
