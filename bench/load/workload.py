"""What is asked: models, one body for each, and what the answer must be.

Memory: files in one temporary folder, which the servers and the generator read.
"""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime

from bench.load.servers import Server
from tests.support import models

TOLERANCE = 1e-4
"""Sums in another order differ in the last digits of a float32."""

MODELS = {"tiny": models.tiny, "mlp": models.mlp, "encoder": models.encoder, "cnn": models.cnn}
HTTP_OK = 200
DECIMALS = 8
"""As pixels divided by 255 come: 8.6 kB for 784 numbers, 1.6 MB for a 224x224x3 image."""


class Workload:
    """One model, one request for it (one row), and the answer that onnxruntime itself gives."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = f"/v1/models/{name}:predict"
        self.repository = folder / "models"
        self.model_file = self.repository / name / "1" / "model.onnx"
        self.body_file = folder / f"{name}.json"
        self.model_file.parent.mkdir(parents=True)
        onnx.save(MODELS[name](), self.model_file)
        self.row = _row(name)
        self.body = msgspec.json.encode({"instances": self.row.tolist()})
        self.body_file.write_bytes(self.body)
        session = onnxruntime.InferenceSession(self.model_file, providers=["CPUExecutionProvider"])
        spec = session.get_inputs()[0]
        feed = self.row.astype(np.int64 if spec.type == "tensor(int64)" else np.float32)
        self._expected = session.run(None, {spec.name: feed})[0]

    def check(self, server: Server, *, echoes: bool) -> None:
        """Ask once. Raises RuntimeError where the answer is not right."""
        status, answer = server.post(self.path, self.body)
        if status != HTTP_OK:
            raise RuntimeError(f"{server.name} answers {self.name} with {status}: {answer[:300]!r}")
        right = answer == self.body if echoes else self._is_right(answer)
        if not right:
            raise RuntimeError(f"{server.name} answers {self.name} wrongly: {answer[:300]!r}")

    def _is_right(self, answer: bytes) -> bool:
        predictions = np.array(msgspec.json.decode(answer)["predictions"], dtype=np.float32)
        expected = self._expected
        return predictions.shape == expected.shape and np.allclose(
            predictions, expected, rtol=TOLERANCE, atol=TOLERANCE
        )


def _row(name: str) -> np.ndarray:
    rand = np.random.default_rng(7)
    if name == "tiny":
        return np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
    if name == "mlp":
        return np.round(rand.random((1, 784)), DECIMALS)
    if name == "encoder":
        return rand.integers(0, 1000, (1, 32))
    return np.round(rand.random((1, 224, 224, 3)), DECIMALS)
