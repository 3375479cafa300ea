"""Tensors to JSON text, beside orjson's NumPy path, which writes the same digits: one group per tensor gives the ratios."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from bench.micro.goals import CONTENDER, OURS
from fastserve._ext import jsonwrite
from fastserve.types import DType, Tensor


def normal(*shape: int) -> Tensor:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def softmax(rows: int, classes: int) -> Tensor:
    powers = np.exp(normal(rows, classes) * 3)
    scaled: Tensor = powers / powers.sum(1, keepdims=True)
    return scaled


TENSORS = {
    "1x3 probabilities": np.array([[0.0123456, 0.22345, 0.7641944]], np.float32),
    "32x384 normal": normal(32, 384),
    "32x1000 softmax": softmax(32, 1000),
    "32x384 of 4 decimals": normal(32, 384).round(4),
    "32x384 float64": normal(32, 384).astype(np.float64) * 1.1,
    "10000 labels": np.random.default_rng(0).integers(0, 1000, 10_000),
}


DTYPES = {"f": DType.FLOAT, "d": DType.DOUBLE, "l": DType.INT64}


def fastserve(array: Tensor) -> bytes:
    return jsonwrite.tensor(b"", array, DTYPES[array.dtype.char], False, b"")


def orjson_numpy(array: Tensor) -> bytes:
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


WRITERS: dict[str, Callable[[Tensor], bytes]] = {OURS: fastserve, "orjson": orjson_numpy}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", TENSORS)
def test_tensor_to_json(benchmark: Any, name: str, writer: str) -> None:
    benchmark.group = f"tensor to JSON, {name}"
    benchmark.extra_info[CONTENDER] = writer
    array = TENSORS[name]
    written = benchmark(WRITERS[writer], array)
    assert np.array_equal(np.array(json.loads(written), array.dtype), array)


@pytest.mark.benchmark(group="answers to JSON")
def test_32_row_objects_to_json(benchmark: Callable[..., bytes]) -> None:
    columns = (np.array([["setosa"]] * 32, object), normal(32, 3))
    arguments = (b"", ("label", "probabilities"), columns, (DType.STRING, DType.FLOAT), (False, False), b"")
    written = benchmark(jsonwrite.row_objects, *arguments)
    assert len(json.loads(written)) == 32


@pytest.mark.benchmark(group="answers to JSON")
def test_1000_strings_to_json(benchmark: Callable[..., bytes]) -> None:
    strings = np.array([f"label {number} \u00e9" for number in range(1000)], object)
    written = benchmark(jsonwrite.tensor, b"", strings, DType.STRING, False, b"")
    assert json.loads(written) == strings.tolist()
