"""Every small model with what onnxruntime's backend must find out about it; each loaded once."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T

from fastserve.backends.base import LoadedModel, LoadOptions, Runner
from fastserve.backends.ort import OrtBackend
from fastserve.backends.runners import BoundRunner, FixedRunner, PlainRunner
from fastserve.types import DType, Tensor
from tests.support import models

Builder = Callable[[], onnx.ModelProto]

BATCHED: dict[str, tuple[Builder, type]] = {
    "tiny": (models.tiny, BoundRunner),
    "mlp": (models.mlp, BoundRunner),
    "two_inputs": (models.two_inputs, BoundRunner),
    "mixed_types": (models.mixed_types, BoundRunner),
    "strings": (models.strings, PlainRunner),
    "label_encoder": (models.label_encoder, PlainRunner),
    "free_rows": (models.free_rows, BoundRunner),
    "anonymous_rows": (models.anonymous_rows, PlainRunner),
    "free_width": (models.free_width, BoundRunner),
    "wrongly_declared": (models.wrongly_declared, PlainRunner),
    "lookup": (models.lookup, BoundRunner),
    "pairs": (models.pairs, PlainRunner),
    "ranks": (models.ranks, PlainRunner),
    "zipmap": (models.zipmap, BoundRunner),
    "encoder": (models.encoder, BoundRunner),
    **{f"identity_{dtype.name}": (partial(models.identity, dtype), BoundRunner) for dtype in DType},
    "identity_STRING": (lambda: models.identity(T.STRING), PlainRunner),
}

ALONE: dict[str, tuple[Builder, str, type]] = {
    "scalar_parameter": (models.scalar_parameter, 'input "k" is a scalar', PlainRunner),
    "recurrent": (models.recurrent, 'input "h0" carries its batch on another axis', PlainRunner),
    "recurrent_unnamed": (lambda: models.recurrent(False), 'first axis of input "h0" is fixed at 1', PlainRunner),
    "fixed_first_axis": (models.fixed_first_axis, 'first axis of input "x" is fixed at 1', FixedRunner),
    "fixed_at_4": (lambda: models.fixed_first_axis(4), 'first axis of input "x" is fixed at 4', FixedRunner),
    "scalar": (lambda: models.identity(T.FLOAT, ()), 'input "x" is a scalar', FixedRunner),
    "batch_mean": (models.batch_mean, 'output "mean" does not follow the batch', PlainRunner),
    "differing_outputs": (models.differing_outputs, 'output "total" does not follow the batch', PlainRunner),
    "scalar_output": (models.scalar_output, 'output "sum" does not follow the batch', PlainRunner),
    "softmax_over_rows": (models.softmax_over_rows, "rows influence each other", PlainRunner),
    "running_sum": (models.running_sum, "rows influence each other", PlainRunner),
    "batch_scaled": (models.batch_scaled, "rows influence each other", PlainRunner),
    "square": (models.square, 'input "x" has as many columns as rows', PlainRunner),
    "unknown_rank": (models.unknown_rank, 'the rank of input "x" is not declared', PlainRunner),
    "noise": (models.noise, "the same input is answered differently from run to run", PlainRunner),
    "no_width": (models.no_width, "no inputs were found that differ from row to row", PlainRunner),
}

BUILDERS: dict[str, Builder] = {name: row[0] for name, row in (BATCHED | ALONE).items()}


@cache
def loaded(name: str) -> LoadedModel:
    return load(BUILDERS[name](), Path(mkdtemp()))


@cache
def runner(name: str) -> Runner:
    return loaded(name).runner()


def load(model: onnx.ModelProto, folder: Path, **options: Any) -> LoadedModel:
    return OrtBackend().load(models.save(model, folder), LoadOptions(**options))


def rows_of(name: str, rows: int, seed: int) -> dict[str, Tensor]:
    """Valid inputs with that many rows: the example's, in an order that every seed decides anew."""
    example = loaded(name).example(3)
    assert example is not None
    order = np.random.default_rng(seed).integers(0, 3, rows)
    return {key: np.ascontiguousarray(array[order]) for key, array in example.items()}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(got[name], array)
