"""JSON to float32, beside pysimdjson and orjson with numpy: one group per body, one turn after another, gives the ratios."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import orjson
import pytest
import simdjson

from bench.micro.goals import CONTENDER, OURS
from fastserve._ext.tensorize import Cursor
from fastserve.types import DType, Tensor

BODIES = {
    "1x784": ((1, 784), 4),
    "1x224x224x3": ((1, 224, 224, 3), 4),
    "1x100000, all digits": ((1, 100_000), None),
}
TINY = b'{"instances": [[5.1,3.5,1.4,0.2]]}'
ROWS = b'{"instances": [' + b", ".join([b'{"age": 41, "income": 5.25, "city": "Oslo"}'] * 32) + b"]}"


@cache
def body(name: str) -> bytes:
    """Random floats as `json.dumps` writes them, with that many decimals."""
    shape, decimals = BODIES[name]
    values = np.random.default_rng(0).random(shape)
    return json.dumps((values if decimals is None else values.round(decimals)).tolist()).encode()


def fastserve(text: bytes) -> Tensor:
    return Cursor(text).tensor(DType.FLOAT, "$")


class Simdjson:
    """Its parser is used again, as its documentation advises; the buffer is flat and of doubles."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()

    def __call__(self, text: bytes) -> Tensor:
        document: Any = self.parser.parse(text)
        flat = np.frombuffer(document.as_buffer(of_type="d"), np.float64).astype(np.float32)
        del document  # the parser refuses the next text while one is held
        return flat


def orjson_numpy(text: bytes) -> Tensor:
    return np.array(orjson.loads(text), np.float32)


READERS: dict[str, Callable[[bytes], Tensor]] = {
    OURS: fastserve,
    "pysimdjson": Simdjson(),
    "orjson + numpy": orjson_numpy,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BODIES)
def test_json_to_float32(benchmark: Any, name: str, reader: str) -> None:
    benchmark.group = f"JSON to float32, {name}"
    benchmark.extra_info[CONTENDER] = reader
    text = body(name)
    array = benchmark(READERS[reader], text)
    np.testing.assert_allclose(array.ravel(), orjson_numpy(text).ravel(), rtol=1e-6)


def decode_tiny(text: bytes) -> Tensor:
    """What the codec asks of the cursor for a body with one plain input."""
    cursor = Cursor(text)
    cursor.kind()
    cursor.enter_object()
    cursor.next_key()
    cursor.first_item_kind()
    array = cursor.tensor(DType.FLOAT, "$.instances")
    cursor.next_key()
    return array


@pytest.mark.benchmark(group="JSON of a request")
def test_tiny_body(benchmark: Callable[..., Tensor]) -> None:
    assert benchmark(decode_tiny, TINY).shape == (1, 4)


def decode_rows(text: bytes) -> dict[str, Tensor]:
    cursor = Cursor(text)
    cursor.enter_object()
    cursor.next_key()
    return cursor.rows(("age", "income", "city"), (DType.INT64, DType.FLOAT, DType.STRING), "$.instances")


@pytest.mark.benchmark(group="JSON of a request")
def test_32_row_objects(benchmark: Callable[..., dict[str, Tensor]]) -> None:
    assert {array.shape for array in benchmark(decode_rows, ROWS).values()} == {(32,)}


@pytest.mark.benchmark(group="JSON of a request")
def test_skip_of_a_megabyte(benchmark: Callable[..., None]) -> None:
    text = body("1x224x224x3")
    benchmark(lambda: Cursor(text).skip())
