"""What one writes without a model server: FastAPI, orjson and onnxruntime, each as its own documentation shows it.

The models of the folder in BENCH_MODELS, at the paths that fastserve has them at, for the one thing that is measured here.
Thread: the event loop's; a run holds it up, as is usual where runs are short.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Model:
    """One file."""

    def __init__(self, file: Path) -> None:
        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        spec = self._session.get_inputs()[0]
        self._name, self._kind = spec.name, KINDS[spec.type]

    def predict(self, body: bytes) -> bytes:
        """Rows in, rows out, as JSON."""
        rows = np.array(orjson.loads(body)["instances"], dtype=self._kind)
        outputs = self._session.run(None, {self._name: rows})
        return orjson.dumps({"predictions": outputs[0]}, option=orjson.OPT_SERIALIZE_NUMPY)


models = {file.parents[1].name: Model(file) for file in Path(os.environ["BENCH_MODELS"]).glob("*/1/model.onnx")}
app = FastAPI()


@app.get("/readyz")
async def ready() -> str:
    """For whoever waits for it."""
    return "ready"


@app.post("/v1/models/{model}:predict")
async def predict(model: str, request: Request) -> Response:
    """TF Serving's body and answer."""
    return Response(models[model].predict(await request.body()), media_type="application/json")
