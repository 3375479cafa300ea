"""What a run costs: onnxruntime's own calls beside the runner's, which also gathers inputs and owns its outputs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from fastserve.backends.base import LoadedModel, LoadOptions
from fastserve.backends.runners import PlainRunner
from fastserve.backends.table import backend_for
from fastserve.types import Tensor
from tests.support import models

MODELS = {
    "tiny": models.tiny,
    "mlp": models.mlp,
    "encoder": models.encoder,
    "cnn": models.cnn,
    "label_encoder": models.label_encoder,
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LoadedModel]]:
    ready: dict[str, LoadedModel] = {}

    def load(name: str) -> LoadedModel:
        if name not in ready:
            path = models.save(MODELS[name](), tmp_path_factory.mktemp(name))
            ready[name] = backend_for(path).load(path, LoadOptions())
        return ready[name]

    yield load
    for model in ready.values():
        model.close()


def example(model: LoadedModel, rows: int) -> dict[str, Tensor]:
    inputs = model.example(rows)
    assert inputs is not None
    return inputs


def session(model: onnx.ModelProto) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


@pytest.mark.benchmark(group="run: tiny, 1 row")
def test_onnxruntime_bound(benchmark: Any) -> None:
    raw = session(models.tiny())
    x, y = np.ones((1, 4), dtype=np.float32), np.zeros((1, 3), dtype=np.float32)
    binding = raw.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    benchmark(raw._sess.run_with_iobinding, binding._iobinding, onnxruntime.RunOptions())


@pytest.mark.benchmark(group="run: tiny, 1 row")
def test_onnxruntime_plain(benchmark: Any) -> None:
    benchmark(session(models.tiny()).run, ["y"], {"x": np.ones((1, 4), dtype=np.float32)})


@pytest.mark.benchmark(group="run: tiny, 1 row")
def test_runner(benchmark: Any, loaded: Callable[[str], LoadedModel]) -> None:
    model = loaded("tiny")
    benchmark(model.runner().run_one, example(model, 1), 1)


@pytest.mark.benchmark(group="run: tiny, requests of 1 row")
@pytest.mark.parametrize("requests", [1, 8, 64])
def test_coalesced(benchmark: Any, loaded: Callable[[str], LoadedModel], requests: int) -> None:
    model = loaded("tiny")
    benchmark(model.runner().run, [example(model, 1) for _ in range(requests)], [1] * requests)


@pytest.mark.benchmark(group="run: other models")
@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("name", ["mlp", "label_encoder", "encoder", "cnn"])
def test_models(benchmark: Any, loaded: Callable[[str], LoadedModel], name: str, rows: int) -> None:
    model = loaded(name)
    benchmark(model.runner().run_one, example(model, rows), rows)


def at_odd_address(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a tensor lies in a binary body behind JSON of any length: a run copies it first."""
    return {
        name: np.ndarray(array.shape, array.dtype, b"x" + array.tobytes(), offset=1) for name, array in inputs.items()
    }


@pytest.mark.benchmark(group="run: where a large request lies (IN_PLACE_BYTES)")
@pytest.mark.parametrize("kilobytes", [32, 128, 512])
@pytest.mark.parametrize("way", ["bound", "in place", "in place, from an odd address"])
def test_large_requests(benchmark: Any, tmp_path: Path, way: str, kilobytes: int) -> None:
    model = models.build(
        [models.node("ReduceSum", "x axes", "y", keepdims=1)],
        [models.tensor("x", ["N", kilobytes << 8])],
        [models.tensor("y", ["N", 1])],
        [models.weight("axes", np.array([1]))],
    )
    path = models.save(model, tmp_path)
    ready = backend_for(path).load(path, LoadOptions())
    runner: Any = ready.runner()
    if way != "bound":
        runner = PlainRunner(runner._session, batchable=True)
        benchmark(runner.run_one, example(ready, 1) if way == "in place" else at_odd_address(example(ready, 1)), 1)
    else:
        # An empty second request makes it a batch, and a batch is always bound.
        benchmark(runner.run, [example(ready, 1), example(ready, 0)], [1, 0])


@pytest.mark.benchmark(group="load: MLP 784")
def test_load(benchmark: Any, tmp_path: Path) -> None:
    """Read, check, open and probe."""
    path = models.save(models.mlp(), tmp_path)
    benchmark(lambda: backend_for(path).load(path, LoadOptions()))
